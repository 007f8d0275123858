// SPDX-License-Identifier: Apache-2.0
// Characters, runs of valid text, replacement of what is none, and the stream, for every cut.
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <deepseek/io/utf8.hpp>

namespace {

namespace ds = deepseek;
const std::string bad = "\xef\xbf\xbd";

}  // namespace

TEST_CASE("append_utf8 and first_character: every code point") {
  int wrong = 0;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string text;
    ds::append_utf8(text, c);
    const auto [back, length] = ds::first_character(text + "x");
    wrong +=
        ds::first_invalid_utf8(text) == text.size() && back == c && length == text.size() ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("replace_invalid_utf8: one character for each maximal part") {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"", ""},
      {"a\xc3\xa9", "a\xc3\xa9"},
      {"\x80", bad},
      {"\xc3", bad},
      {"\xc3z", bad + "z"},
      {"\xe2\x82", bad},
      {"\xe2\x82z", bad + "z"},
      {"\xf0\x9f\x98", bad},
      {"\xf0\x9f\x98\xf0\x9f\x98\x80", bad + "\xf0\x9f\x98\x80"},
      {"\xf0\x80\x80", bad + bad + bad},  // 80 cannot follow f0
      {"\xed\xa0\x80", bad + bad + bad},  // a surrogate
      {"\xe0\x9f\x80", bad + bad + bad},  // overlong
      {"\xc0\xaf", bad + bad},
      {"\xf4\x90\x80\x80", bad + bad + bad + bad},
      {"\xf5\xff", bad + bad},
      {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf", bad + bad + bad + bad},  // Unicode's table 3-11, in part
  };
  for (const auto& [in, out] : rows) CHECK(ds::replace_invalid_utf8(in) == out);
}

TEST_CASE("for_each_utf8_run: the runs are the text") {
  std::vector<std::pair<std::string, bool>> runs;
  ds::for_each_utf8_run("a\xff\xfe\xc3\xa9\xc3",
                        [&](std::string_view run, bool valid) { runs.emplace_back(run, valid); });
  CHECK(runs == std::vector<std::pair<std::string, bool>>{
                    {"a", true}, {"\xff\xfe", false}, {"\xc3\xa9", true}, {"\xc3", false}});
}

TEST_CASE("utf8_stream: byte by byte or in any pieces, the same text") {
  std::mt19937 draw(3);
  const std::vector<std::string> parts = {
      "a",    "\xc3\xa9", "\xe4\xb8\xad", "\xf0\x9f\x90\x8b", "\xc3",    "\xe4\xb8", "\xf0\x9f",
      "\x80", "\xed\xa0", "\xff",         "\xf0\x80",         "\xf4\x90"};
  for (int i = 0; i < 5000; ++i) {
    std::string text, shown;
    for (auto n = draw() % 8; n > 0; --n) text += parts[draw() % parts.size()];
    ds::utf8_stream stream;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t n = 1 + draw() % 3;
      const std::string now = stream.push(text.substr(at, n));
      CHECK(ds::first_invalid_utf8(now) == now.size());
      shown += now;
      at += n;
    }
    shown += stream.finish();
    if (shown != ds::replace_invalid_utf8(text)) FAIL("differs: " << shown);
  }
}
