// SPDX-License-Identifier: Apache-2.0
// The row bodies of attention_sink and attention_merge (formulas in their contracts): one query of
// one head, o[dv], shared by reference and cuda.
#pragma once

#include "deepseek/backend/rows/row_sum.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/core/math.hpp"

#include <cmath>

namespace deepseek {

// log(e^a + e^b); -inf adds nothing, and a NaN stays.
template <class A>
DEEPSEEK_HOST_DEVICE A log_sum(A a, A b) {
  constexpr A nothing = -math::infinity<A>;
  if (b == nothing) return a;
  if (a == nothing) return b;
  if (a == b) return a + A(0.69314718055994530942);  // equal infinities, too
  const A high = a > b ? a : b;
  return high + std::log1p(std::exp(a > b ? b - a : a - b));
}

// The share e^(part - whole) of a part in a log-sum-exp.
template <class A>
DEEPSEEK_HOST_DEVICE A share_of(A part, A whole) {
  return part == whole ? A(1) : std::exp(part - whole);
}

// Returns the new log-sum-exp of the row.
template <class Team, class A, class O>
DEEPSEEK_HOST_DEVICE A attention_sink_row(const Team& team, A sink, A lse, const O& o) {
  using out = typename O::value_type;
  const A whole = log_sum(lse, sink), keep = share_of(lse, whole);
  if (keep != A(1)) {
    for (index_t d = team.rank(); d < o.extent(0); d += team.size()) {
      o(d) = static_cast<out>(keep * static_cast<A>(o(d)));
    }
  }
  return whole;
}

template <class A>
struct log_sums {
  A from, into;
};
// Returns the merged log-sum-exp of the row.
template <class Team, class A, class From, class Into>
DEEPSEEK_HOST_DEVICE A attention_merge_row(const Team& team, const log_sums<A>& lse,
                                           const From& from, const Into& into) {
  using out = typename Into::value_type;
  constexpr A nothing = -math::infinity<A>;
  if (lse.from == nothing) return lse.into;
  const A whole = log_sum(lse.into, lse.from);
  const A mine = share_of(lse.into, whole), other = share_of(lse.from, whole);
  for (index_t d = team.rank(); d < into.extent(0); d += team.size()) {
    const A added = other * static_cast<A>(from(d));
    into(d) =
        static_cast<out>(lse.into == nothing ? added : mine * static_cast<A>(into(d)) + added);
  }
  return whole;
}

// e^(sink - lse) do . o of one query, lse after the sink.
template <class A, class Team, class O, class DO>
DEEPSEEK_HOST_DEVICE A attention_sink_slope(const Team& team, A share, const O& o, const DO& d_o) {
  if (share == A(0)) return A(0);
  return share * row_sum(team, o.extent(0),
                         [&](index_t d) { return static_cast<A>(d_o(d)) * static_cast<A>(o(d)); });
}

}  // namespace deepseek
