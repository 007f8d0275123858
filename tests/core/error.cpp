// SPDX-License-Identifier: Apache-2.0
// The error type: codes have stable names, messages hold the numbers, foreign text is made safe.
#include "deepseek/core/error.hpp"

#include <doctest/doctest.h>

#include <set>

#include "support/throws.hpp"

namespace ds = deepseek;

TEST_CASE("every code has a name of its own") {
  std::set<std::string_view> names;
  constexpr int count = static_cast<int>(ds::error_code::version_mismatch) + 1;
  for (int i = 0; i < count; ++i) names.insert(ds::to_string(static_cast<ds::error_code>(i)));
  CHECK(static_cast<int>(names.size()) == count);
  CHECK(ds::to_string(ds::error_code::io) == "io");
  CHECK(ds::to_string(ds::error_code::shape_mismatch) == "shape_mismatch");
  CHECK(ds::to_string(ds::error_code::out_of_memory) == "out_of_memory");
  CHECK(ds::to_string(ds::error_code::version_mismatch) == "version_mismatch");
}

TEST_CASE("require throws only when it must, with every part") {
  ds::require(true, ds::error_code::io, "never: formatted");
  CHECK_ERROR(
      ds::error_code::index_range, "token 7: id 300 of 256",
      ds::require(false, ds::error_code::index_range, "token ", 7, ": id ", 300, " of ", 256));
}

TEST_CASE("foreign text is escaped and cut") {
  CHECK(ds::escaped("plain") == "\"plain\"");
  CHECK(ds::escaped("a\"b\\c") == "\"a\\\"b\\\\c\"");
  CHECK(ds::escaped(std::string("\n\0\x7f", 3)) == "\"\\x0a\\x00\\x7f\"");
  const std::string long_text(300, 'x');
  CHECK(ds::escaped(long_text) == "\"" + std::string(200, 'x') + "...\"");
}
