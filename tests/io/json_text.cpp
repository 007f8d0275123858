// SPDX-License-Identifier: Apache-2.0
// Strict JSON documents: what the parser library would let pass is refused, the rest is read.
#include <string>

#include <doctest/doctest.h>
#include <deepseek/io/json_text.hpp>

#include "support/throws.hpp"

namespace {

namespace ds = deepseek;
using ds::error_code;

std::string nested(int levels) {
  return std::string(static_cast<std::size_t>(levels), '[') +
         std::string(static_cast<std::size_t>(levels), ']');
}

}  // namespace

TEST_CASE("parse_json: what it reads") {
  CHECK(ds::parse_json(R"( {"a":[1,-2.5e3,null,true,"\u00e9"],"b":{"a":0}} )", "t")["a"][4] ==
        "\xc3\xa9");
  CHECK(ds::parse_json("7", "t") == 7);
  CHECK(ds::parse_json(R"([{"a":1},{"a":2}])", "t").size() == 2);
  CHECK(ds::parse_json(nested(128), "t").is_array());
}

TEST_CASE("parse_json: what it refuses") {
  CHECK_ERROR(error_code::json, "doc", "byte 0 of 0", ds::parse_json("", "doc"));
  CHECK_ERROR(error_code::json, "mark", ds::parse_json("\xef\xbb\xbf{}", "doc"));
  CHECK_ERROR(error_code::json, "NUL", ds::parse_json(std::string_view("{}\0", 3), "doc"));
  CHECK_ERROR(error_code::json, "byte 2", ds::parse_json("{}{", "doc"));
  CHECK_ERROR(error_code::json, "too large", ds::parse_json("[1e999]", "doc"));
  CHECK_ERROR(error_code::json, "deeper than 128", ds::parse_json(nested(129), "doc"));
  CHECK_ERROR(error_code::json, "deeper than 128",
              ds::parse_json(std::string(1'000'000, '['), "doc"));
  CHECK_ERROR(error_code::utf8, "byte 2 of 4", ds::parse_json("[\"\xff]", "doc"));
  CHECK_ERROR(error_code::duplicate_key, "\"a\"", ds::parse_json(R"({"a":1,"a":1})", "doc"));
  CHECK_ERROR(error_code::duplicate_key, "\"b\"",
              ds::parse_json(R"([{"a":{"b":1,"c":{"b":2},"b":3}}])", "doc"));
}

TEST_CASE("first_invalid_utf8: every code point, and every pair of bytes as RFC 3629 has it") {
  int wrong = 0;
  for (unsigned c = 0; c < 0x110000; ++c) {
    std::string text;
    if (c < 0x80) {
      text = {static_cast<char>(c)};
    } else if (c < 0x800) {
      text = {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
    } else if (c < 0x10000) {
      text = {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
              static_cast<char>(0x80 | (c & 63))};
    } else {
      text = {static_cast<char>(0xf0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 63)),
              static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
    }
    const bool surrogate = c >= 0xd800 && c < 0xe000;
    wrong += (ds::first_invalid_utf8(text) == text.size()) == surrogate ? 1 : 0;
  }
  for (unsigned pair = 0; pair < 0x10000; ++pair) {
    const unsigned a = pair >> 8, b = pair & 0xff;
    const std::string text{static_cast<char>(a), static_cast<char>(b)};
    const bool valid = (a < 0x80 && b < 0x80) || (a >= 0xc2 && a < 0xe0 && b >= 0x80 && b < 0xc0);
    wrong += (ds::first_invalid_utf8(text) == 2) == valid ? 0 : 1;
  }
  CHECK(wrong == 0);
}
