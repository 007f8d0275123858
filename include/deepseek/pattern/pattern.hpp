// SPDX-License-Identifier: Apache-2.0
// Who sees whom. A pattern is a small value type with two pure host-device functions on absolute
// positions:
//   visible(q, k) -> bool       may query q look at key k?
//   cover(tile)   -> coverage   none: no pair of the tile is visible; full: every pair is;
//                               partial is always a correct answer, only a slower one.
// Optional: next_keys (cost follows the keys kept), row_bits (64 keys at once), rows_bits (of many
// queries), make (data of a run: the seed), bind (head, keys, rows), check (what a run must be),
// alike (two queries that see the same keys), `sees` (never a key after its query),
// alike_in_group (heads that share a key-value head see the same keys; assumed without a bind),
// heads_alike (the same where only a run knows it), listed (each query has a list of blocks),
// by_row (something is held for each row of a batch), checked_by_sizes (check reads no table),
// modify (scores: pattern/score.hpp).
// Queries may have negative positions (more queries than keys, aligned at the end); keys do not.
#pragma once

#include "deepseek/core/space.hpp"

#include <concepts>
#include <limits>
#include <type_traits>

namespace deepseek {

enum class coverage { none, partial, full };

// Queries q0 .. q1 - 1 by keys k0 .. k1 - 1; not empty.
struct tile {
  index_t q0, q1, k0, k1;
};

inline constexpr index_t no_key = std::numeric_limits<index_t>::max();

// Keys first .. last - 1. first == no_key: there are none.
struct key_span {
  index_t first = no_key, last = no_key;
  friend constexpr bool operator==(const key_span&, const key_span&) = default;
};

// What a pattern with random choices is made from: the seed of the run and its place in the model.
struct pattern_key {
  std::uint64_t seed = 0;
  std::uint32_t site = 0;
};

// past: no query sees a key after itself.
enum class reach { everywhere, past };

// What a pattern is bound to before it is asked: one head of one sequence. seen: past where another
// part of a both<> already hides every later key, so a choice among keys is made among earlier
// ones. row, start: the first query's row in the batch and its position, for patterns that hold
// something for each row. queries: what check is told besides.
struct pattern_scope {
  index_t head = 0;
  index_t keys = 0;
  reach seen = reach::everywhere;
  index_t row = 0;
  index_t start = 0;
  index_t queries = 0;
};

template <class P>
concept Pattern = std::copyable<P> && requires(const P& p, index_t q, index_t k, const tile& t) {
  { p.visible(q, k) } -> std::same_as<bool>;
  { p.cover(t) } -> std::same_as<coverage>;
};

template <class P>
constexpr void check_pattern() {
  static_assert(Pattern<P>,
                "deepseek::pattern: this type does not say who sees whom (attention asks it for "
                "single pairs and for whole tiles); write bool visible(index_t q, index_t k) const "
                "and coverage cover(const tile& t) const");
}

template <class P>
inline constexpr reach reach_of = reach::everywhere;
template <class P>
requires requires {
  { P::sees } -> std::convertible_to<reach>;
}
inline constexpr reach reach_of<P> = P::sees;

template <class P>
constexpr P make_pattern(const pattern_key& key) {
  check_pattern<P>();
  if constexpr (requires { P::make(key); }) {
    return P::make(key);
  } else {
    static_assert(std::default_initializable<P>,
                  "deepseek::pattern: this pattern cannot be made from a seed (it has no default "
                  "constructor); write static P make(const pattern_key& key)");
    return P{};
  }
}

template <class P>
DEEPSEEK_HOST_DEVICE constexpr P bind_pattern(const P& pattern, const pattern_scope& scope) {
  if constexpr (requires { pattern.bind(scope); }) {
    return pattern.bind(scope);
  } else {
    return pattern;
  }
}

// Throws where the pattern cannot serve this sequence (its length, a table that it borrows). Ops
// ask once for each sequence, before they compute; scope.head is then the last head.
template <class P>
void require_pattern(const P& pattern, const pattern_scope& scope) {
  if constexpr (requires { pattern.check(scope); }) pattern.check(scope);
}

// check asks for sizes alone, so that the host can ask it of tables in a device's memory, too.
template <class P>
inline constexpr bool checked_by_sizes = !requires(const P& p, const pattern_scope& s) {
  p.check(s);
};
template <class P>
requires requires {
  { P::checked_by_sizes } -> std::convertible_to<bool>;
}
inline constexpr bool checked_by_sizes<P> = P::checked_by_sizes;

// Whether the pattern shows something else where its queries stand in other rows of a batch.
template <class P>
constexpr bool depends_on_row(const P& pattern) {
  if constexpr (requires { pattern.by_row(); }) {
    return pattern.by_row();
  } else {
    return false;
  }
}

// Whether queries a and b are known to see the same keys, in each head: what one sees is then not
// worked out twice.
template <class P>
DEEPSEEK_HOST_DEVICE constexpr bool see_alike(const P& pattern, index_t a, index_t b) {
  if constexpr (requires { pattern.alike(a, b); }) {
    return pattern.alike(a, b);
  } else {
    return false;
  }
}

// Query heads that share a key-value head are known to see the same keys.
template <class P>
inline constexpr bool alike_in_group = !requires(const P& p, const pattern_scope& s) {
  p.bind(s);
};
template <class P>
requires requires {
  { P::alike_in_group } -> std::convertible_to<bool>;
}
inline constexpr bool alike_in_group<P> = P::alike_in_group;

template <class P>
DEEPSEEK_HOST_DEVICE constexpr bool heads_alike(const P& pattern) {
  if constexpr (requires { pattern.heads_alike(); }) {
    return pattern.heads_alike();
  } else {
    return alike_in_group<P>;
  }
}

// Neighbouring queries see blocks of keys that have little in common: a kernel takes them one by
// one where that costs less than all their blocks.
template <class P>
inline constexpr bool lists_blocks = false;
template <class P>
requires requires {
  { P::listed } -> std::convertible_to<bool>;
}
inline constexpr bool lists_blocks<P> = P::listed;

// The pattern also changes the scores of the pairs that it shows: see pattern/score.hpp.
template <class P>
inline constexpr bool modifies_scores = requires(const P& p, double s, index_t q, index_t k) {
  p.modify(s, q, k);
};

// The first span of keys at or after `from` that some query of q0 .. q1 - 1 may see: ascending
// calls with from = span.last visit every visible key. Spans may hold invisible keys, too.
template <class P>
DEEPSEEK_HOST_DEVICE constexpr key_span next_keys(const P& pattern, index_t q0, index_t q1,
                                                  index_t from) {
  if constexpr (requires { pattern.next_keys(q0, q1, from); }) {
    return pattern.next_keys(q0, q1, from);
  } else {
    return {from, no_key};
  }
}

// Bit j: query q sees key k0 + j.
template <class P>
DEEPSEEK_HOST_DEVICE constexpr std::uint64_t row_bits(const P& pattern, index_t q, index_t k0) {
  if constexpr (requires { pattern.row_bits(q, k0); }) {
    return pattern.row_bits(q, k0);
  } else {
    std::uint64_t bits = 0;
    for (int j = 0; j < 64; ++j) {
      if (pattern.visible(q, k0 + j)) bits |= std::uint64_t{1} << j;
    }
    return bits;
  }
}

// The bits of keys first .. last - 1 among k0 .. k0 + 63.
DEEPSEEK_HOST_DEVICE constexpr std::uint64_t span_bits(index_t first, index_t last, index_t k0) {
  const index_t low = first <= k0 ? 0 : first - k0, high = last - k0;
  if (low >= 64 || high <= low) return 0;
  const std::uint64_t below_high = high >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << high) - 1;
  return below_high & (~std::uint64_t{0} << low);
}

// The same for queries q0 .. q1 - 1 of a tile of at most 64 keys, out[q - q0]; bits at k1 and
// beyond mean nothing. What is true of the whole tile is asked once.
template <class P>
DEEPSEEK_HOST_DEVICE constexpr void rows_bits(const P& pattern, const tile& t, std::uint64_t* out) {
  if constexpr (requires { pattern.rows_bits(t, out); }) {
    pattern.rows_bits(t, out);
  } else {
    const coverage c = pattern.cover(t);
    for (index_t q = t.q0; q < t.q1; ++q) {
      std::uint64_t& bits = out[q - t.q0];
      if (c != coverage::partial) {
        bits = c == coverage::full ? ~std::uint64_t{0} : 0;
      } else if (q > t.q0 && see_alike(pattern, q - 1, q)) {
        bits = out[q - 1 - t.q0];
      } else {
        bits = row_bits(pattern, q, t.k0);
      }
    }
  }
}

// Division that rounds down: the block of a negative position, too.
DEEPSEEK_HOST_DEVICE constexpr index_t floor_divide(index_t a, index_t b) {
  return a >= 0 ? a / b : -((-a + b - 1) / b);
}

}  // namespace deepseek
