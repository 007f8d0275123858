// SPDX-License-Identifier: Apache-2.0
// Ranges of 512 keys at fixed positions, and what rows of attention on tensor cores keep of them:
// the running maximum and sum, how two ranges become one, what is written of a range or of all.
// Source: Dao 2023 (FlashAttention-2), section 3.1.
#pragma once

#include "deepseek/backend/cuda/attention/tiles.hpp"
#include "deepseek/backend/cuda/mma.hpp"

#include <cmath>
#include <limits>

namespace deepseek::cuda_attention {

inline constexpr index_t range_keys = 512;

inline constexpr float nothing_seen = -std::numeric_limits<float>::infinity();

// The running maximum (of scores times log2 e) and sum of a row.
struct online {
  float top = nothing_seen, total = 0;
};
// Two ranges of one row: o = o_1 first + o_2 second, for sums that are not divided yet.
struct merged_ranges {
  online row;
  float first, second;

  DEEPSEEK_HOST_DEVICE float operator()(float o_1, float o_2) const {
    return std::fma(o_1, first, o_2 * second);
  }
};
DEEPSEEK_HOST_DEVICE inline merged_ranges merge_ranges_of(const online& a, const online& b) {
  const float top = larger{}(a.top, b.top), shift = top == nothing_seen ? 0.0F : top;
  const float first = std::exp2(a.top - shift), second = std::exp2(b.top - shift);
  return {{top, std::fma(a.total, first, b.total * second)}, first, second};
}
// Of a whole row: o divided, and lse.
struct finished_row {
  bool empty;
  float total, lse;

  DEEPSEEK_HOST_DEVICE explicit finished_row(const online& row)
      : empty(row.total == 0), total(row.total), lse(nothing_seen) {
    if (!empty) lse = (row.top + std::log2(total)) * 0.69314718055994530942F;
  }
  DEEPSEEK_HOST_DEVICE float operator()(float o) const { return empty ? 0.0F : o / total; }
};

// Where ranges that have blocks of their own are written. count 1: there are none.
template <class S>
struct range_parts {
  index_t count = 1;
  view<float, S, dyn, dyn, dyn, dyn> o = {};  // [ranges, queries, heads, dv]
  view<online, S, dyn, dyn, dyn> rows = {};   // [ranges, queries, heads]
};

// Where a row of the output stands, and its range.
struct output_row {
  index_t part, token, head;
};
// Its sums from column c on: those of a range as they are, those of all keys divided.
template <class Out, class S>
DEEPSEEK_HOST_DEVICE void put_pair(const Out& out, const range_parts<S>& parts,
                                   const output_row& row, const finished_row& done, int c,
                                   float low, float high) {
  using T = typename decltype(Out::o)::value_type;
  if (parts.count > 1) {
    float* const to = &parts.o(row.part, row.token, row.head, c);
    to[0] = low;
    to[1] = high;
  } else {
    *reinterpret_cast<std::uint32_t*>(&out.o(row.token, row.head, c)) =
        mma::pack<T>(done(low), done(high));
  }
}
// One of them that is not finite.
template <class Out, class S>
DEEPSEEK_HOST_DEVICE void put_not_finite(const Out& out, const range_parts<S>& parts,
                                         const output_row& row, int c, float x) {
  using T = typename decltype(Out::o)::value_type;
  if (parts.count > 1) {
    parts.o(row.part, row.token, row.head, c) = x;
  } else {
    out.o(row.token, row.head, c) = static_cast<T>(x);
  }
}
// What goes with them: the range's maximum and sum, or the log-sum-exp where it is wanted.
template <class Out, class S>
DEEPSEEK_HOST_DEVICE void put_row(const Out& out, const range_parts<S>& parts,
                                  const output_row& row, const online& sum) {
  if (parts.count > 1) {
    parts.rows(row.part, row.token, row.head) = sum;
  } else if constexpr (is_view<std::remove_cvref_t<decltype(out.lse)>>) {
    out.lse(row.token, row.head) =
        static_cast<typename decltype(out.lse)::value_type>(finished_row(sum).lse);
  }
}

// The ranges of one query of one head become one, in order.
template <class Out, class S>
struct merge_ranges {
  using T = typename decltype(Out::o)::value_type;
  Out out;
  range_parts<S> parts;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t i) const {
    const index_t token = i / out.o.extent(1), head = i % out.o.extent(1);
    for (index_t c = 2 * team.rank(); c < out.o.extent(2); c += 2 * team.size()) {
      online row;
      float sum[2] = {};
      for (index_t s = 0; s < parts.count; ++s) {
        const merged_ranges merged = merge_ranges_of(row, parts.rows(s, token, head));
        row = merged.row;
        for (int e = 0; e < 2; ++e) sum[e] = merged(sum[e], parts.o(s, token, head, c + e));
      }
      const finished_row done(row);
      *reinterpret_cast<std::uint32_t*>(&out.o(token, head, c)) =
          mma::pack<T>(done(sum[0]), done(sum[1]));
      if constexpr (is_view<std::remove_cvref_t<decltype(out.lse)>>) {
        if (c == 0) {
          out.lse(token, head) = static_cast<typename decltype(out.lse)::value_type>(done.lse);
        }
      }
    }
  }
};

}  // namespace deepseek::cuda_attention
