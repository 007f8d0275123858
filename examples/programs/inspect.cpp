// SPDX-License-Identifier: Apache-2.0
// inspect FILE|DIR: one JSON line per tensor of a safetensors file or a checkpoint folder, in file
// order: {"name", "dtype", "shape", "sha256"}, the hash being that of the raw bytes.
// A folder's files come sorted by name; an index, if there is one, says which they are.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <openssl/evp.h>
#include <deepseek/io/checkpoint_files.hpp>
#include <deepseek/io/safetensors.hpp>

#include "program.hpp"

namespace {

namespace ds = deepseek;

std::string hexadecimal(std::span<const unsigned char> bytes) {
  std::string text;
  for (unsigned byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

// Of one tensor's bytes, read piece by piece so that its size does not matter.
std::string sha256(const ds::safetensors_file& file, const ds::tensor_entry& entry) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> state(EVP_MD_CTX_new(),
                                                                      &EVP_MD_CTX_free);
  bool good = state && EVP_DigestInit_ex(state.get(), EVP_sha256(), nullptr) == 1;
  std::vector<std::byte> piece(std::min<std::uint64_t>(entry.bytes(), std::size_t{1} << 20));
  for (std::uint64_t at = 0; at < entry.bytes(); at += piece.size()) {
    const std::size_t n =
        static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), entry.bytes() - at));
    file.read_part(entry, at, std::span(piece).first(n));
    good = good && EVP_DigestUpdate(state.get(), piece.data(), n) == 1;
  }
  std::array<unsigned char, 32> digest{};
  good = good && EVP_DigestFinal_ex(state.get(), digest.data(), nullptr) == 1;
  ds::require(good, ds::error_code::unsupported,
              "sha256: this OpenSSL refuses it; allow the algorithm");
  return hexadecimal(digest);
}

void inspect(const std::filesystem::path& path) {
  std::vector<ds::safetensors_file> files;
  if (std::filesystem::is_directory(path)) {
    files = ds::open_checkpoint(path);
  } else {
    files.emplace_back(path);
  }
  for (const auto& file : files) {
    for (const auto& entry : file.tensors()) {
      const nlohmann::ordered_json line{{"name", entry.name},
                                        {"dtype", ds::to_string(entry.dtype)},
                                        {"shape", entry.shape},
                                        {"sha256", sha256(file, entry)}};
      std::cout << line.dump() << '\n';
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App arguments("Lists the tensors of a safetensors file or a checkpoint folder");
  std::string path;
  arguments.add_option("path", path, "a safetensors file or a checkpoint folder")->required();
  return program::run(arguments, argc, argv, [&] { inspect(path); });
}
