// SPDX-License-Identifier: Apache-2.0
// Rules one after the other: behaviours, inversion, prefix space, empty matches; no byte is lost.
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <deepseek/io/split_rules.hpp>

namespace {

namespace ds = deepseek;
using how = ds::split_behavior;
using texts = std::vector<std::string>;

ds::split_rule rule(const std::string& pattern, how behavior = how::isolated, bool inverted = false,
                    bool prefix = false) {
  return {ds::regex(pattern, "test"), behavior, inverted, prefix};
}

texts pieces(const std::vector<ds::split_rule>& rules, const std::string& text) {
  texts out;
  ds::regex_scratch scratch;
  ds::for_each_piece(rules, 0, text, scratch,
                     [&](std::string_view piece) { out.emplace_back(piece); });
  return out;
}

}  // namespace

TEST_CASE("split rules: behaviours") {
  const std::string text = "the-final--countdown";
  CHECK(pieces({rule("-")}, text) == texts{"the", "-", "final", "-", "-", "countdown"});
  CHECK(pieces({rule("-", how::contiguous)}, text) ==
        texts{"the", "-", "final", "--", "countdown"});
  CHECK(pieces({rule("-", how::merged_with_previous)}, text) ==
        texts{"the-", "final-", "-", "countdown"});
  CHECK(pieces({rule("-", how::merged_with_next)}, text) ==
        texts{"the", "-final", "-", "-countdown"});
  CHECK(pieces({rule("-", how::merged_with_previous)}, "-a") == texts{"-", "a"});
  CHECK(pieces({rule("-", how::merged_with_next)}, "a-") == texts{"a", "-"});
}

TEST_CASE("split rules: inverted, what does not match is the match") {
  CHECK(pieces({rule("[a-z]+", how::merged_with_previous, true)}, "ab, cd!") ==
        texts{"ab, ", "cd!"});
  CHECK(pieces({rule("[a-z]", how::contiguous, true)}, "ab12c") == texts{"ab", "12", "c"});
  CHECK(pieces({rule("[a-z]+", how::isolated, true)}, "ab, c") == texts{"ab", ", ", "c"});
}

TEST_CASE("split rules: each on the pieces of the one before") {
  CHECK(pieces({rule("\\p{N}{1,3}"), rule("[a-z]+"), rule("\\s+$")}, "ab 12345 c ") ==
        texts{"ab", " ", "123", "45", " ", "c", " "});
  CHECK(pieces({rule("b"), rule("^.")}, "aabaa") == texts{"a", "a", "b", "a", "a"});
  CHECK(pieces({}, "ab") == texts{"ab"});
  CHECK(pieces({rule("a")}, "").empty());
}

TEST_CASE("split rules: empty matches cut, and the search goes on") {
  CHECK(pieces({rule("x*")}, "axxb\u4e2d") == texts{"a", "xx", "b", "\u4e2d"});
  CHECK(pieces({rule("(?=b)")}, "abab") == texts{"a", "ba", "b"});
  CHECK(pieces({rule("$")}, "ab") == texts{"ab"});
}

TEST_CASE("split rules: a space before a piece that has none") {
  CHECK(pieces({rule("-"), rule("(?s:.+)", how::isolated, false, true)}, "a- b") ==
        texts{" a", " -", " b"});
}
