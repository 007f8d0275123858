// SPDX-License-Identifier: Apache-2.0
// The alphabet of byte-level vocabularies: known letters, and every byte there and back.
#include <set>
#include <string>

#include <doctest/doctest.h>
#include <deepseek/io/byte_level.hpp>

namespace ds = deepseek;

TEST_CASE("byte_level: known letters") {
  CHECK(ds::byte_level_letters(" \n!~A") == "\u0120\u010a!~A");
  CHECK(ds::byte_level_letters(std::string(1, '\0')) == "\u0100");
  CHECK(ds::byte_level_letters("\x7f\x80\xa0\xad") == "\u0121\u0122\u0142\u0143");
  CHECK(ds::byte_level_letters("\xc3\xa9") == "\u00c3\u00a9");
  CHECK(ds::byte_level_bytes("\u0120a") == " a");
}

TEST_CASE("byte_level: every byte has a letter of its own and comes back") {
  std::set<std::string> letters;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string bytes(1, static_cast<char>(byte));
    letters.insert(ds::byte_level_letters(bytes));
    CHECK(ds::byte_level_bytes(ds::byte_level_letters(bytes)) == bytes);
  }
  CHECK(letters.size() == 256);
}

TEST_CASE("byte_level: what is no letter") {
  for (const char* text : {" ", "a b", "\n", "\u00a0", "\u00ad", "\u0144", "\uff5c", "\u4e2d"}) {
    CHECK(!ds::byte_level_bytes(text));
  }
}
