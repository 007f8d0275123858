// SPDX-License-Identifier: Apache-2.0
// noisy_top_k<config>: in training h = W x + eps softplus(W_noise x), eps ~ N(0, 1) drawn again for
// every (seed, step, site, element); without training h = W x. The K largest h are chosen, their
// weights are the softmax of these K. Loss of its own: load CV^2(Load) (ops/load_loss.hpp);
// moe_config::importance adds that of the importance. Everything in accumulate_t.
// Source: Shazeer et al. 2017, 2.1, equations 3 to 5, and appendix A.
#pragma once

#include "deepseek/layers/gate.hpp"
#include "deepseek/ops/add.hpp"
#include "deepseek/ops/copy.hpp"
#include "deepseek/ops/fill.hpp"
#include "deepseek/ops/load_loss.hpp"
#include "deepseek/ops/noisy_logits.hpp"

namespace deepseek {

struct noisy_config {
  double load = 0;  // weight of the load loss, >= 0
  bool operator==(const noisy_config&) const = default;
};

template <class Call>
routing_draw draw_of(const Call& c) {
  return {.seed = c.options.seed, .step = c.options.step, .site = c.site};
}

template <index_t D, index_t E, index_t K, noisy_config C>
struct noisy_scores {
  static_assert(C.load >= 0,
                "deepseek::noisy_top_k: the load's weight is negative; write .load = 0.1");
  template <class T, class S>
  struct parameters {
    tensor<accumulate_t<T>, S, E, D> weight, noise;
    static constexpr auto fields() {
      return std::tuple{named("weight", &parameters::weight),
                        named("noise.weight", &parameters::noise)};
    }
  };
  template <class T, class S>
  struct saved {
    view<accumulate_t<T>, S, dyn, E> clean, raw, noisy;  // W x, W_noise x, h
  };

  template <class Call, class P, class X, class Y, class Kept>
  static void forward(const Call& c, const P& p, const X& x, const Y& logits, Kept& k) {
    if (!c.training()) return ops::gemm(c.backend, x, transposed(p.weight.view()), logits);
    using T = typename Y::value_type;
    const scope freed(c.scratch);
    auto& memory = c.template arena_for<Kept>();
    auto clean = memory.template make<T, dyn, E>(x.extent(0));
    auto raw = memory.template make<T, dyn, E>(x.extent(0));
    ops::gemm(c.backend, x, transposed(p.weight.view()), clean);
    ops::gemm(c.backend, x, transposed(p.noise.view()), raw);
    ops::noisy_logits(c.backend, noisy_inputs{clean, raw}, logits, {.draw = draw_of(c)});
    if (C.load > 0 && c.options.report != nullptr) {
      c.options.report->auxiliary_loss +=
          ops::load_loss(c.backend, load_views{clean, raw, logits}, K, C.load);
    }
    if constexpr (keeps_tape<Kept>) {
      auto noisy = memory.template make<T, dyn, E>(x.extent(0));
      ops::copy(c.backend, logits, noisy);
      k.own = {clean, raw, noisy};
    }
  }
  template <class Call, class P, class X, class DY, class DX, class Kept, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dlogits, const DX& dx,
                       Kept& k, G& g) {
    using T = typename DY::value_type;
    const scope freed(c.scratch);
    auto dh = c.scratch.template make<T, dyn, E>(x.extent(0));
    auto dclean = c.scratch.template make<T, dyn, E>(x.extent(0));
    auto draw = c.scratch.template make<T, dyn, E>(x.extent(0));
    ops::copy(c.backend, dlogits, dh);
    ops::fill(c.backend, 0.0, dclean);
    if (c.training()) {
      auto of_loss = c.scratch.template make<T, dyn, E>(x.extent(0));
      ops::fill(c.backend, 0.0, of_loss);
      if constexpr (C.load > 0) {
        ops::load_loss_backward(c.backend, load_views{k.own.clean, k.own.raw, k.own.noisy},
                                load_views{dclean, of_loss, dh}, K,
                                C.load * c.options.gradient_scale);
      }
      ops::noisy_logits_backward(c.backend, k.own.raw, dh, draw, {.draw = draw_of(c)});
      ops::add(c.backend, of_loss, draw);
      add_products(c, p.noise, x, draw, dx, g.noise);
    }
    ops::add(c.backend, dh, dclean);
    add_products(c, p.weight, x, dclean, dx, g.weight);
  }

 private:
  template <class Call, class W, class X, class D2, class DX, class G>
  static void add_products(const Call& c, const W& w, const X& x, const D2& d, const DX& dx, G& g) {
    ops::gemm(c.backend, d, w.view(), dx, gemm_adds);
    ops::gemm(c.backend, transposed(d), x, g.view(), gemm_adds);
  }
};

template <noisy_config C = noisy_config{}>
struct noisy_top_k : softmax_top_k<renormalize::yes> {
  template <index_t D, index_t E, index_t K>
  using scores = noisy_scores<D, E, K, C>;
};

}  // namespace deepseek
