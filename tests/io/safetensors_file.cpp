// SPDX-License-Identifier: Apache-2.0
// Reading: order, values bit for bit at any alignment, parts, wrong buffers, a file that shrinks.
#include <bit>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
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

std::string content(const ds::safetensors_file& file, const ds::tensor_entry& entry) {
  std::string bytes(entry.bytes(), '\0');
  file.read(entry, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

}  // namespace

TEST_CASE("safetensors: tensors come in the order of their bytes") {
  const support::temp_dir dir;
  put(dir / "f",
      file_of("{" + entry("b", "U8", "[3]", "[2,5]") + "," + entry("z", "U8", "[0]", "[2,2]") +
                  "," + entry("c", "U8", "[2]", "[0,2]") + R"(,"__metadata__":{"k":"v"}})",
              5));
  const ds::safetensors_file file(dir / "f");
  REQUIRE(file.tensors().size() == 3);
  CHECK(file.tensors()[0].name == "c");
  CHECK(file.tensors()[1].name == "z");
  CHECK(file.tensors()[2].name == "b");
  CHECK(file.find("a") == nullptr);
  CHECK(file.find("bb") == nullptr);
  CHECK(file.at("b").shape == std::vector<std::int64_t>{3});
  CHECK(file.metadata().at("k") == "v");
  CHECK(content(file, file.at("c")) == std::string("\0\1", 2));
  CHECK(content(file, file.at("b")) == std::string("\2\3\4", 3));
  CHECK_ERROR(ds::error_code::missing_tensor, "\"w\"", static_cast<void>(file.at("w")));
}

TEST_CASE("safetensors: data that begins at any byte is read the same, bit for bit") {
  const float values[] = {std::bit_cast<float>(0x7fc12345U), std::bit_cast<float>(0x7f812345U),
                          -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::denorm_min(), -0.0F};
  const std::string data(reinterpret_cast<const char*>(values), sizeof values);
  const support::temp_dir dir;
  for (std::size_t shift = 0; shift < 8; ++shift) {
    CAPTURE(shift);
    const std::string header = "{" + entry("pad", "U8", "[1]", "[0,1]") + "," +
                               entry("x", "F32", "[5]", "[1,21]") + "}" + std::string(shift, ' ');
    put(dir / "in", file_of(header, 1) + data);
    const ds::safetensors_file in(dir / "in");
    const std::string x = content(in, in.at("x"));
    CHECK(x == data);

    const ds::tensor_source out[] = {{"x", ds::file_dtype::f32, {5}, as_bytes(x)}};
    ds::write_safetensors(dir / "out", {}, out);
    const ds::safetensors_file again(dir / "out");
    CHECK(content(again, again.at("x")) == data);
  }
}

TEST_CASE("safetensors: parts and wrong buffers") {
  const support::temp_dir dir;
  put(dir / "f",
      file_of("{" + entry("a", "U8", "[6]", "[0,6]") + "," + entry("b", "U8", "[2]", "[6,8]") + "}",
              8));
  const ds::safetensors_file file(dir / "f");
  const auto& a = file.at("a");
  std::array<std::byte, 9> buffer{};
  const std::span<std::byte> all(buffer);
  file.read_part(a, 4, all.first(2));
  CHECK(std::to_integer<int>(buffer[1]) == 5);
  file.read_part(a, 6, all.first(0));
  CHECK_ERROR(ds::error_code::size_mismatch, "6 bytes, the buffer 5", file.read(a, all.first(5)));
  CHECK_ERROR(ds::error_code::size_mismatch, "6 bytes, the buffer 7", file.read(a, all.first(7)));
  CHECK_ERROR(ds::error_code::index_range, "wanted 2 from byte 5",
              file.read_part(a, 5, all.first(2)));
  CHECK_ERROR(ds::error_code::index_range, "from byte", file.read_part(a, ~0ULL, all.first(2)));
  ds::tensor_entry foreign = a;
  foreign.begin = 2;
  foreign.end = 11;
  CHECK_ERROR(ds::error_code::index_range, "ends at 11 of 8", file.read(foreign, all));
}

TEST_CASE("safetensors: a file that shrinks while open is an error, not a signal") {
  const support::temp_dir dir;
  put(dir / "f", file_of("{" + entry("a", "U8", "[60000]", "[0,60000]") + "}", 60000));
  const ds::safetensors_file file(dir / "f");
  std::filesystem::resize_file(dir / "f", 20000);
  std::vector<std::byte> buffer(60000);
  CHECK_ERROR(ds::error_code::truncated, "20000", file.read(file.at("a"), buffer));
}

TEST_CASE("safetensors: one object serves many threads") {
  const support::temp_dir dir;
  put(dir / "f", file_of("{" + entry("a", "U8", "[4096]", "[0,4096]") + "}", 4096));
  const ds::safetensors_file file(dir / "f");
  const std::string wanted = content(file, file.at("a"));
  std::array<int, 4> equal{};
  std::vector<std::thread> threads;
  for (int& count : equal) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) count += content(file, file.at("a")) == wanted ? 1 : 0;
    });
  }
  for (auto& thread : threads) thread.join();
  for (int count : equal) CHECK(count == 200);
}
