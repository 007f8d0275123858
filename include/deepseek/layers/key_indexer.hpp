// SPDX-License-Identifier: Apache-2.0
// key_indexer: what the lightning indexer makes of a token, the part `indexer` of sparse attention:
//   k = norm(Wk x), q = Wq_b c_q of every index head, c_q the queries' normed latent,
//   w = weights_proj x;
// the first rope_dim elements of k and of each head of q turned (half layout, the attention's
// frequencies, amplitude 1), then both by the Hadamard transform, which changes no q . k.
// norm is a LayerNorm with bias, eps 1e-6. Scores: ops/lightning_indexer.hpp, scale
// index_heads^-1/2 index_dim^-1/2. Nothing flows back to x or c_q: they are detached.
// Source: DeepSeek-V3.2-Exp (2025), section 2.1, and its published inference code.
#pragma once

#include "deepseek/layers/norm.hpp"
#include "deepseek/layers/rotary.hpp"
#include "deepseek/layers/side_by_side.hpp"
#include "deepseek/layers/sparse_config.hpp"
#include "deepseek/ops/hadamard.hpp"
#include "deepseek/ops/lightning_indexer.hpp"

namespace deepseek {

template <dsa_config C, class F = plain>
struct key_indexer {
  static constexpr index_t H = C.index_heads, D = C.index_dim, P = C.attention.rope_dim;
  static constexpr index_t dim = C.attention.dim, rank = C.attention.q_rank;
  static constexpr index_t out = D;
  static constexpr const char* label = "indexer";
  template <class G>
  using with_format = key_indexer<C, G>;

  template <class Of>
  struct parts {
    using layer = key_indexer;
    each<Of, linear<rank, H * D, F>> wq_b;
    each<Of, linear<dim, D, F>> wk;
    each<Of, layer_norm<D, norm_config{.eps = 1e-6}>> k_norm;
    each<Of, linear<dim, H>> weights_proj;
    static constexpr auto fields() {
      return std::tuple{named("wq_b", &parts::wq_b), named("wk", &parts::wk),
                        named("k_norm", &parts::k_norm),
                        named("weights_proj", &parts::weights_proj)};
    }
  };
  // Rows of x: keys before the norm and as they are compared, index heads, their weights.
  template <class T, class S>
  struct saved {
    view<T, S, dyn, D> k_raw, k;
    view<T, S, dyn, H * D> q;
    view<T, S, dyn, H> w;
  };

  template <class T, class S>
  static saved<T, S> make(arena<S>& memory, index_t n) {
    return {memory.template make<T, dyn, D>(n), memory.template make<T, dyn, D>(n),
            memory.template make<T, dyn, H * D>(n), memory.template make<T, dyn, H>(n)};
  }
  static double scale() { return 1 / std::sqrt(static_cast<double>(H * D)); }

  template <class Call, class W, class X, class Saved, class K>
  static void make_keys(const Call& c, const W& p, const X& x, const Saved& s, K& kept) {
    run_forward(c.in(0), p.wk, x, s.k_raw, kept.wk);
    run_forward(c.in(1), p.k_norm, as_const(s.k_raw), s.k, kept.k_norm);
    turn(c, as_heads<1, D>(s.k), rope_turn::forward);
    ops::hadamard(c.backend, s.k, s.k);
  }
  template <class Call, class W, class X, class Latent, class Saved, class K>
  static void make_queries(const Call& c, const W& p, const X& x, const Latent& latent,
                           const Saved& s, K& kept) {
    side_by_side(run_of(c.in(2), p.wq_b, latent, s.q, kept.wq_b),
                 run_of(c.in(3), p.weights_proj, x, s.w, kept.weights_proj));
    const auto heads = as_heads<H, D>(s.q);
    turn(c, heads, rope_turn::forward);
    ops::hadamard(c.backend, heads, heads);
  }
  // What the scores of these queries against `keys` are made from.
  template <class Saved, class Keys>
  static auto inputs(const Saved& s, const Keys& keys) {
    return indexer_inputs{as_heads<H, D>(as_const(s.q)), as_const(keys), as_const(s.w)};
  }

  // From the gradients of q, k and w (which it changes) to those of the weights.
  template <class Call, class W, class X, class Latent, class Saved, class K, class G>
  static void backward(const Call& c, const W& p, const X& x, const Latent& latent, const Saved& d,
                       K& kept, G& g) {
    const auto heads = as_heads<H, D>(d.q);
    ops::hadamard(c.backend, heads, heads);
    ops::hadamard(c.backend, d.k, d.k);
    turn(c, heads, rope_turn::inverse);
    turn(c, as_heads<1, D>(d.k), rope_turn::inverse);
    run_backward(c.in(2), p.wq_b, latent, as_const(d.q), none{}, kept.wq_b, g.wq_b);
    run_backward(c.in(3), p.weights_proj, x, as_const(d.w), none{}, kept.weights_proj,
                 g.weights_proj);
    run_backward(c.in(1), p.k_norm, as_const(kept.own.k_raw), as_const(d.k), d.k_raw, kept.k_norm,
                 g.k_norm);
    run_backward(c.in(0), p.wk, x, as_const(d.k_raw), none{}, kept.wk, g.wk);
  }

 private:
  template <class Call, class Heads>
  static void turn(const Call& c, const Heads& heads, rope_turn direction) {
    if constexpr (P > 0) {
      rope_scaling scaling = C.attention.scaling;
      scaling.mscale = scaling.mscale_all_dim;
      rotate(c,
             {.theta = C.attention.theta,
              .layout = rope_layout::half,
              .turn = direction,
              .scaling = scaling},
             columns<0, P>(heads));
    }
  }
};

}  // namespace deepseek
