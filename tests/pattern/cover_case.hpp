// SPDX-License-Identifier: Apache-2.0
// One pattern, exhaustively on small positions: visible against a rule written in the test, cover
// against visible on all tiles, spans and row bits against visible.
#pragma once

#include "deepseek/pattern/pattern.hpp"

#include <doctest/doctest.h>
#include <string>
#include <vector>

namespace pattern_test {

using namespace deepseek;

inline constexpr index_t keys = 14, first_query = -5, last_query = 20;

struct counts {
  index_t wrong_none = 0, wrong_full = 0, loose = 0, tiles = 0;
};

template <class P>
counts compare_cover(const P& p) {
  counts c;
  for (index_t q0 = first_query; q0 < last_query; ++q0) {
    for (index_t q1 = q0 + 1; q1 <= last_query; ++q1) {
      for (index_t k0 = 0; k0 < keys; ++k0) {
        bool some = false, all = true;
        for (index_t k1 = k0 + 1; k1 <= keys; ++k1) {
          for (index_t q = q0; q < q1; ++q) p.visible(q, k1 - 1) ? some = true : all = false;
          const coverage said = p.cover({q0, q1, k0, k1});
          c.wrong_none += said == coverage::none && some;
          c.wrong_full += said == coverage::full && !all;
          c.loose += said == coverage::partial && (!some || all);
          ++c.tiles;
        }
      }
    }
  }
  return c;
}

// Keys visited by the spans of q0 .. q1 - 1 hold every visible key; spans ascend.
template <class P>
bool spans_hold(const P& p, index_t q0, index_t q1) {
  std::vector<bool> visited(static_cast<std::size_t>(keys));
  index_t from = 0;
  while (from < keys) {
    const key_span s = next_keys(p, q0, q1, from);
    if (s.first != no_key && (s.first < from || s.last <= s.first)) return false;
    for (index_t k = s.first; k < s.last && k < keys; ++k)
      visited[static_cast<std::size_t>(k)] = true;
    from = s.last;
  }
  for (index_t q = q0; q < q1; ++q) {
    for (index_t k = 0; k < keys; ++k) {
      if (p.visible(q, k) && !visited[static_cast<std::size_t>(k)]) return false;
    }
  }
  return true;
}

template <class P>
bool bits_agree(const P& p) {
  for (index_t q = first_query; q < last_query; ++q) {
    for (index_t k0 : {0, 3, 64}) {
      std::uint64_t bits = 0;
      for (int j = 0; j < 64; ++j) {
        if (p.visible(q, k0 + j)) bits += std::uint64_t{1} << j;
      }
      if (bits != row_bits(p, q, k0)) return false;
    }
  }
  return true;
}

// exact: cover never says partial where none or full is true.
enum class cover_is { exact, safe };

template <class P, class Rule>
void check(const std::string& name, const P& pattern, cover_is how, Rule rule) {
  CAPTURE(name);
  const P p = bind_pattern(pattern, pattern_scope{.head = 1, .keys = keys});
  index_t wrong = 0;
  for (index_t q = first_query; q < last_query; ++q) {
    for (index_t k = 0; k < keys; ++k) wrong += p.visible(q, k) != rule(q, k);
  }
  CHECK(wrong == 0);
  const counts c = compare_cover(p);
  CHECK(c.tiles == 325 * 105);
  CHECK(c.wrong_none == 0);
  CHECK(c.wrong_full == 0);
  if (how == cover_is::exact) CHECK(c.loose == 0);
  CHECK(bits_agree(p));
  bool spans = true;
  for (index_t q0 = first_query; q0 < last_query; ++q0) {
    for (index_t q1 = q0 + 1; q1 <= last_query; ++q1) spans = spans && spans_hold(p, q0, q1);
  }
  CHECK(spans);
}

inline index_t block_of(index_t x, index_t size) {
  index_t b = 0;
  while (b * size > x) --b;
  while ((b + 1) * size <= x) ++b;
  return b;
}

}  // namespace pattern_test
