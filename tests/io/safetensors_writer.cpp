// SPDX-License-Identifier: Apache-2.0
// Writing: what is read again equals what was given, the bytes are the same every time and aligned,
// and what cannot be written is refused before any file is touched.
#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <deepseek/io/safetensors.hpp>
#include <deepseek/io/safetensors_writer.hpp>

#include "safetensors_bytes.hpp"
#include "support/temp_dir.hpp"
#include "support/throws.hpp"

namespace {

namespace ds = deepseek;
using namespace safetensors_bytes;

std::string counted(std::size_t n) {
  std::string bytes;
  for (std::size_t i = 0; i < n; ++i) bytes += static_cast<char>((i * 7 + n) & 0xff);
  return bytes;
}

// One tensor of every type, narrow ones first, and names that need escapes.
struct sample {
  std::vector<std::string> storage;
  std::vector<ds::tensor_source> tensors;
  ds::file_metadata metadata{{"op", "gemm"}, {"attrs", "{\"eps\": 1e-5}\n"}, {"\xc3\xa9", "\x01"}};

  sample() {
    std::vector<ds::file_dtype> types;
    for (const auto& row : ds::file_dtype_rows) types.push_back(*ds::file_dtype_named(row.name));
    for (ds::file_dtype type : types) {
      storage.push_back(counted(ds::byte_count("", type, std::array<std::int64_t, 2>{3, 4})));
    }
    for (std::size_t i = 0; i < types.size(); ++i) {
      const std::string name = "t\"\\\n\xe6\xb7\xb1." + std::string(to_string(types[i]));
      tensors.push_back({name, types[i], {3, 4}, as_bytes(storage[i])});
    }
    tensors.push_back({"", ds::file_dtype::f32, {0, 7}, {}});
    tensors.push_back({"scalar", ds::file_dtype::f64, {}, as_bytes(storage[0]).first(8)});
  }
};

std::size_t files_in(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

}  // namespace

TEST_CASE("write_safetensors: what is read again is what was given") {
  const sample given;
  const support::temp_dir dir;
  ds::write_safetensors(dir / "f", given.metadata, given.tensors);
  const ds::safetensors_file file(dir / "f");
  CHECK(file.metadata() == given.metadata);
  REQUIRE(file.tensors().size() == given.tensors.size());
  for (const auto& tensor : given.tensors) {
    CAPTURE(tensor.name);
    const auto& entry = file.at(tensor.name);
    CHECK(entry.dtype == tensor.dtype);
    CHECK(entry.shape == tensor.shape);
    std::vector<std::byte> bytes(entry.bytes());
    file.read(entry, bytes);
    CHECK(std::ranges::equal(bytes, tensor.bytes));
  }
  CHECK(files_in(dir.path()) == 1);
}

TEST_CASE("write_safetensors: elements are aligned, equal widths keep their order") {
  const sample given;
  const support::temp_dir dir;
  ds::write_safetensors(dir / "f", given.metadata, given.tensors);
  const std::string bytes = get(dir / "f");
  std::size_t header = 0;
  for (std::size_t i = 8; i-- > 0;) header = header << 8 | static_cast<unsigned char>(bytes[i]);
  CHECK(header % 8 == 0);
  CHECK(bytes[8] == '{');
  const ds::safetensors_file file(dir / "f");
  unsigned last_bits = 64;
  for (const auto& entry : file.tensors()) {
    const unsigned bits = ds::bits_of(entry.dtype);
    CHECK(bits <= last_bits);
    CHECK(entry.begin * 8 % (bits == 6 ? 8 : bits) == 0);
    last_bits = bits;
  }
  CHECK(file.tensors()[0].name.ends_with("C64"));
  CHECK(file.tensors()[1].name.ends_with("F64"));
  CHECK(file.tensors()[4].name == "scalar");
}

TEST_CASE("write_safetensors: the same arguments give the same bytes") {
  const sample one, two;
  const support::temp_dir dir;
  ds::write_safetensors(dir / "a", one.metadata, one.tensors);
  ds::write_safetensors(dir / "b", two.metadata, two.tensors);
  CHECK(get(dir / "a") == get(dir / "b"));

  ds::write_safetensors(dir / "none", {}, {});
  CHECK(get(dir / "none") == little_endian(8) + "{}      ");
  const ds::tensor_source tensor{"w", ds::file_dtype::u8, {2}, as_bytes("hi")};
  ds::write_safetensors(dir / "w", {{"k", "v"}}, std::span(&tensor, 1));
  std::string header = R"({"__metadata__":{"k":"v"},"w":{"dtype":"U8","shape":[2],)"
                       R"("data_offsets":[0,2]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  CHECK(get(dir / "w") == little_endian(header.size()) + header + "hi");
}

TEST_CASE("write_safetensors: what cannot be written is refused and nothing is touched") {
  const support::temp_dir dir;
  const auto path = dir / "f";
  put(path, "old");
  const auto bytes = as_bytes("12345678");
  const auto write = [&](const std::vector<ds::tensor_source>& tensors) {
    ds::write_safetensors(path, {}, tensors);
  };
  const auto f32 = ds::file_dtype::f32;
  CHECK_ERROR(ds::error_code::size_mismatch, "\"a\"", "12 bytes but 8",
              write({{"a", f32, {3}, bytes}}));
  CHECK_ERROR(ds::error_code::duplicate_key, "\"a\"",
              write({{"a", f32, {2}, bytes}, {"a", f32, {2}, bytes}}));
  CHECK_ERROR(ds::error_code::invalid_argument, "__metadata__",
              write({{"__metadata__", f32, {2}, bytes}}));
  CHECK_ERROR(ds::error_code::invalid_argument, "-2", write({{"a", f32, {-2}, bytes}}));
  CHECK_ERROR(ds::error_code::utf8, "not UTF-8", write({{"\xff", f32, {2}, bytes}}));
  CHECK_ERROR(ds::error_code::overflow, "\"a\"",
              write({{"a", f32, {1LL << 40, 1LL << 40}, bytes}}));
  CHECK_ERROR(ds::error_code::sub_byte, "\"a\"", write({{"a", ds::file_dtype::f4, {3}, bytes}}));
  CHECK_ERROR(ds::error_code::limit, "1025 extents",
              write({{"a", ds::file_dtype::f64, std::vector<std::int64_t>(1025, 1), bytes}}));
  CHECK_ERROR(ds::error_code::utf8, "metadata", ds::write_safetensors(path, {{"k", "\xc3"}}, {}));
  CHECK_ERROR(ds::error_code::header_too_large, "100000000",
              ds::write_safetensors(path, {{"k", std::string(100'000'001, 'x')}}, {}));
  CHECK(get(path) == "old");
  CHECK(files_in(dir.path()) == 1);
}
