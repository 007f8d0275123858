// SPDX-License-Identifier: Apache-2.0
// Searches in UTF-8, their limits, and patterns written for Oniguruma.
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <deepseek/io/regex.hpp>
#include <deepseek/io/split_pattern.hpp>

#include "support/throws.hpp"

namespace {

namespace ds = deepseek;
using ds::error_code;

// All matches, one after the other.
std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  const ds::regex compiled(ds::translate_pattern(pattern, "test"), "test");
  ds::regex_scratch scratch;
  std::vector<std::string> found;
  for (std::size_t at = 0; at <= text.size();) {
    const auto span = compiled.find(text, at, scratch);
    if (!span) break;
    found.push_back(text.substr(span->begin, span->end - span->begin));
    at = std::max(span->end, at + 1);
  }
  return found;
}
using texts = std::vector<std::string>;

}  // namespace

TEST_CASE("regex: classes are Unicode's, lines end with a line feed") {
  CHECK(matches("\\p{L}+", "d\u00e9j\u00e0 \u4e2d1") == texts{"d\u00e9j\u00e0", "\u4e2d"});
  CHECK(matches("\\s+", "a\u3000\u0085b\u180e\u200bc") == texts{"\u3000\u0085"});
  CHECK(matches("\\S+", " \u180e ") == texts{"\u180e"});
  CHECK(matches("[\\s]+|[^\\s]", " \u2003x") == texts{" \u2003", "x"});
  CHECK(matches("\\w+", "a_\u0301\u203f9-") == texts{"a_\u0301\u203f9"});
  CHECK(matches("[\\w-]+|\\W", "a-b!") == texts{"a-b", "!"});
  CHECK(matches("\\s+$", "a  \nb\r\nc \t") == texts{"  ", "\r", " \t"});
  CHECK(matches("^.", "ab\nc\rd") == texts{"a", "c"});
  CHECK(matches("\\s+(?!\\S)|\\s+", "a   b  ") == texts{"  ", " ", "  "});
  CHECK(matches("(?i:'s|'re)", "'S 'RE '\u017f") == texts{"'S", "'RE", "'\u017f"});
  CHECK(matches("\\u4e2d|\\x{4e00}|\\x41", "\u4e00\u4e2dA") == texts{"\u4e00", "\u4e2d", "A"});
  CHECK(matches("a{2}|b{1,2}|{x}", "aab{x}") == texts{"aa", "b", "{x}"});
  CHECK(matches("[a{&]+", "{&a") == texts{"{&a"});
}

TEST_CASE("translate_pattern: what Oniguruma reads differently is refused by name") {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"[a[b]]", "[ in a set"}, {"[[:alpha:]]", "[ in a set"},
      {"[a&&b]", "&&"},         {"[]a]", "begins with ]"},
      {"[\\W]", "\\W"},         {"\\bx", "\\b"},
      {"\\h", "\\h"},           {"\\R", "\\R"},
      {"\\Ka", "\\K"},          {"\\G", "\\G"},
      {"(a)\\1", "\\1"},        {"\\Qa\\E", "\\Q"},
      {"a{,3}", "lower end"},   {"a{2}?", "after {n}"},
      {"a{1,3}+", "+ after"},   {"(?i)a", "group"},
      {"(?<n>a)", "group"},     {"(?m:a)", "group"},
      {"(?#x)", "group"},       {"(*UTF)", "(*"},
      {"\\pL", "{name}"},       {"\\p{L", "{name}"},
      {"\\xe4", "80"},          {"\\u4e", "digits"},
      {"a\\", "backslash"},     {"[\\A]", "\\A"},
      {"\\\xc3\xa9", "escape"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.first);
    CHECK_ERROR(error_code::unsupported, row.second.c_str(),
                ds::translate_pattern(row.first, "test"));
  }
  CHECK(ds::translate_pattern("(?<=a)(?<!b)(?>c)(?=d)(?!e)a*+b?+c{1,2}?", "test") ==
        "(?<=a)(?<!b)(?>c)(?=d)(?!e)a*+b?+c{1,2}?");
}

TEST_CASE("literal_pattern: finds the text itself") {
  ds::regex_scratch scratch;
  for (const std::string text : {"a.b", "(*x)[", "\\p{L}", "\u4e2d{1}", "a\nb", "^$"}) {
    CAPTURE(text);
    const ds::regex compiled(ds::literal_pattern(text), "test");
    CHECK(compiled.find("x" + text, 0, scratch) == ds::text_span{1, 1 + text.size()});
    CHECK(!compiled.find("axb", 0, scratch));
  }
}

TEST_CASE("regex: what does not compile, and searches without end") {
  CHECK_ERROR(error_code::regex, "byte 1", "rule: pattern", ds::regex("(", "rule"));
  CHECK_ERROR(error_code::regex, "rule", ds::regex("\\p{Nothing}", "rule"));
  CHECK_ERROR(error_code::regex, "rule", ds::regex("a\xff", "rule"));
  CHECK_ERROR(error_code::regex, "rule", ds::regex("\\C", "rule"));
  ds::regex_scratch scratch;
  const ds::regex exponential("(a+)+$", "rule"), cubic("\\s+\\s+\\s+$", "rule");
  CHECK_ERROR(error_code::regex, "given up",
              exponential.find(std::string(5000, 'a') + "b", 0, scratch));
  CHECK_ERROR(error_code::regex, "given up", cubic.find(std::string(20000, ' ') + "b", 0, scratch));
  CHECK(exponential.find("aaab", 0, scratch) == std::nullopt);
}

TEST_CASE("regex: long texts need no deep stack") {
  ds::regex_scratch scratch;
  const std::string text(200'000, 'x');
  const ds::regex nested("(?:x|y)+", "rule");
  CHECK(nested.find(text, 0, scratch) == ds::text_span{0, text.size()});
}
