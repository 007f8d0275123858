// SPDX-License-Identifier: Apache-2.0
// One token of gate and of its backward, in plain loops; see ops/gate.hpp. The choice works on a
// row of memory lent by the caller: E numbers s + bias, then one for each group.
#pragma once

#include "deepseek/backend/rows/top_k.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/gate.hpp"

namespace deepseek {

inline constexpr double gate_sum_floor = 1e-20;  // keeps the division finite when all underflow

template <class P>
DEEPSEEK_HOST_DEVICE void gate_softmax_row(const P& s) {
  using T = typename P::value_type;
  using A = accumulate_t<T>;
  const index_t experts = s.extent(0);
  A top = -math::infinity<A>, sum = 0;
  for (index_t e = 0; e < experts; ++e)
    top = static_cast<A>(s(e)) > top ? static_cast<A>(s(e)) : top;
  for (index_t e = 0; e < experts; ++e) {
    const A p = std::exp(static_cast<A>(s(e)) - top);
    s(e) = static_cast<T>(p);
    sum += p;
  }
  for (index_t e = 0; e < experts; ++e) s(e) = static_cast<T>(static_cast<A>(s(e)) / sum);
}

template <class P>
DEEPSEEK_HOST_DEVICE void gate_score_row(const P& s, gate_score how) {
  using T = typename P::value_type;
  using A = accumulate_t<T>;
  if (how == gate_score::softmax) return gate_softmax_row(s);
  for (index_t e = 0; e < s.extent(0); ++e) {
    const A z = static_cast<A>(s(e));
    s(e) = static_cast<T>(how == gate_score::sigmoid ? math::sigmoid(z)
                                                     : std::sqrt(math::softplus(z)));
  }
}

// What a group counts. NaN marks a group that is out; -inf never wins.
template <class C>
DEEPSEEK_HOST_DEVICE auto group_value(const C& choice, index_t first, index_t size,
                                      group_score how) {
  using A = typename C::value_type;
  A best = -math::infinity<A>, second = best;
  for (index_t e = first; e < first + size; ++e) {
    const A c = choice(e);
    second = c > best ? best : c > second ? c : second;
    best = c > best ? c : best;
  }
  return how == group_score::best || size < 2 ? best : best + second;
}

// Strikes the worst groups out until top_groups are left; of equal ones the higher goes first.
template <class C>
DEEPSEEK_HOST_DEVICE void strike_groups(const C& values, const gate_rule& rule) {
  for (index_t left = rule.groups; left > rule.top_groups; --left) {
    index_t worst = -1;
    for (index_t g = 0; g < rule.groups; ++g) {
      if (values(g) == values(g) && (worst < 0 || !(values(g) > values(worst)))) worst = g;
    }
    values(worst) = math::not_a_number<typename C::value_type>;
  }
}

// Leaves NaN, which is chosen last, in place of the experts of groups that are out.
template <class C>
DEEPSEEK_HOST_DEVICE void mask_groups(const C& choice, const C& values, const gate_rule& rule) {
  const index_t size = choice.extent(0) / rule.groups;
  for (index_t g = 0; g < rule.groups; ++g) {
    values(g) = group_value(choice, g * size, size, rule.group);
    if (values(g) != values(g)) values(g) = -math::infinity<typename C::value_type>;
  }
  strike_groups(values, rule);
  for (index_t e = 0; e < choice.extent(0); ++e) {
    if (values(e / size) != values(e / size)) choice(e) = values(e / size);
  }
}

template <class S, class Bias, class I, class C>
DEEPSEEK_HOST_DEVICE void gate_choose_row(const S& s, const Bias& bias, const I& ids,
                                          const C& memory, const gate_rule& rule) {
  using A = typename C::value_type;
  const index_t experts = s.extent(0);
  const C choice(memory.data(), {experts}), values(memory.data() + experts, {rule.groups});
  for (index_t e = 0; e < experts; ++e) {
    A c = static_cast<A>(static_cast<accumulate_t<typename S::value_type>>(s(e)));
    if constexpr (!std::is_same_v<Bias, none>) c += static_cast<A>(bias(e));
    choice(e) = c != c ? -math::infinity<A> : c;
  }
  if (rule.top_groups < rule.groups) mask_groups(choice, values, rule);
  if (ids.extent(0) > 0) top_k_ids(choice, ids);
}

// Every expert, in order.
template <class I>
DEEPSEEK_HOST_DEVICE void gate_all_row(const I& ids) {
  for (index_t k = 0; k < ids.extent(0); ++k) ids(k) = static_cast<typename I::value_type>(k);
}

// ids below 0: an expert that had no room.
template <class S, class W, class I>
DEEPSEEK_HOST_DEVICE void gate_weights_row(const S& s, const W& weights, const I& ids,
                                           const gate_rule& rule) {
  using T = typename W::value_type;
  using A = accumulate_t<T>;
  A sum = static_cast<A>(gate_sum_floor);
  for (index_t k = 0; k < ids.extent(0); ++k) sum += ids(k) < 0 ? A(0) : static_cast<A>(s(ids(k)));
  if (rule.norm == renormalize::no) sum = 1;
  for (index_t k = 0; k < ids.extent(0); ++k) {
    if (ids(k) < 0) {
      weights(k) = static_cast<T>(A(0));
      continue;
    }
    weights(k) = static_cast<T>(static_cast<A>(rule.scale) * (static_cast<A>(s(ids(k))) / sum));
  }
}

// The derivative of a score by its logit, from the score alone: softplus(z) = s^2 gives
// sigmoid(z) = 1 - e^(-s^2).
template <class A>
DEEPSEEK_HOST_DEVICE A gate_score_derivative(A s, gate_score how) {
  if (how == gate_score::sigmoid) return s * (A(1) - s);
  return s == A(0) ? A(0) : -std::expm1(-s * s) / (A(2) * s);
}

// Adds the gradient through the weights to that of the scores.
template <class S, class W, class I, class DW, class DS>
DEEPSEEK_HOST_DEVICE void gate_weights_backward_row(const gate_saved<S, W, I>& in,
                                                    const DW& dweights, const DS& ds,
                                                    const gate_rule& rule) {
  using T = typename DS::value_type;
  using A = accumulate_t<T>;
  A sum = 1, inner = 0;
  if (rule.norm == renormalize::yes) {
    sum = static_cast<A>(gate_sum_floor);
    for (index_t k = 0; k < in.ids.extent(0); ++k) {
      if (in.ids(k) < 0) continue;
      sum += static_cast<A>(in.scores(in.ids(k)));
      inner += static_cast<A>(dweights(k)) * static_cast<A>(in.weights(k));
    }
  }
  for (index_t k = 0; k < in.ids.extent(0); ++k) {
    const index_t e = in.ids(k);
    if (e < 0) continue;  // it had no room
    const A d = (static_cast<A>(rule.scale) * static_cast<A>(dweights(k)) - inner) / sum;
    ds(e) = static_cast<T>(static_cast<A>(ds(e)) + d);
  }
}

template <class S, class W, class I, class DW, class DS>
DEEPSEEK_HOST_DEVICE void gate_backward_row(const gate_saved<S, W, I>& in, const DW& dweights,
                                            const DS& ds, const gate_rule& rule) {
  using T = typename DS::value_type;
  using A = accumulate_t<T>;
  gate_weights_backward_row(in, dweights, ds, rule);
  A dot = 0;
  if (rule.score == gate_score::softmax) {
    for (index_t e = 0; e < ds.extent(0); ++e) {
      dot += static_cast<A>(ds(e)) * static_cast<A>(in.scores(e));
    }
  }
  for (index_t e = 0; e < ds.extent(0); ++e) {
    const A s = static_cast<A>(in.scores(e));
    const A by_logit = rule.score == gate_score::softmax ? s : gate_score_derivative(s, rule.score);
    ds(e) = static_cast<T>(by_logit * (static_cast<A>(ds(e)) - dot));
  }
}

}  // namespace deepseek
