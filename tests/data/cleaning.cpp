// SPDX-License-Identifier: Apache-2.0
// Characters, words, scripts, broken text; duplicates, exact and near; which texts clean() keeps.
#include "deepseek/data/cleaning.hpp"

#include "support/report.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;
using reason = ds::cleaning_reason;
using verdict = ds::duplicate_filter::verdict;

namespace {

// n different words.
std::string words(std::size_t n, std::size_t from = 0) {
  std::string text;
  for (std::size_t i = 0; i < n; ++i) {
    text += (i > 0 ? " w" : "w");
    for (std::size_t k = from + i; k > 0 || text.back() == 'w'; k /= 26) {
      text += static_cast<char>('a' + k % 26);
    }
  }
  return text;
}

std::size_t invalid_in(std::string_view text) {
  std::size_t n = 0;
  ds::for_each_character(text, [&](const ds::character& c) { n += c.valid ? 0 : 1; });
  return n;
}

}  // namespace

TEST_CASE("characters: every boundary of UTF-8") {
  const auto code = [](std::string_view s) { return ds::next_character(s).code; };
  CHECK(code("a") == 'a');
  CHECK(code("\xc2\x80") == 0x80);
  CHECK(code("\xdf\xbf") == 0x7ff);
  CHECK(code("\xe0\xa0\x80") == 0x800);
  CHECK(code("\xef\xbf\xbd") == 0xfffd);
  CHECK(code("\xf0\x90\x80\x80") == 0x10000);
  CHECK(code("\xf4\x8f\xbf\xbf") == 0x10ffff);
  CHECK(invalid_in("a\xc2\x80\xe0\xa0\x80\xf0\x90\x80\x80") == 0);
  for (const char* bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80",
                          "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
                          "\xc2", "\xe0\xa0", "\xf0\x90\x80", "\xc2\x41"}) {
    CHECK_MESSAGE(!ds::next_character(bad).valid, std::string(bad));
    CHECK(ds::next_character(bad).bytes == 1);
  }
  CHECK(invalid_in("\xe0\xa0") == 2);
}

TEST_CASE("words, scripts and broken text") {
  CHECK(ds::word_count("") == 0);
  CHECK(ds::word_count(" \t\n") == 0);
  CHECK(ds::word_count("one, two  three\nfour\xc2\xa0"
                       "five") == 5);
  CHECK(ds::word_count("\xe6\xb7\xb1\xe5\xba\xa6 learning") == 3);  // two Han characters, a word
  const auto mixed = ds::scripts_of("abc \xd0\xb0\xd0\xb1\xd0\xb2\xd0\xb3 12!?");
  CHECK(mixed.letters == 7);
  CHECK(mixed.largest == ds::script::cyrillic);
  CHECK(mixed.share(ds::script::latin) == doctest::Approx(3.0 / 7));
  CHECK(ds::scripts_of("1234 ...").letters == 0);
  CHECK(ds::broken_share("") == 0);
  CHECK(ds::broken_share("caf\xc3\xa9, na\xc3\xafve, 30 \xe2\x82\xac\n") == 0);
  CHECK(ds::broken_share("\x01"
                         "abc") == doctest::Approx(0.25));
  CHECK(ds::broken_share("ab\xff\xfe") == doctest::Approx(0.5));
  CHECK(ds::broken_share("ab\xef\xbf\xbd"
                         "c") == doctest::Approx(0.25));
  // "cafe" with its accent in UTF-8 read as Latin-1; a quotation mark read as Windows-1252.
  CHECK(ds::broken_share("caf\xc3\x83\xc2\xa9") == doctest::Approx(2.0 / 5));
  CHECK(ds::broken_share("\xc3\xa2\xe2\x82\xac\xe2\x84\xa2") >= 2.0 / 3);
}

TEST_CASE("duplicates: equal, near, fresh") {
  ds::duplicate_filter seen({.near = 0.7});
  const std::string text = words(100);
  CHECK(seen.add(text) == verdict::fresh);
  CHECK(seen.add(text) == verdict::equal);
  CHECK(seen.add("  W" + text.substr(1) + " \n") == verdict::equal);  // capitals, spaces
  CHECK(seen.add(text + " and more of it") == verdict::near);
  CHECK(seen.add(words(100, 1000)) == verdict::fresh);
  CHECK(seen.add(words(50) + " " + words(50, 2000)) == verdict::fresh);  // a third in common
  CHECK(seen.add("short") == verdict::fresh);
  CHECK(seen.add("SHORT") == verdict::equal);
  CHECK(seen.add("") == verdict::fresh);
  CHECK(seen.add(" ") == verdict::equal);
  CHECK(ds::jaccard({1, 2, 3, 4}, {3, 4, 5}) == doctest::Approx(0.4));
  CHECK(ds::shingles("a b c d").size() == 2);
  CHECK(ds::shingles("a a a a a a").size() == 1);
  CHECK(ds::shingles("a b").size() == 1);
  CHECK_ERROR(ds::error_code::invalid_argument, "near is 0", ds::duplicate_filter({.near = 0}));
}

TEST_CASE("duplicates: what bands promise, on many pairs") {
  // Texts of 60 words, 5 of which are changed: the index is 0.6 to 0.75 (half of the pairs at 0.51
  // are found, 80 % at 0.6); at 0.5 no pair that is found may be below.
  std::size_t found = 0, near = 0;
  for (std::size_t pair = 0; pair < 200; ++pair) {
    support::numbers from(pair);
    const std::string text = words(60, 100 * pair);
    std::string other = text;
    for (int change = 0; change < 5; ++change) {
      const std::size_t at = from.below(other.size() - 2);
      const std::size_t gap = other.find(' ', at);
      if (gap != std::string::npos && gap + 2 < other.size()) other[gap + 1] = 'z';
    }
    ds::duplicate_filter seen({.near = 0.5});
    seen.add(text);
    const double index = ds::jaccard(ds::shingles(text), ds::shingles(other));
    const auto v = seen.add(other);
    if (index >= 0.5 && text != other) {
      ++near;
      found += v == verdict::near ? 1 : 0;
    } else if (text != other) {
      CHECK(v == verdict::fresh);  // never called near below the threshold
    }
  }
  CHECK(near > 150);
  CHECK(static_cast<double>(found) > 0.85 * static_cast<double>(near));
}

TEST_CASE("clean: the first no decides, the rest is kept in order") {
  const std::string good = words(20), other = words(20, 500);
  std::string cyrillic;
  for (int i = 0; i < 12; ++i) cyrillic += "\xd0\xb0\xd0\xb1 ";
  const std::vector<std::string> texts = {good,
                                          words(9),
                                          words(10, 90),
                                          words(513, 3),
                                          good,
                                          good + " end",
                                          other + " \xff",
                                          cyrillic,
                                          cyrillic + words(12, 900),
                                          other};
  const auto r = ds::clean(texts);
  const std::vector<reason> want = {
      reason::kept, reason::too_short, reason::kept, reason::too_long, reason::equal,
      reason::near, reason::broken,    reason::kept, reason::mixed,    reason::kept};
  CHECK(r.reasons == want);
  CHECK(r.kept == std::vector<std::size_t>{0, 2, 7, 9});
  CHECK(r.count(reason::kept) == 4);
  CHECK(r.count(reason::mixed) == 1);
  CHECK(r.count(reason::refused) == 0);
  const auto latin = ds::clean(texts, {.wanted = ds::script::latin});
  CHECK(latin.reasons[7] == reason::mixed);
  const auto picky = ds::clean(
      texts, {.accepts = [](std::string_view t) { return t.find("wb") == std::string::npos; }});
  CHECK(picky.reasons[0] == reason::refused);
  CHECK(ds::clean(std::vector<std::string>{}).kept.empty());
  CHECK_ERROR(ds::error_code::invalid_argument, "from 20 to 10",
              ds::clean(texts, {.fewest_words = 20, .most_words = 10}));
  CHECK_ERROR(ds::error_code::invalid_argument, "one_script 2",
              ds::clean(texts, {.one_script = 2}));
}
