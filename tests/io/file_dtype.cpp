// SPDX-License-Identifier: Apache-2.0
// Names and widths of the element types, and the size computation at its limits.
#include <cstdint>
#include <initializer_list>
#include <vector>

#include <doctest/doctest.h>
#include <deepseek/io/file_dtype.hpp>

#include "support/throws.hpp"

namespace {

namespace ds = deepseek;

std::uint64_t bytes(ds::file_dtype type, std::vector<std::int64_t> shape) {
  return ds::byte_count("t", type, shape);
}

}  // namespace

TEST_CASE("file_dtype: names lead back to types") {
  CHECK(std::size(ds::file_dtype_rows) == static_cast<std::size_t>(ds::file_dtype::u64) + 1);
  for (const auto& row : ds::file_dtype_rows) {
    CAPTURE(row.name);
    const auto type = ds::file_dtype_named(row.name);
    REQUIRE(type.has_value());
    CHECK(to_string(*type) == row.name);
    CHECK(ds::bits_of(*type) == row.bits);
  }
  CHECK(ds::file_dtype_named("F8_E8M0") == ds::file_dtype::f8_e8m0);
  CHECK(ds::file_dtype_named("BOOL") == ds::file_dtype::boolean);
  CHECK(ds::bits_of(ds::file_dtype::bf16) == 16);
  CHECK_FALSE(ds::file_dtype_named("f32").has_value());
  CHECK_FALSE(ds::file_dtype_named("").has_value());
}

TEST_CASE("byte_count: values and limits") {
  using ds::file_dtype;
  CHECK(bytes(file_dtype::f32, {}) == 4);
  CHECK(bytes(file_dtype::f64, {2, 3, 4}) == 192);
  CHECK(bytes(file_dtype::f4, {2, 3}) == 3);
  CHECK(bytes(file_dtype::f6_e3m2, {4}) == 3);
  CHECK(bytes(file_dtype::u8, {0, INT64_MAX, INT64_MAX}) == 0);
  CHECK(bytes(file_dtype::u8, {(1LL << 61) - 1}) == (1ULL << 61) - 1);
  CHECK_ERROR(ds::error_code::overflow, "\"t\"", bytes(file_dtype::u8, {1LL << 61}));
  CHECK_ERROR(ds::error_code::overflow, "[4294967296, 4294967296]",
              bytes(file_dtype::u8, {1LL << 32, 1LL << 32}));
  CHECK_ERROR(ds::error_code::overflow, "", bytes(file_dtype::u8, {1LL << 32, 1LL << 32, 0}));
  CHECK_ERROR(ds::error_code::sub_byte, "12 bits", bytes(file_dtype::f4, {3}));
  CHECK_ERROR(ds::error_code::invalid_argument, "-1", bytes(file_dtype::u8, {4, -1}));
}
