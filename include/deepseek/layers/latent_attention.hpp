// SPDX-License-Identifier: Apache-2.0
// latent_attention<config, Pattern>: multi-head latent attention (MLA). x gives a latent and a key
// part that all heads share: [c'; k'] = Wkv_a x, c = norm(c'), k = rope(k'); (c, k) is all that a
// cache keeps. Per head, [k_nope; v] = Wkv_b c, [q_nope; q_pe] = Wq x, or Wq_b norm(Wq_a x);
//   s = scale (q_nope . k_nope + rope(q_pe) . k), y = Wo sum softmax(s) v.
// Two forms of the same sums: naive (keys and values formed) for training and long prefill,
// absorbed (ops/latent_attention.hpp) for decoding; cheaper_form chooses by their flops unless
// config or call says. Equal within rounding, so only a fixed form gives prefill = decode bit for
// bit. Memory of the naive form: keys x heads x (2 nope + rope + v). Rows of the weights: a head's
// nope, then rope (Wq); its k_nope, then v (Wkv_b). Source: DeepSeek-V2 (2024), section 2.1.
#pragma once

#include "deepseek/layers/kv_cache.hpp"
#include "deepseek/layers/latent_config.hpp"
#include "deepseek/layers/norm.hpp"
#include "deepseek/layers/rotary.hpp"
#include "deepseek/layers/seen_keys.hpp"
#include "deepseek/layers/side_by_side.hpp"
#include "deepseek/ops/add.hpp"
#include "deepseek/ops/latent_attention.hpp"
#include "deepseek/ops/sum_heads.hpp"

namespace deepseek {

// Wkv_b is split by heads in the absorbed form, so its weight stays a matrix of numbers: plain in a
// plain layer or one that is trained for a format, in 16 bits in one of any other format.
template <class F>
struct absorbable {
  using type =
      std::conditional_t<std::is_same_v<F, plain> || TrainedFormat<F>, plain, bf16_weights>;
};
template <class F, class... Layers>
struct absorbable<only<F, Layers...>> {
  using type = only<typename absorbable<F>::type, Layers...>;
};
template <class F>
using absorbable_format = typename absorbable<F>::type;

// Queries come from a latent of q_rank numbers, or from x by one matrix.
template <mla_config C, class F, class Of>
struct latent_parts {
  each<Of, linear<C.dim, C.q_rank, F>> wq_a;
  each<Of, rms_norm<C.q_rank, norm_config{C.eps}>> q_norm;
  each<Of, linear<C.q_rank, C.heads * C.key_dim(), F>> wq_b;
  each<Of, linear<C.dim, C.cache_width(), F>> wkv_a;
  each<Of, rms_norm<C.kv_rank, norm_config{C.eps}>> kv_norm;
  each<Of, linear<C.kv_rank, C.heads*(C.nope_dim + C.v_dim), absorbable_format<F>>> wkv_b;
  each<Of, linear<C.heads * C.v_dim, C.dim, F>> wo;
  static constexpr auto fields() {
    using p = latent_parts;
    return std::tuple{
        named("wq_a", &p::wq_a),   named("q_norm", &p::q_norm),   named("wq_b", &p::wq_b),
        named("wkv_a", &p::wkv_a), named("kv_norm", &p::kv_norm), named("wkv_b", &p::wkv_b),
        named("wo", &p::wo)};
  }
};
template <mla_config C, class F, class Of>
requires(C.q_rank == 0) struct latent_parts<C, F, Of> {
  each<Of, linear<C.dim, C.heads * C.key_dim(), F>> wq;
  each<Of, linear<C.dim, C.cache_width(), F>> wkv_a;
  each<Of, rms_norm<C.kv_rank, norm_config{C.eps}>> kv_norm;
  each<Of, linear<C.kv_rank, C.heads*(C.nope_dim + C.v_dim), absorbable_format<F>>> wkv_b;
  each<Of, linear<C.heads * C.v_dim, C.dim, F>> wo;
  static constexpr auto fields() {
    using p = latent_parts;
    return std::tuple{named("wq", &p::wq), named("wkv_a", &p::wkv_a), named("kv_norm", &p::kv_norm),
                      named("wkv_b", &p::wkv_b), named("wo", &p::wo)};
  }
};

template <mla_config C, class Pattern, class F = plain>
struct latent_attention {
  static_assert(check_latent_config<C>());
  static constexpr index_t H = C.heads, R = C.kv_rank, N = C.nope_dim, P = C.rope_dim, V = C.v_dim;
  static constexpr index_t QK = N + P, KV = N + V;  // of one head of q and k, of Wkv_b
  static constexpr index_t out = C.dim;
  static constexpr const char* label = "attn";
  template <class G>
  using with_format = latent_attention<C, Pattern, G>;

  template <class Of>
  struct parts : latent_parts<C, F, Of> {
    using layer = latent_attention;
  };
  // Rows of x: latents before the norm, with the key part; the same after norm and rotation; keys
  // and values of every head; queries; their latents before and after the norm.
  template <class T, class S>
  struct saved {
    view<T, S, dyn, R + P> raw, row;
    view<T, S, dyn, H * KV> kv;
    view<T, S, dyn, H * QK> q;
    view<T, S, dyn, C.q_rank> q_raw, q_latent;
    view<T, S, dyn, H * V> o;
    view<accumulate_t<T>, S, dyn, H> lse;
  };
  template <class T, class S>
  using state = latent_cache<T, S, R, P>;

  template <class Call, class W, class X, class Y, class K>
  static void forward(const Call& c, const W& p, const X& x, const Y& y, K& kept) {
    const scope freed(c.scratch);
    auto s = make<typename Y::value_type>(c.template arena_for<K>(), x.extent(0));
    project(c, p, x, s, kept);
    if constexpr (keeps_state<K>) {
      kept.own.append(c.backend, c.options, s.row);
      attend(c, p, s, kept.own.seen(c.options, reached(c.options, x.extent(0))), kept);
    } else {
      attend(c, p, s, as_const(s.row), kept);
    }
    run_forward(c.in(4), p.wo, as_const(s.o), y, kept.wo);
    if constexpr (keeps_tape<K>) kept.own = s;
  }

  template <class Call, class W, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const W& p, const X& x, const DY& dy, const DX& dx, K& kept,
                       G& g) {
    using T = typename DY::value_type;
    const index_t n = x.extent(0);
    const scope freed(c.scratch);
    const auto& s = kept.own;
    auto d_o = c.scratch.template make<T, dyn, H * V>(n);
    auto dq = c.scratch.template make<T, dyn, H * QK>(n);
    auto dkv = c.scratch.template make<T, dyn, H * KV>(n);
    auto d_raw = c.scratch.template make<T, dyn, R + P>(n);
    auto d_latent = c.scratch.template make<T, dyn, R>(n);
    run_backward(c.in(4), p.wo, as_const(s.o), dy, d_o, kept.wo, g.wo);
    attend_backward(c, s, d_o, gradients<T, typename Call::space>{dq, dkv, columns<R, P>(d_raw)});
    turn(c, dq, d_raw, rope_turn::inverse);
    run_backward(c.in(3), p.wkv_b, columns<0, R>(as_const(s.row)), as_const(dkv), d_latent,
                 kept.wkv_b, g.wkv_b);
    run_backward(c.in(2), p.kv_norm, columns<0, R>(as_const(s.raw)), as_const(d_latent),
                 columns<0, R>(d_raw), kept.kv_norm, g.kv_norm);
    auto dx_part = c.scratch.template make<T, dyn, C.dim>(n);
    run_backward(c.in(1), p.wkv_a, x, as_const(d_raw), dx_part, kept.wkv_a, g.wkv_a);
    if constexpr (C.q_rank == 0) {
      run_backward(c.in(0), p.wq, x, as_const(dq), dx, kept.wq, g.wq);
    } else {
      auto d_normed = c.scratch.template make<T, dyn, C.q_rank>(n);
      run_backward(c.in(6), p.wq_b, as_const(s.q_latent), as_const(dq), d_normed, kept.wq_b,
                   g.wq_b);
      run_backward(c.in(5), p.q_norm, as_const(s.q_raw), as_const(d_normed), d_normed, kept.q_norm,
                   g.q_norm);
      run_backward(c.in(0), p.wq_a, x, as_const(d_normed), dx, kept.wq_a, g.wq_a);
    }
    ops::add(c.backend, dx_part, dx);
  }

 protected:
  template <class T, class S>
  static saved<T, S> make(arena<S>& memory, index_t n) {
    return {.raw = memory.template make<T, dyn, R + P>(n),
            .row = memory.template make<T, dyn, R + P>(n),
            .kv = {},
            .q = memory.template make<T, dyn, H * QK>(n),
            .q_raw = memory.template make<T, dyn, C.q_rank>(n),
            .q_latent = memory.template make<T, dyn, C.q_rank>(n),
            .o = memory.template make<T, dyn, H * V>(n),
            .lse = memory.template make<accumulate_t<T>, dyn, H>(n)};
  }

  // The queries and the rows that a cache keeps, in s.
  template <class Call, class W, class X, class Saved, class K>
  static void project(const Call& c, const W& p, const X& x, const Saved& s, K& kept) {
    project_down(c, p, x, s, kept);
    run_forward(c.in(2), p.kv_norm, columns<0, R>(as_const(s.raw)), columns<0, R>(s.row),
                kept.kv_norm);
    ops::copy(c.backend, columns<R, P>(s.raw), columns<R, P>(s.row));
    turn(c, s.q, s.row, rope_turn::forward);
  }

  // The queries in s.q, beside them latents and rotary keys in s.raw.
  template <class Call, class W, class X, class Saved, class K>
  static void project_down(const Call& c, const W& p, const X& x, const Saved& s, K& kept) {
    const auto keys = run_of(c.in(1), p.wkv_a, x, s.raw, kept.wkv_a);
    if constexpr (C.q_rank == 0) {
      side_by_side(run_of(c.in(0), p.wq, x, s.q, kept.wq), keys);
    } else {
      side_by_side(run_of(c.in(0), p.wq_a, x, s.q_raw, kept.wq_a), keys);
      run_forward(c.in(5), p.q_norm, as_const(s.q_raw), s.q_latent, kept.q_norm);
      run_forward(c.in(6), p.wq_b, as_const(s.q_latent), s.q, kept.wq_b);
    }
  }

  // Rotates, in place, the last elements of every head of q and of the rows.
  template <class Call, class Q, class Row>
  static void turn(const Call& c, const Q& q, const Row& row, rope_turn direction) {
    if constexpr (P > 0) {
      const rope_spec how{
          .theta = C.theta, .layout = C.rope, .turn = direction, .scaling = C.scaling};
      rotate(c, how, columns<N, P>(as_heads<H, QK>(q)), as_heads<1, P>(columns<R, P>(row)));
    }
  }

  static double scale() {
    if (C.scale != 0) return C.scale;
    return softmax_scale_factor(C.scaling) / std::sqrt(static_cast<double>(QK));
  }

  // Writes s.o and s.lse from s.q and the rows of all keys.
  template <class Call, class W, class Saved, class Rows, class K>
  static void attend(const Call& c, const W& p, Saved& s, const Rows& rows, K& kept) {
    auto spec = seen_keys<Pattern>(c, scale(), s.q.extent(0));
    const index_t n = spec.pages.size == 0 ? rows.extent(0) : spec.keys;
    const attention_outputs to{as_heads<H, V>(s.o), s.lse};
    const auto q = as_heads<H, QK>(as_const(s.q));
    if constexpr (!keeps_tape<K> && !observes<K>) {
      if (chosen_form(C, c.options.latent, q.extent(0), n) == latent_form::absorbed) {
        const auto [uk, uv] = split(p.wkv_b.weight.view());
        ops::latent_attention(c.backend, latent_inputs{columns<0, N>(q), columns<N, P>(q), rows},
                              latent_weights{uk, uv}, to, spec);
        return;
      }
    }
    spec.pages = {};
    const auto ordered = in_order(c, rows, n, kept);
    s.kv = c.template arena_for<K>().template make<value_of<Saved>, dyn, H * KV>(n);
    run_forward(c.in(3), p.wkv_b, columns<0, R>(ordered), s.kv, kept.wkv_b);
    ops::attention(c.backend, attention_inputs{q, keys(c, s.kv, ordered), values(s.kv)}, to, spec);
  }
  template <class Call, class Rows, class K>
  static auto in_order(const Call& c, const Rows& rows, index_t n, K& kept) {
    if constexpr (requires { kept.own.read(c, 0, n); }) {
      return kept.own.read(c, 0, n);
    } else {
      return rows;
    }
  }

  template <class Saved>
  using value_of = typename decltype(Saved::q)::value_type;

  // The rows of wkv_b: of every head first its part of the keys, then of the values.
  template <class T, class S>
  static auto split(const view<T, S, H * KV, R>& w) {
    const index_t head = KV * w.stride(0);
    return std::pair{view<T, S, H, N, R>(w.data(), {H, N, R}, {head, w.stride(0), w.stride(1)}),
                     view<T, S, H, V, R>(w.data() + N * w.stride(0), {H, V, R},
                                         {head, w.stride(0), w.stride(1)})};
  }
  // Keys of every head: its own part, then the part that all share.
  template <class Call, class All, class Rows>
  static auto keys(const Call& c, const All& kv, const Rows& rows) {
    using T = typename All::value_type;
    const index_t n = rows.extent(0);
    auto k = c.scratch.template make<T, dyn, H, QK>(n);
    const auto shared = columns<R, P>(as_const(rows));
    const view<const T, typename Call::space, dyn, H, P> everywhere(
        shared.data(), {n, H, P}, {shared.stride(0), 0, shared.stride(1)});
    ops::copy(c.backend, columns<0, N>(as_heads<H, KV>(kv)), columns<0, N>(k));
    ops::copy(c.backend, everywhere, columns<N, P>(k));
    return k;
  }
  template <class All>
  static auto values(const All& kv) {
    return columns<N, V>(as_heads<H, KV>(kv));
  }

  template <class T, class S>
  struct gradients {
    view<T, S, dyn, H * QK> q;
    view<T, S, dyn, H * KV> kv;
    view<T, S, dyn, P> shared;  // of the key part that all heads share
  };

  template <class Call, class Saved, class DO, class G>
  static void attend_backward(const Call& c, const Saved& s, const DO& d_o, const G& g) {
    const scope freed(c.scratch);
    auto dk = c.scratch.template make<value_of<Saved>, dyn, H, QK>(s.q.extent(0));
    const auto dkv = as_heads<H, KV>(g.kv);
    ops::attention_backward(
        c.backend, attention_inputs{as_heads<H, QK>(s.q), keys(c, s.kv, s.row), values(s.kv)},
        attention_outputs{as_heads<H, V>(s.o), s.lse},
        attention_gradients{as_heads<H, V>(d_o), as_heads<H, QK>(g.q), dk, columns<N, V>(dkv)},
        seen_keys<Pattern>(c, scale(), s.q.extent(0)));
    ops::copy(c.backend, columns<0, N>(dk), columns<0, N>(dkv));
    ops::sum_heads(c.backend, columns<N, P>(dk), g.shared);
  }
};

// The cheaper form depends on the number of rows, dynamic scaling on the length of the call.
template <mla_config C, class Pattern, class F>
inline constexpr bool rows_are_independent<latent_attention<C, Pattern, F>> =
    C.form != latent_form::by_cost && (C.rope_dim == 0 || !depends_on_length(C.scaling));

}  // namespace deepseek
