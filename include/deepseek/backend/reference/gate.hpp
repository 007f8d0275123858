// SPDX-License-Identifier: Apache-2.0
// Reference forms of softmax_gate and of the balance loss. One row of the gate is one function, so
// that backends can run rows in parallel with the same arithmetic.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/ops/balance_loss.hpp"
#include "deepseek/ops/softmax_gate.hpp"

#include <cmath>
#include <limits>

namespace deepseek {

inline constexpr double gate_sum_floor = 1e-20;  // keeps the division finite when all underflow

template <class P>
void gate_softmax_row(const P& scores, index_t t) {
  using A = accumulate_t<typename P::value_type>;
  const index_t experts = scores.extent(1);
  A top = -std::numeric_limits<A>::infinity(), sum = 0;
  for (index_t e = 0; e < experts; ++e) top = std::max(top, static_cast<A>(scores(t, e)));
  for (index_t e = 0; e < experts; ++e) {
    const A p = std::exp(static_cast<A>(scores(t, e)) - top);
    scores(t, e) = static_cast<typename P::value_type>(p);
    sum += p;
  }
  for (index_t e = 0; e < experts; ++e) {
    scores(t, e) = static_cast<typename P::value_type>(static_cast<A>(scores(t, e)) / sum);
  }
}

// Repeated selection: K is small. Larger first, then the lower expert; NaN never wins a place from
// a number, and a row of NaN still gives distinct valid experts.
template <class P, class W, class I>
void gate_select_row(const P& scores, const W& weights, const I& ids, index_t t) {
  using A = accumulate_t<typename P::value_type>;
  for (index_t k = 0; k < weights.extent(1); ++k) {
    index_t best = -1;
    for (index_t e = 0; e < scores.extent(1); ++e) {
      bool taken = false;
      for (index_t j = 0; j < k; ++j) taken = taken || ids(t, j) == static_cast<std::int32_t>(e);
      if (taken) continue;
      const bool wins = best < 0 ||
                        static_cast<A>(scores(t, e)) > static_cast<A>(scores(t, best)) ||
                        (std::isnan(static_cast<A>(scores(t, best))) &&
                         !std::isnan(static_cast<A>(scores(t, e))));
      if (wins) best = e;
    }
    ids(t, k) = static_cast<std::int32_t>(best);
    weights(t, k) = static_cast<typename W::value_type>(scores(t, best));
  }
}

template <class W>
void gate_normalize_row(const W& weights, index_t t) {
  using A = accumulate_t<typename W::value_type>;
  A sum = static_cast<A>(gate_sum_floor);
  for (index_t k = 0; k < weights.extent(1); ++k) sum += static_cast<A>(weights(t, k));
  for (index_t k = 0; k < weights.extent(1); ++k) {
    weights(t, k) = static_cast<typename W::value_type>(static_cast<A>(weights(t, k)) / sum);
  }
}

template <class P, class W, class I>
void softmax_gate_row(const P& scores, const W& weights, const I& ids, index_t t,
                      renormalize norm) {
  gate_softmax_row(scores, t);
  gate_select_row(scores, weights, ids, t);
  if (norm == renormalize::yes) gate_normalize_row(weights, t);
}

template <class Saved, class DW, class DS>
void softmax_gate_backward_row(const Saved& in, const DW& dweights, const DS& dscores, index_t t,
                               renormalize norm) {
  using A = accumulate_t<typename DS::value_type>;
  using T = typename DS::value_type;
  const index_t active = in.ids.extent(1), experts = in.scores.extent(1);
  A sum = 1, inner = 0;
  if (norm == renormalize::yes) {
    sum = static_cast<A>(gate_sum_floor);
    for (index_t k = 0; k < active; ++k) {
      sum += static_cast<A>(in.scores(t, in.ids(t, k)));
      inner += static_cast<A>(dweights(t, k)) * static_cast<A>(in.weights(t, k));
    }
  }
  for (index_t k = 0; k < active; ++k) {
    const index_t e = in.ids(t, k);
    const A d = (static_cast<A>(dweights(t, k)) - inner) / sum;
    dscores(t, e) = static_cast<T>(static_cast<A>(dscores(t, e)) + d);
  }
  A dot = 0;
  for (index_t e = 0; e < experts; ++e) {
    dot += static_cast<A>(dscores(t, e)) * static_cast<A>(in.scores(t, e));
  }
  for (index_t e = 0; e < experts; ++e) {
    const A s = static_cast<A>(in.scores(t, e));
    dscores(t, e) = static_cast<T>(s * (static_cast<A>(dscores(t, e)) - dot));
  }
}

template <class P, class W, class I>
void softmax_gate_impl(const reference&, const P& scores, const W& weights, const I& ids,
                       renormalize norm) {
  for (index_t t = 0; t < scores.extent(0); ++t) softmax_gate_row(scores, weights, ids, t, norm);
}
template <class Saved, class DW, class DS>
void softmax_gate_backward_impl(const reference&, const Saved& in, const DW& dweights,
                                const DS& dscores, renormalize norm) {
  for (index_t t = 0; t < dscores.extent(0); ++t) {
    softmax_gate_backward_row(in, dweights, dscores, t, norm);
  }
}

// f_i / E = count_i / rows: the share of the assignments that expert i got.
template <class O>
double expert_share(const O& offsets, index_t e) {
  const double rows = offsets(offsets.extent(0) - 1);
  return rows > 0 ? (offsets(e + 1) - offsets(e)) / rows : 0.0;
}

template <class P, class O>
double balance_loss_impl(const reference&, const P& scores, const O& offsets) {
  const double experts = static_cast<double>(scores.extent(1));
  double loss = 0;
  for (index_t e = 0; e < scores.extent(1); ++e) {
    double mean = 0;
    for (index_t t = 0; t < scores.extent(0); ++t) mean += static_cast<double>(scores(t, e));
    loss += experts * expert_share(offsets, e) * mean / static_cast<double>(scores.extent(0));
  }
  return loss;
}
template <class O, class DS>
void balance_loss_gradient_impl(const reference&, const O& offsets, const DS& dscores,
                                double alpha_scale) {
  const double tokens = static_cast<double>(dscores.extent(0));
  const double experts = static_cast<double>(dscores.extent(1));
  for (index_t t = 0; t < dscores.extent(0); ++t) {
    for (index_t e = 0; e < dscores.extent(1); ++e) {
      dscores(t, e) = static_cast<typename DS::value_type>(alpha_scale * experts *
                                                           expert_share(offsets, e) / tokens);
    }
  }
}
template <class O, class L>
void expert_load_impl(const reference&, const O& offsets, const L& load) {
  for (index_t e = 0; e < load.extent(0); ++e) {
    load(e) += static_cast<typename L::value_type>(offsets(e + 1) - offsets(e));
  }
}

}  // namespace deepseek
