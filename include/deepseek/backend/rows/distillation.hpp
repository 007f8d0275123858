// SPDX-License-Identifier: Apache-2.0
// The row bodies of distillation (formulas in ops/distillation.hpp), shared by the backends.
#pragma once

#include "deepseek/backend/rows/row_sum.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/core/math.hpp"

#include <cmath>

namespace deepseek {

// Of a row x / T: the largest x (0 where all are -inf) and the sum of e^((x - largest) / T).
template <class A>
struct tempered_denominator {
  A largest, total;
};
template <class A, class Team, class X>
DEEPSEEK_HOST_DEVICE tempered_denominator<A> tempered(const Team& team, const X& x, A by) {
  constexpr A lowest = -math::infinity<A>;
  A largest = lowest;
  for (index_t i = team.rank(); i < x.extent(0); i += team.size()) {
    const A v = static_cast<A>(x(i));
    if (v > largest) largest = v;
  }
  largest = team.max(largest);
  if (largest == lowest) largest = A(0);
  return {largest, row_sum(team, x.extent(0), [&](index_t i) {
            return std::exp((static_cast<A>(x(i)) - largest) * by);
          })};
}

// KL(softmax(t by) || softmax(s by)).
template <class Team, class S, class T>
DEEPSEEK_HOST_DEVICE auto distillation_row(const Team& team, const S& s, const T& t,
                                           double factor) {
  using A = accumulate_t<typename S::value_type>;
  const A by = static_cast<A>(factor);
  const auto of_s = tempered<A>(team, s, by), of_t = tempered<A>(team, t, by);
  const A shift = std::log(of_s.total) - std::log(of_t.total);
  return row_sum(team, s.extent(0), [&](index_t i) {
    const A wanted = (static_cast<A>(t(i)) - of_t.largest) * by;
    const A weight = std::exp(wanted) / of_t.total;
    const A got = (static_cast<A>(s(i)) - of_s.largest) * by;
    return weight == A(0) ? A(0) : weight * ((wanted - got) + shift);
  });
}

template <class Team, class S>
DEEPSEEK_HOST_DEVICE auto target_loss_row(const Team& team, const S& s, index_t target) {
  using A = accumulate_t<typename S::value_type>;
  const auto of = tempered<A>(team, s, A(1));
  return std::log(of.total) - (static_cast<A>(s(target)) - of.largest);
}

struct distillation_factors {
  double by = 1;              // 1 / T
  double soft = 0, hard = 0;  // of the two differences of probabilities
  index_t target = -1;        // below 0: no hard part
};

// ds = soft (softmax(s by) - softmax(t by)) + hard (softmax(s) - onehot); ds may be s.
template <class Team, class S, class T, class DS>
DEEPSEEK_HOST_DEVICE void distillation_gradient_row(const Team& team, const S& s, const T& t,
                                                    const DS& ds, const distillation_factors& f) {
  using A = accumulate_t<typename DS::value_type>;
  const A by = static_cast<A>(f.by), soft = static_cast<A>(f.soft), hard = static_cast<A>(f.hard);
  const auto of_s = tempered<A>(team, s, by), of_t = tempered<A>(team, t, by);
  tempered_denominator<A> plain{A(0), A(1)};
  if (f.target >= 0) plain = tempered<A>(team, s, A(1));
  team.sync();
  for (index_t i = team.rank(); i < s.extent(0); i += team.size()) {
    const A x = static_cast<A>(s(i));
    const A got = std::exp((x - of_s.largest) * by) / of_s.total;
    const A wanted = std::exp((static_cast<A>(t(i)) - of_t.largest) * by) / of_t.total;
    A sum = soft * (got - wanted);
    if (f.target >= 0) {
      const A share = std::exp(x - plain.largest) / plain.total;
      sum += hard * (share - (i == f.target ? A(1) : A(0)));
    }
    ds(i) = static_cast<typename DS::value_type>(sum);
  }
}

}  // namespace deepseek
