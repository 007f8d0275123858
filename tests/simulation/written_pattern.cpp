// SPDX-License-Identifier: Apache-2.0
// The form that any_pattern has in programs compiled as CUDA answers as any_pattern: pairs, words
// and tiles, for every head, of one sequence after another, of patterns within patterns.
#include "simulation/written_pattern.hpp"

#include "deepseek/pattern/any_pattern.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/bigbird.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/fixed.hpp"
#include "deepseek/pattern/random_blocks.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;
using simulation::written_pattern;

namespace {

// The rule alone: no next_keys, no row_bits.
struct every_third {
  static bool visible(ds::index_t q, ds::index_t k) { return (q + k) % 3 == 0; }
  static ds::coverage cover(const ds::tile&) { return ds::coverage::partial; }
};

ds::coverage cover_of(const ds::any_pattern& p, const ds::tile& t) {
  ds::index_t seen = 0;
  for (ds::index_t q = t.q0; q < t.q1; ++q) {
    for (ds::index_t k = t.k0; k < t.k1; ++k) seen += p.visible(q, k) ? 1 : 0;
  }
  return seen == 0                               ? ds::coverage::none
         : seen == (t.q1 - t.q0) * (t.k1 - t.k0) ? ds::coverage::full
                                                 : ds::coverage::partial;
}

void expect_alike(const written_pattern& written, const ds::any_pattern& asked,
                  const ds::pattern_scope& scope) {
  const written_pattern a = ds::bind_pattern(written, scope);
  const ds::any_pattern b = ds::bind_pattern(asked, scope);
  const ds::index_t end = scope.start + 90;
  bool pairs = true, words = true, tiles = true;
  for (ds::index_t q = scope.start; q < end; ++q) {
    for (ds::index_t k = 0; k < scope.keys; ++k) {
      const std::uint64_t within = ds::span_bits(0, scope.keys, k);
      pairs = pairs && a.visible(q, k) == b.visible(q, k);
      words = words && a.row_bits(q, k) == (b.row_bits(q, k) & within);
    }
  }
  for (ds::index_t q = scope.start; q + 20 <= end; q += 7) {
    for (ds::index_t k = 0; k < scope.keys; k += 13) {
      const ds::tile t{q, q + 20, k, std::min(k + 70, scope.keys)};
      tiles = tiles && a.cover(t) == cover_of(b, t);
    }
  }
  CHECK((pairs && words && tiles));
}

template <class P>
void check(const P& p) {
  const written_pattern written(p),
      back(ds::both<ds::causal, written_pattern>(ds::causal{}, written));
  const ds::any_pattern asked(p),
      asked_back(ds::both<ds::causal, ds::any_pattern>(ds::causal{}, asked));
  // Two sequences, more queries than keys, the last words of rows full and not.
  for (const ds::pattern_scope scope :
       {ds::pattern_scope{.head = 2, .keys = 150, .start = 60},
        ds::pattern_scope{.head = 2, .keys = 64, .row = 90, .start = -26}}) {
    ds::require_pattern(written, scope);
    ds::require_pattern(back, scope);
    for (ds::index_t h = 0; h <= scope.head; ++h) {
      ds::pattern_scope of_head = scope;
      of_head.head = h;
      expect_alike(written, asked, of_head);
      expect_alike(back, asked_back, of_head);
    }
  }
}

}  // namespace

TEST_CASE("written pattern: answers as the pattern that it holds") {
  static_assert(std::is_trivially_copyable_v<written_pattern>);
  check(ds::everyone{});
  check(ds::local<30>{});
  check(every_third{});
  check(ds::fixed<30, 4, 3>{});
  check(ds::make_pattern<ds::random_blocks<16, 2>>({.seed = 5, .site = 3}));
  check(written_pattern());
  CHECK(written_pattern().cover({0, 5, 0, 5}) == ds::coverage::none);
}

TEST_CASE("written pattern: what the pattern refuses is refused") {
  const written_pattern p(ds::bigbird<4, 1>{});
  CHECK_THROWS(ds::require_pattern(p, {.head = 1, .keys = 12}));
}
