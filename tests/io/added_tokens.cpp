// SPDX-License-Identifier: Apache-2.0
// Added tokens in a text: leftmost, then longest; the flags; tokens that a caller skips.
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <deepseek/io/added_tokens.hpp>

namespace {

namespace ds = deepseek;
using texts = std::vector<std::string>;

// The parts in order, a token as <id>.
texts cut(const std::vector<ds::added_token>& tokens, const std::string& text,
          const std::vector<ds::token_id>& skipped = {}) {
  texts out;
  ds::regex_scratch scratch;
  ds::added_token_set(tokens).cut(
      text, skipped, scratch, [&](std::string_view part) { out.emplace_back(part); },
      [&](ds::token_id id) { out.push_back("<" + std::to_string(id) + ">"); });
  return out;
}
ds::added_token token(ds::token_id id, const std::string& content) {
  ds::added_token made;
  made.id = id;
  made.content = content;
  return made;
}

}  // namespace

TEST_CASE("added tokens: leftmost, then longest, then on behind it") {
  const std::vector<ds::added_token> tokens = {token(1, "ab"), token(2, "abcd"), token(3, "bc"),
                                               token(4, "\u4e2d")};
  CHECK(cut(tokens, "xabcdab") == texts{"x", "<2>", "<1>"});
  CHECK(cut(tokens, "abcabc") == texts{"<1>", "c", "<1>", "c"});
  CHECK(cut(tokens, "xbcd\u4e2d!") == texts{"x", "<3>", "d", "<4>", "!"});
  CHECK(cut(tokens, "") == texts{});
  CHECK(cut({}, "ab") == texts{"ab"});
  CHECK(cut(tokens, "a") == texts{"a"});
}

TEST_CASE("added tokens: white space on either side") {
  auto left = token(1, "L"), right = token(2, "R");
  left.lstrip = right.rstrip = true;
  CHECK(cut({left, right}, "a \u3000L b R \t c") == texts{"a", "<1>", " b ", "<2>", "c"});
  CHECK(cut({left, right}, "R  L") == texts{"<2>", "<1>"});
  CHECK(cut({left, right}, " L R ") == texts{"<1>", " ", "<2>"});
}

TEST_CASE("added tokens: single words") {
  auto word = token(1, "word");
  word.single_word = true;
  CHECK(cut({word}, "word words word. \u00e9word sword _word") ==
        texts{"<1>", " words ", "<1>", ". \u00e9word sword _word"});
  CHECK(cut({word}, "\u4e2dword") == texts{"\u4e2dword"});
  CHECK(cut({word}, "-word-") == texts{"-", "<1>", "-"});
}

TEST_CASE("added tokens: a skipped one stays text, whole") {
  const std::vector<ds::added_token> tokens = {token(1, "ab"), token(2, "abc"), token(3, "bc")};
  CHECK(cut(tokens, "abcab", {2}) == texts{"abc", "<1>"});
  CHECK(cut(tokens, "abcab", {1, 2}) == texts{"abcab"});
}
