// SPDX-License-Identifier: Apache-2.0
// jittered<Gate, {.amount = 1e-2}>: any gate whose input is multiplied in training, element by
// element, by U[1 - amount, 1 + amount] (ops/jitter.hpp); the experts see x itself. Nothing is
// saved: backward draws the same numbers again. Source: Fedus, Zoph & Shazeer 2022, 2.4.
#pragma once

#include "deepseek/layers/noisy_gate.hpp"
#include "deepseek/ops/jitter.hpp"

namespace deepseek {

struct jitter_config {
  double amount = 1e-2;  // 0 .. 1
  bool operator==(const jitter_config&) const = default;
};

template <class Scores, index_t D, jitter_config C>
struct jittered_scores : Scores {
  static_assert(C.amount >= 0 && C.amount <= 1,
                "deepseek::jittered: amount is outside 0 .. 1; write .amount = 1e-2");

  template <class Call, class P, class X, class Y, class Kept>
  static void forward(const Call& c, const P& p, const X& x, const Y& logits, Kept& k) {
    if (!c.training()) return Scores::forward(c, p, x, logits, k);
    const scope freed(c.scratch);
    Scores::forward(c, p, as_const(moved(c, x)), logits, k);
  }
  template <class Call, class P, class X, class DY, class DX, class Kept, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dlogits, const DX& dx,
                       Kept& k, G& g) {
    if (!c.training()) return Scores::backward(c, p, x, dlogits, dx, k, g);
    const scope freed(c.scratch);
    const auto d = c.scratch.template make<typename DX::value_type, dyn, D>(x.extent(0));
    ops::fill(c.backend, 0.0, d);
    Scores::backward(c, p, as_const(moved(c, x)), dlogits, d, k, g);
    ops::jitter(c.backend, d, d, C.amount, draw(c));
    ops::add(c.backend, d, dx);
  }

 private:
  template <class Call>
  static routing_draw draw(const Call& c) {
    routing_draw d = draw_of(c);
    d.lane = 1;  // apart from the noise of the same router
    return d;
  }
  template <class Call, class X>
  static auto moved(const Call& c, const X& x) {
    const auto y = c.scratch.template make<typename X::value_type, dyn, D>(x.extent(0));
    ops::jitter(c.backend, x, y, C.amount, draw(c));
    return y;
  }
};

template <class Gate = softmax_top_k<>, jitter_config C = jitter_config{}>
struct jittered : Gate {
  template <index_t D, index_t E, index_t K>
  using scores = jittered_scores<scores_of<Gate, D, E, K>, D, C>;
};

}  // namespace deepseek
