// SPDX-License-Identifier: Apache-2.0
// cross_attention<config, SourceDim>: queries from x, keys and values from the rows of an encoder,
//   q = Wq x, k = Wk e, v = Wv e, y = Wo softmax(scale q k^T) v
// over all rows e of the query's own sequence. e [rows, SourceDim] and its gradient are lent by the
// composite that owns the encoder (encoder_decoder) under the tag encoder_output. No rotation: the
// positions of two sequences do not compare. A decoder keeps k and v of the source from the call
// that encoded it. SourceDim 0: as wide as x. Names: wq, wk, wv, wo.
// decoder_block<Self, Cross, FeedForward>: three residual branches, normed before each.
// Source: Vaswani et al. 2017, section 3.2.3.
#pragma once

#include "deepseek/layers/head_shape.hpp"
#include "deepseek/layers/transformer_block.hpp"
#include "deepseek/pattern/band.hpp"

namespace deepseek {

// Call tag: encoder_rows, with their gradient (a view that is added to) in backward.
struct encoder_output {};

template <class T, class S, index_t W>
struct encoder_rows {
  view<const T, S, dyn, W> rows;
  sequence_offsets<S> sequences = {};  // as many as the call has; empty: one
  bool encoded = true;                 // in this call; else a decoder uses what it keeps
};

template <attention_config C, index_t SourceDim = 0, class F = plain>
struct cross_attention {
  static_assert(C.rope == rotary::none,
                "deepseek::cross_attention: keys and queries of two sequences are not rotated "
                "(their positions do not compare); write .rope = rotary::none");
  static_assert(C.sink == sinks::absent,
                "deepseek::cross_attention: it has no sinks; leave .sink = sinks::absent");
  static_assert(multi_head_attention<C, everyone, F>::out == C.dim);  // its checks of the sizes
  using shape = head_shape<C>;
  static constexpr index_t Q = shape::Q, KV = shape::KV, H = shape::H;
  static constexpr index_t source = SourceDim > 0 ? SourceDim : C.dim;
  static constexpr index_t out = C.dim;
  static constexpr const char* label = "cross";
  template <class G>
  using with_format = cross_attention<C, SourceDim, G>;

  template <class Of>
  struct parts {
    using layer = cross_attention;
    each<Of, linear<C.dim, Q, F, C.projection_bias>> wq;
    each<Of, linear<source, KV, F, C.projection_bias>> wk, wv;
    each<Of, linear<Q, C.dim, F>> wo;
    static constexpr auto fields() {
      return std::tuple{named("wq", &parts::wq), named("wk", &parts::wk), named("wv", &parts::wv),
                        named("wo", &parts::wo)};
    }
  };
  template <class T, class S>
  struct saved {
    view<T, S, dyn, Q> q, o;
    view<T, S, dyn, KV> k, v;
    view<accumulate_t<T>, S, dyn, H> lse;
  };
  // Keys and values of the source. It grows with the source, not with the decoder's capacity, and
  // cannot be shared by decoders in pages.
  template <class T, class S>
  struct state {
    tensor<T, S, dyn, KV> k, v;
    index_t rows = 0;
    void reserve(index_t) {}
    void begin(index_t n) {
      if (k.extent(0) < n) {
        k = tensor<T, S, dyn, KV>({n, KV});
        v = tensor<T, S, dyn, KV>({n, KV});
      }
      rows = n;
    }
  };

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, K& kept) {
    using T = typename Y::value_type;
    const auto& e = lent(c);
    const scope freed(c.scratch);
    auto& memory = c.template arena_for<K>();
    const index_t n = x.extent(0);
    const auto q = memory.template make<T, dyn, Q>(n), o = memory.template make<T, dyn, Q>(n);
    const auto lse = memory.template make<accumulate_t<T>, dyn, H>(n);
    run_forward(c.in(0), p.wq, x, q, kept.wq);
    if constexpr (keeps_state<K>) {
      auto& own = kept.own;
      if (e.encoded) own.begin(e.rows.extent(0));
      const auto k = rows(own.k.view(), 0, own.rows), v = rows(own.v.view(), 0, own.rows);
      if (e.encoded) project(c, p, e, k, v, kept);
      attend(c, e, q, k, v, attention_outputs{shape::heads(o), lse});
    } else {
      const auto k = memory.template make<T, dyn, KV>(e.rows.extent(0));
      const auto v = memory.template make<T, dyn, KV>(e.rows.extent(0));
      project(c, p, e, k, v, kept);
      attend(c, e, q, k, v, attention_outputs{shape::heads(o), lse});
      if constexpr (keeps_tape<K>) kept.own = {q, o, k, v, lse};
    }
    run_forward(c.in(3), p.wo, as_const(o), y, kept.wo);
  }

  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K& kept,
                       G& g) {
    using T = typename DY::value_type;
    const auto& e = lent(c);
    const auto& de = c.template gradient_of<encoder_output>();
    const auto& s = kept.own;
    const index_t n = x.extent(0), m = e.rows.extent(0);
    const scope freed(c.scratch);
    const auto d_o = c.scratch.template make<T, dyn, Q>(n),
               dq = c.scratch.template make<T, dyn, Q>(n);
    const auto dk = c.scratch.template make<T, dyn, KV>(m),
               dv = c.scratch.template make<T, dyn, KV>(m);
    run_backward(c.in(3), p.wo, as_const(s.o), dy, d_o, kept.wo, g.wo);
    ops::attention_backward(
        c.backend, attention_inputs{shape::heads(s.q), shape::kv_heads(s.k), shape::kv_heads(s.v)},
        attention_outputs{shape::heads(s.o), s.lse},
        attention_gradients{shape::heads(d_o), shape::heads(dq), shape::kv_heads(dk),
                            shape::kv_heads(dv)},
        spec(c, e));
    run_backward(c.in(0), p.wq, x, as_const(dq), dx, kept.wq, g.wq);
    add_backward(c.in(1), p.wk, e.rows, as_const(dk), de, kept.wk, g.wk);
    add_backward(c.in(2), p.wv, e.rows, as_const(dv), de, kept.wv, g.wv);
  }

 private:
  template <class Call>
  static const auto& lent(const Call& c) {
    static_assert(Call::template has<encoder_output>,
                  "deepseek::cross_attention: no encoder's output to look at; put the layer into "
                  "the decoder of encoder_decoder<encoder, decoder>");
    return c.template get<encoder_output>();
  }
  template <class Call, class P, class E, class KeyRows, class K>
  static void project(const Call& c, const P& p, const E& e, const KeyRows& k, const KeyRows& v,
                      K& kept) {
    side_by_side(run_of(c.in(1), p.wk, e.rows, k, kept.wk),
                 run_of(c.in(2), p.wv, e.rows, v, kept.wv));
  }
  template <class Call, class E>
  static attention_spec<everyone, typename Call::space> spec(const Call& c, const E& e) {
    return {{}, shape::scale(), c.options.sequences, e.sequences, 0};
  }
  template <class Call, class E, class VQ, class VK, class Out>
  static void attend(const Call& c, const E& e, const VQ& q, const VK& k, const VK& v,
                     const Out& to) {
    ops::attention(c.backend,
                   attention_inputs{shape::heads(q), shape::kv_heads(k), shape::kv_heads(v)}, to,
                   spec(c, e));
  }
};

template <class Self, class Cross, class FeedForward,
          dropout_config Drop = dropout_config{.rate = 0}, class Norm = rms_norm<Self::out>>
struct decoder_block : chain<residual_branch<Norm, Self, "attn_norm", Drop>,
                             residual_branch<Norm, Cross, "cross_norm", Drop>,
                             residual_branch<Norm, FeedForward, "ffn_norm", Drop>> {
  static_assert(Self::out == Cross::out && Cross::out == FeedForward::out,
                "deepseek::decoder_block: the three parts have different widths; give all the same "
                "dim");
  template <class F>
  using with_format = decoder_block<reformatted<Self, F>, reformatted<Cross, F>,
                                    reformatted<FeedForward, F>, Drop, Norm>;
};

// A bidirectional block: every token sees every other of its sequence.
template <attention_config C, class FeedForward, dropout_config Drop = dropout_config{.rate = 0}>
struct encoder_block : transformer_block<multi_head_attention<C, everyone>, FeedForward, Drop> {};

}  // namespace deepseek
