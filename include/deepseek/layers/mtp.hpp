// SPDX-License-Identifier: Apache-2.0
// mtp_layer<Block, config>: one depth of multi-token prediction. From the hidden state h_i of a
// token and the embedding e_i of the token after it,
//   y_i = Block( eh_proj [ enorm(e_i) ; hnorm(h_i) ] )             (embedding first, then hidden),
// from which norm and head predict the token after that. `norm` is a part of this layer and is run
// by the owner of the head (with_mtp.hpp). x = mtp_inputs{e, h}, both [tokens, D]; y [tokens, D].
// RMSNorms with eps; eh_proj [D, 2 D] without bias. Names as in the checkpoints: enorm, hnorm,
// eh_proj, the block's own, norm. Source: DeepSeek-V3 technical report 2024, section 2.2.
#pragma once

#include "deepseek/layers/linear.hpp"
#include "deepseek/layers/norm.hpp"

namespace deepseek {

// Which state of the trunk the layer gets: the last layer's output, or that after the final norm.
enum class mtp_hidden { before_norm, after_norm };

struct mtp_config {
  double eps = 1e-6;  // > 0, of enorm, hnorm, norm and the model's final norm
  mtp_hidden hidden = mtp_hidden::before_norm;
  bool operator==(const mtp_config&) const = default;
};

// Inputs of an mtp_layer, or their gradients.
template <class E, class H>
struct mtp_inputs {
  E embedding;  // [tokens, D], of the token after
  H hidden;     // [tokens, D]
};
template <class E, class H>
mtp_inputs(const E&, const H&) -> mtp_inputs<E, H>;

template <class Block, mtp_config C = mtp_config{}, class F = plain>
struct mtp_layer {
  static_assert(C.eps > 0, "deepseek::mtp_layer: eps is not positive; write .eps = 1e-6");
  static constexpr index_t D = Block::out, out = D;
  static constexpr mtp_config config = C;
  static constexpr const char* label = "mtp.0";
  using norm = rms_norm<D, norm_config{.eps = C.eps}>;
  template <class G>
  using with_format = mtp_layer<reformatted<Block, G>, C, G>;

  template <class Of>
  struct parts {
    using layer = mtp_layer;
    each<Of, rms_norm<D, norm_config{.eps = C.eps}>> enorm, hnorm;
    each<Of, linear<2 * D, D, F>> eh_proj;
    each<Of, Block> block;
    each<Of, rms_norm<D, norm_config{.eps = C.eps}>> norm;
    static constexpr auto fields() {
      return std::tuple{named("enorm", &parts::enorm), named("hnorm", &parts::hnorm),
                        named("eh_proj", &parts::eh_proj), named(Block::label, &parts::block),
                        named("norm", &parts::norm)};
    }
  };
  template <class T, class S>
  struct saved {
    view<T, S, dyn, 2 * D> pair;  // [enorm(e) ; hnorm(h)]
    view<T, S, dyn, D> joined;    // what the block gets
  };

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, K& k) {
    using T = typename Y::value_type;
    const scope freed(c.scratch);
    const index_t n = y.extent(0);
    auto& memory = c.template arena_for<K>();
    const auto pair = memory.template make<T, dyn, 2 * D>(n);
    const auto joined = memory.template make<T, dyn, D>(n);
    run_forward(c.in(0), p.enorm, x.embedding, columns<0, D>(pair), k.enorm);
    run_forward(c.in(1), p.hnorm, x.hidden, columns<D, D>(pair), k.hnorm);
    run_forward(c.in(2), p.eh_proj, as_const(pair), joined, k.eh_proj);
    run_forward<Block>(c.in(3), p.block, as_const(joined), y, k.block);
    if constexpr (keeps_tape<K>) k.own = {pair, joined};
  }

  // dx = mtp_inputs{de, dh}, both written.
  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k,
                       G& g) {
    using T = typename DY::value_type;
    const scope freed(c.scratch);
    const index_t n = dy.extent(0);
    const auto dpair = c.scratch.template make<T, dyn, 2 * D>(n);
    const auto djoined = c.scratch.template make<T, dyn, D>(n);
    run_backward<Block>(c.in(3), p.block, as_const(k.own.joined), dy, djoined, k.block, g.block);
    run_backward(c.in(2), p.eh_proj, as_const(k.own.pair), as_const(djoined), dpair, k.eh_proj,
                 g.eh_proj);
    run_backward(c.in(0), p.enorm, x.embedding, as_const(columns<0, D>(dpair)), dx.embedding,
                 k.enorm, g.enorm);
    run_backward(c.in(1), p.hnorm, x.hidden, as_const(columns<D, D>(dpair)), dx.hidden, k.hnorm,
                 g.hnorm);
  }
};

template <class>
inline constexpr bool is_mtp_layer = false;
template <class Block, mtp_config C, class F>
inline constexpr bool is_mtp_layer<mtp_layer<Block, C, F>> = true;

}  // namespace deepseek
