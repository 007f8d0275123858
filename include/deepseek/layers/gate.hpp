// SPDX-License-Identifier: Apache-2.0
// Gates: which experts a token meets and with which weights. A gate is a struct of two functions
//   forward(call, scores, outputs)                      logits -> scores, weights, ids
//   backward(call, saved, dweights, dscores)            dscores: gradient of scores -> of logits
// softmax_top_k<>: the K largest softmax scores, as they are (DeepSeekMoE 2024) or divided by their
// sum (softmax_top_k<renormalize::yes>). router<D, E>: logits = x W^T in accumulate_t; its buffer
// `load` is a running share of the assignments each expert got in training.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/layers/layer.hpp"
#include "deepseek/ops/gemm.hpp"
#include "deepseek/ops/softmax_gate.hpp"

namespace deepseek {

template <renormalize N = renormalize::no>
struct softmax_top_k {
  template <class C, class P, class W, class I>
  static void forward(const C& c, const P& scores, const gate_outputs<W, I>& out) {
    ops::softmax_gate(c.backend, scores, out, N);
  }
  template <class C, class Saved, class DW, class DS>
  static void backward(const C& c, const Saved& saved, const DW& dweights, const DS& dscores) {
    ops::softmax_gate_backward(c.backend, saved, dweights, dscores, N);
  }
};

template <index_t D, index_t E>
struct router {
  static constexpr index_t out = E;
  static constexpr const char* label = "gate";
  static constexpr double load_decay = 0.99;  // of the running load, per optimizer step

  template <class T, class S>
  struct parameters {
    using layer = router;
    tensor<accumulate_t<T>, S, E, D> weight;
    tensor<float, S, E> load;
    static constexpr auto fields() {
      return std::tuple{named("weight", &parameters::weight), buffer("load", &parameters::load)};
    }
  };

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& logits, K&) {
    ops::gemm(c.backend, x, transposed(p.weight.view()), logits);
  }
  // Adds to dx: the tokens' gradient through the gate comes on top of that through the experts.
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dlogits, const DX& dx, K&,
                       G& g) {
    ops::gemm(c.backend, dlogits, p.weight.view(), dx, gemm_adds);
    ops::gemm(c.backend, transposed(dlogits), x, g.weight.view(), gemm_adds);
  }
  // After a step: the running load moves towards the share of this step's assignments; the first
  // step sets it.
  template <class P, class G>
  static void update(P& p, const G& g) {
    double total = 0, known = 0;
    for (index_t e = 0; e < E; ++e) {
      total += static_cast<double>(g.load.view()(e));
      known += static_cast<double>(p.load.view()(e));
    }
    if (!(total > 0)) return;
    const double old = known > 0 ? load_decay : 0.0;
    for (index_t e = 0; e < E; ++e) {
      float& load = p.load.view()(e);
      const double share = static_cast<double>(g.load.view()(e)) / total;
      load = static_cast<float>(old * static_cast<double>(load) + (1 - old) * share);
    }
  }
};

}  // namespace deepseek
