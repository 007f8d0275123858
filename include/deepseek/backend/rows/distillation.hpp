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

// One element's part of KL(softmax(t by) || softmax(s by)).
template <class A>
struct soft_part {
  tempered_denominator<A> of_s, of_t;
  A by, shift;
  DEEPSEEK_HOST_DEVICE soft_part(tempered_denominator<A> s, tempered_denominator<A> t, A factor)
      : of_s(s), of_t(t), by(factor), shift(std::log(s.total) - std::log(t.total)) {}
  DEEPSEEK_HOST_DEVICE A operator()(A s, A t) const {
    const A wanted = (t - of_t.largest) * by, got = (s - of_s.largest) * by;
    const A weight = std::exp(wanted) / of_t.total;
    return weight == A(0) ? A(0) : weight * ((wanted - got) + shift);
  }
};

// KL(softmax(t by) || softmax(s by)).
template <class Team, class S, class T>
DEEPSEEK_HOST_DEVICE auto distillation_row(const Team& team, const S& s, const T& t,
                                           double factor) {
  using A = accumulate_t<typename S::value_type>;
  const A by = static_cast<A>(factor);
  const auto of_s = tempered<A>(team, s, by), of_t = tempered<A>(team, t, by);
  const soft_part<A> part(of_s, of_t, by);
  return row_sum(team, s.extent(0),
                 [&](index_t i) { return part(static_cast<A>(s(i)), static_cast<A>(t(i))); });
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

// One element of the gradient: soft (softmax(s by) - softmax(t by)) + hard (softmax(s) - onehot).
template <class A>
struct distillation_part {
  tempered_denominator<A> of_s{}, of_t{};
  tempered_denominator<A> plain{A(0), A(1)};  // of s, where there is a target
  A by, soft, hard;
  index_t target;

  explicit DEEPSEEK_HOST_DEVICE distillation_part(const distillation_factors& f)
      : by(static_cast<A>(f.by)),
        soft(static_cast<A>(f.soft)),
        hard(static_cast<A>(f.hard)),
        target(f.target) {}
  DEEPSEEK_HOST_DEVICE A operator()(A s, A t, index_t at) const {
    const A got = std::exp((s - of_s.largest) * by) / of_s.total;
    const A wanted = std::exp((t - of_t.largest) * by) / of_t.total;
    A sum = soft * (got - wanted);
    if (target >= 0) {
      const A share = std::exp(s - plain.largest) / plain.total;
      sum += hard * (share - (at == target ? A(1) : A(0)));
    }
    return sum;
  }
};

// ds may be s.
template <class Team, class S, class T, class DS>
DEEPSEEK_HOST_DEVICE void distillation_gradient_row(const Team& team, const S& s, const T& t,
                                                    const DS& ds, const distillation_factors& f) {
  using A = accumulate_t<typename DS::value_type>;
  distillation_part<A> part(f);
  part.of_s = tempered<A>(team, s, part.by);
  part.of_t = tempered<A>(team, t, part.by);
  if (f.target >= 0) part.plain = tempered<A>(team, s, A(1));
  team.sync();
  for (index_t i = team.rank(); i < s.extent(0); i += team.size()) {
    ds(i) =
        static_cast<typename DS::value_type>(part(static_cast<A>(s(i)), static_cast<A>(t(i)), i));
  }
}

}  // namespace deepseek
