// SPDX-License-Identifier: Apache-2.0
// multi_head_attention<config, Pattern>: q = Wq x, k = Wk x, v = Wv x, rotary embedding on q and k,
// softmax(scale q k^T) v over the keys that the pattern shows, y = Wo o. Query head h reads
// key-value head h / (heads / kv_heads): MHA, GQA and MQA by one number.
// Decoding keeps keys and values (after the rotation) in a cache, contiguous or in pages.
// Sources: Vaswani et al. 2017; Ainslie et al. 2023 (GQA); Su et al. 2021 (rotary embedding).
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/layers/attention_sink.hpp"
#include "deepseek/layers/kv_cache.hpp"
#include "deepseek/layers/rotary.hpp"
#include "deepseek/layers/seen_keys.hpp"
#include "deepseek/layers/side_by_side.hpp"
#include "deepseek/ops/add.hpp"
#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

struct attention_config {
  index_t dim = 0;       // model width, > 0
  index_t heads = 1;     // query heads, >= 1
  index_t kv_heads = 0;  // 0: as many as heads; must divide heads
  index_t head_dim = 0;  // 0: dim / heads
  rotary rope = rotary::half;
  double theta = 1e4;  // rotary base, > 1
  rope_scaling scaling = {};
  double scale = 0;                     // 0: head_dim^-1/2 times the scaling's softmax factor
  bias projection_bias = bias::absent;  // of Wq, Wk, Wv
  sinks sink = sinks::absent;           // a learned logit in the denominator of each head
  bool operator==(const attention_config&) const = default;

  constexpr index_t kv() const { return kv_heads > 0 ? kv_heads : heads; }
  constexpr index_t width() const { return head_dim > 0 ? head_dim : dim / heads; }
};

template <attention_config C, class Pattern, class F = plain>
struct multi_head_attention {
  static_assert(C.dim > 0, "deepseek::multi_head_attention: dim is not positive; write .dim = 256");
  static_assert(C.heads > 0,
                "deepseek::multi_head_attention: heads is not positive; write .heads = 8");
  static_assert(C.head_dim > 0 || C.dim % C.heads == 0,
                "deepseek::multi_head_attention: heads does not divide dim; choose another number "
                "of heads or write .head_dim");
  static_assert(C.heads % C.kv() == 0,
                "deepseek::multi_head_attention: kv_heads does not divide heads (each key-value "
                "head serves the same number of query heads); choose a divisor of heads");
  static_assert(C.rope == rotary::none || C.width() % 2 == 0,
                "deepseek::multi_head_attention: head_dim is odd (rotary embedding turns pairs); "
                "use an even head_dim or rotary::none");
  static_assert(C.rope == rotary::none || rope_scaling_problem(C.scaling, C.theta) == nullptr,
                "deepseek::multi_head_attention: the rotary scaling cannot be used (a factor or a "
                "length is out of range); see ops/rope_scaling.hpp");
  static constexpr index_t Q = C.heads * C.width(), KV = C.kv() * C.width();
  static constexpr index_t out = C.dim;
  static constexpr bool has_sinks = C.sink == sinks::present;
  static constexpr const char* label = "attn";
  template <class G>
  using with_format = multi_head_attention<C, Pattern, G>;

  template <class Of>
  struct parts {
    using layer = multi_head_attention;
    each<Of, linear<C.dim, Q, F, C.projection_bias>> wq;
    each<Of, linear<C.dim, KV, F, C.projection_bias>> wk, wv;
    each<Of, linear<Q, C.dim, F>> wo;
    each<Of, head_sinks_or_absent<C.heads, C.sink>> attn_sink;
    static constexpr auto fields() {
      return std::tuple{named("wq", &parts::wq), named("wk", &parts::wk), named("wv", &parts::wv),
                        named("wo", &parts::wo), named("attn_sink", &parts::attn_sink)};
    }
  };
  template <class T, class S>
  struct saved {
    view<T, S, dyn, Q> q, o;
    view<T, S, dyn, KV> k, v;
    view<accumulate_t<T>, S, dyn, C.heads> lse;
  };
  template <class T, class S>
  using state = kv_cache<T, S, KV, KV>;

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, K& kept) {
    using T = typename Y::value_type;
    const index_t n = x.extent(0);
    const scope freed(c.scratch);
    auto& memory = c.template arena_for<K>();
    auto q = memory.template make<T, dyn, Q>(n), o = memory.template make<T, dyn, Q>(n);
    auto k = memory.template make<T, dyn, KV>(n), v = memory.template make<T, dyn, KV>(n);
    auto lse = memory.template make<accumulate_t<T>, dyn, C.heads>(n);
    side_by_side(run_of(c.in(0), p.wq, x, q, kept.wq), run_of(c.in(1), p.wk, x, k, kept.wk),
                 run_of(c.in(2), p.wv, x, v, kept.wv));
    turn(c, q, k, rope_turn::forward);
    if constexpr (keeps_state<K>) {
      const auto [keys, values] = kept.own.append(c.backend, c.options, k, v);
      attend(c, q, keys, values, o, lse);
    } else {
      attend(c, q, k, v, o, lse);
    }
    if constexpr (has_sinks) {
      ops::attention_sink(c.backend, p.attn_sink.logits, attention_outputs{heads(o), lse});
    }
    run_forward(c.in(3), p.wo, as_const(o), y, kept.wo);
    if constexpr (keeps_tape<K>) kept.own = {q, o, k, v, lse};
  }

  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K& kept,
                       G& g) {
    using T = typename DY::value_type;
    const index_t n = x.extent(0);
    const scope freed(c.scratch);
    auto d_o = c.scratch.template make<T, dyn, Q>(n), dq = c.scratch.template make<T, dyn, Q>(n);
    auto dk = c.scratch.template make<T, dyn, KV>(n), dv = c.scratch.template make<T, dyn, KV>(n);
    auto dx_part = c.scratch.template make<T, dyn, C.dim>(n);
    const auto& s = kept.own;
    run_backward(c.in(3), p.wo, as_const(s.o), dy, d_o, kept.wo, g.wo);
    if constexpr (has_sinks) {
      ops::attention_sink_backward(c.backend, p.attn_sink.logits,
                                   attention_outputs{heads(s.o), s.lse}, heads(d_o),
                                   g.attn_sink.logits);
    }
    ops::attention_backward(c.backend, attention_inputs{heads(s.q), kv_heads(s.k), kv_heads(s.v)},
                            attention_outputs{heads(s.o), s.lse},
                            attention_gradients{heads(d_o), heads(dq), kv_heads(dk), kv_heads(dv)},
                            spec(c, n));
    turn(c, dq, dk, rope_turn::inverse);
    run_backward(c.in(0), p.wq, x, as_const(dq), dx, kept.wq, g.wq);
    run_backward(c.in(1), p.wk, x, as_const(dk), dx_part, kept.wk, g.wk);
    ops::add(c.backend, dx_part, dx);
    run_backward(c.in(2), p.wv, x, as_const(dv), dx_part, kept.wv, g.wv);
    ops::add(c.backend, dx_part, dx);
  }

 private:
  static double scale() {
    if (C.scale != 0) return C.scale;
    return softmax_scale_factor(C.scaling) / std::sqrt(static_cast<double>(C.width()));
  }
  template <class V>
  static auto heads(const V& v) {
    return as_heads<C.heads, C.width()>(v);
  }
  template <class V>
  static auto kv_heads(const V& v) {
    return as_heads<C.kv(), C.width()>(v);
  }
  template <class Call>
  static auto spec(const Call& c, index_t queries) {
    return seen_keys<Pattern>(c, scale(), queries);
  }
  template <class Call, class VQ, class VK, class VV, class VO, class L>
  static void attend(const Call& c, const VQ& q, const VK& k, const VV& v, const VO& o,
                     const L& lse) {
    ops::attention(c.backend, attention_inputs{heads(q), kv_heads(k), kv_heads(v)},
                   attention_outputs{heads(o), lse}, spec(c, q.extent(0)));
  }
  // Rotates q and k in place by the positions of their rows.
  template <class Call, class VQ, class VK>
  static void turn(const Call& c, const VQ& q, const VK& k, rope_turn direction) {
    if constexpr (C.rope != rotary::none) {
      const rope_spec how{
          .theta = C.theta, .layout = layout_of(C.rope), .turn = direction, .scaling = C.scaling};
      rotate(c, how, heads(q), kv_heads(k));
    }
  }
};

// Dynamic scaling turns a row by the length of the call.
template <attention_config C, class P, class F>
inline constexpr bool rows_are_independent<multi_head_attention<C, P, F>> =
    C.rope == rotary::none || !depends_on_length(C.scaling);

}  // namespace deepseek
