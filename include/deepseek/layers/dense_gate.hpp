// SPDX-License-Identifier: Apache-2.0
// dense_gate: every token meets every expert, weighed by the softmax of all logits, without a
// choice; soft_mixture<D, E, Expert>: y = sum_e softmax(W x)_e Expert_e(x), by default E linear
// maps D -> D. Cost: E experts a token; the gradient reaches them all, so no balance loss is
// needed. Source: Jacobs et al. 1991 (adaptive mixtures of local experts).
#pragma once

#include "deepseek/layers/moe.hpp"

namespace deepseek {

template <index_t E, index_t K>
constexpr bool dense_gate_fits() {
  static_assert(E == K,
                "deepseek::dense_gate: active is not routed (a dense mixture has no choice); write "
                ".active = .routed");
  return true;
}

struct dense_gate {
  template <index_t E, index_t K>
  static constexpr bool fits = dense_gate_fits<E, K>();
  static constexpr gate_rule rule{.choice = gate_choice::all};

  template <class Call, class State, class P, class W, class I>
  static void forward(const Call& c, const State&, const P& scores, const gate_outputs<W, I>& out) {
    ops::gate(c.backend, scores, none{}, out, rule);
  }
  template <class Call, class Saved, class DW, class DS>
  static void backward(const Call& c, const Saved& saved, const DW& dweights, const DS& dscores) {
    ops::gate_backward(c.backend, saved, dweights, dscores, rule);
  }
  template <class Call, class P, class W, class I>
  static void weigh(const Call& c, const P& scores, const gate_outputs<W, I>& out) {
    ops::gate_weights(c.backend, scores, out, rule);
  }
};

template <index_t D, index_t E, class Expert = linear<D, D>>
struct soft_mixture : moe<moe_config{.dim = D, .routed = E, .active = E}, dense_gate, Expert> {
  template <class F>
  using with_format = soft_mixture<D, E, reformatted<Expert, F>>;
};

}  // namespace deepseek
