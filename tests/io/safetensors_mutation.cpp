// SPDX-License-Identifier: Apache-2.0
// Thousands of files made from good ones by small deterministic damage, and the kept corpus of the
// fuzz target: each ends in a value whose promises hold or in a typed error of this format.
#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <deepseek/io/safetensors.hpp>

#include "../fuzz/safetensors_target.hpp"
#include "safetensors_bytes.hpp"
#include "support/seed.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace safetensors_bytes;
using deepseek::error_code;

constexpr std::array codes{
    error_code::truncated,      error_code::header_too_large, error_code::utf8,
    error_code::json,           error_code::duplicate_key,    error_code::schema,
    error_code::dtype,          error_code::offsets,          error_code::coverage,
    error_code::size_mismatch,  error_code::overflow,         error_code::sub_byte,
    error_code::not_this_format};

std::vector<std::string> good_files() {
  const std::string a = entry("a", "F32", "[2,1]", "[0,8]"),
                    b = entry("b", "F4", "[3,2]", "[8,11]");
  const std::string c = entry("layers.0.attn.wq.weight", "BF16", "[0]", "[11,11]");
  return {
      file_of("{}", 0), file_of("{" + a + "}", 8), file_of("{" + a + "," + b + "," + c + "}", 11),
      file_of(R"({"__metadata__":{"op":"gemm","attrs":"{\"eps\":1e-5}"},)" + b + "," + a + "}  ",
              11)};
}

// Pieces that parsers trip over.
const std::vector<std::string> pieces{"\"",
                                      "{",
                                      "}",
                                      "[",
                                      "]",
                                      ",",
                                      ":",
                                      "0",
                                      "-",
                                      "1e9",
                                      ".5",
                                      "null",
                                      "true",
                                      "\\u0000",
                                      "\\",
                                      "\xff",
                                      "\xc3\xa9",
                                      std::string(1, '\0'),
                                      "18446744073709551615",
                                      "9223372036854775808",
                                      "\"a\":",
                                      "\"dtype\":\"U8\",",
                                      "\"__metadata__\":{},",
                                      "4294967296,4294967296",
                                      "[[[[",
                                      "F6_E2M3",
                                      " ",
                                      "\n"};

std::string damaged(std::string bytes, support::numbers& from) {
  const auto times = from.between(1, 3);
  for (std::int64_t i = 0; i < times; ++i) {
    const std::size_t at = from.below(bytes.size() + 1);
    switch (from.below(7)) {
      case 0:
        bytes.insert(at, pieces[from.below(pieces.size())]);
        break;
      case 1:
        bytes.erase(at, 1 + from.below(12));
        break;
      case 2:
        bytes.replace(at, 1, pieces[from.below(pieces.size())]);
        break;
      case 3:
        bytes.resize(at);
        break;
      case 4:
        bytes.insert(at, bytes.substr(from.below(bytes.size() + 1), from.below(70)));
        break;
      case 5:
        if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << from.below(8)));
        break;
      default:
        bytes += static_cast<char>(from.below(256));
    }
  }
  return bytes;
}

// Keeps the length field true, so that damage reaches the JSON and not only the first 8 bytes.
std::string with_true_length(const std::string& bytes, std::size_t data_bytes) {
  if (bytes.size() < 8 + data_bytes) return bytes;
  return little_endian(bytes.size() - 8 - data_bytes) + bytes.substr(8);
}

}  // namespace

TEST_CASE("safetensors: damaged files end in a value or a typed error") {
  const auto files = good_files();
  support::numbers from(2025);
  std::map<error_code, int> refusals;
  int accepted = 0, broken = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::string& good = files[from.below(files.size())];
    std::string bytes = damaged(good, from);
    if (from.below(4) != 0) bytes = with_true_length(bytes, good.size() > 60 ? 11 : 0);
    const auto result = fuzz::read_safetensors(as_bytes(bytes));
    broken += result.holds ? 0 : 1;
    result.code ? void(++refusals[*result.code]) : void(++accepted);
  }
  CHECK(broken == 0);
  CHECK(accepted > 100);  // the damage is small enough that some of it does not matter
  for (const auto& refusal : refusals) {
    CAPTURE(to_string(refusal.first));
    CHECK(std::ranges::count(codes, refusal.first) == 1);
  }
  CHECK(refusals.size() >= 10);  // and wide enough to reach most checks
}

TEST_CASE("safetensors: a file on disk gives the verdict of its bytes in memory") {
  const auto files = good_files();
  const support::temp_dir dir;
  support::numbers from(7);
  int different = 0;
  for (int i = 0; i < 2'000; ++i) {
    const std::string& good = files[from.below(files.size())];
    const std::string bytes = with_true_length(damaged(good, from), good.size() > 60 ? 11 : 0);
    put(dir / "f", bytes);
    std::optional<error_code> code;
    try {
      const deepseek::safetensors_file file(dir / "f");
      for (const auto& tensor : file.tensors()) {
        std::vector<std::byte> content(tensor.bytes());
        file.read(tensor, content);
      }
    } catch (const deepseek::error& e) {
      code = e.code();
    }
    different += code == fuzz::read_safetensors(as_bytes(bytes)).code ? 0 : 1;
  }
  CHECK(different == 0);
}

TEST_CASE("safetensors: every prefix of a good file is refused") {
  for (const auto& good : good_files()) {
    int accepted = 0;
    for (std::size_t n = 0; n < good.size(); ++n) {
      accepted += fuzz::read_safetensors(as_bytes(good.substr(0, n))).code ? 0 : 1;
    }
    CHECK(accepted == 0);
    CHECK_FALSE(fuzz::read_safetensors(as_bytes(good)).code.has_value());
  }
}

TEST_CASE("safetensors: the fuzz corpus") {
  const auto corpus = std::filesystem::path(__FILE__).parent_path() / "../fuzz/corpus/safetensors";
  int seeds = 0;
  for (const auto& seed : std::filesystem::directory_iterator(corpus)) {
    CAPTURE(seed.path().string());
    CHECK(fuzz::read_safetensors(as_bytes(get(seed.path()))).holds);
    ++seeds;
  }
  CHECK(seeds >= 10);
}
