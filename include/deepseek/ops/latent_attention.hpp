// SPDX-License-Identifier: Apache-2.0
// latent_attention: attention of all heads over one row per key, [latent c_j; rotated part k_j],
// the keys' and values' weights U_h, V_h absorbed into queries and outputs:
//   q~_ih = U_h^T q_nope_ih;  s_ij = scale (q~_ih . c_j + q_pe_ih . k_j);  o_ih = V_h sum_j p_ij
//   c_j
// with p = e^(s - lse), lse = log sum_j e^s: the same numbers as attention over the keys [U_h c_j;
// k_j] and values V_h c_j, which are never formed. Empty rows, NaN and determinism as in attention.
// Types may differ; q~ and the weighted sum of latents are kept in accumulate_t of the output, on
// tensor cores rounded to its type.
// Errors: shape_mismatch, invalid_argument, offsets. Memory: queries x heads x (2 rank + rope).
// Cost: 2 (2 rank + rope) flops a visible pair and head, 2 rank (nope + dv) a query and head.
// Source: DeepSeek-V2 (2024), sections 2.1.2 and 2.1.3.
#pragma once

#include "deepseek/ops/attention.hpp"

namespace deepseek {

template <class QN, class QP, class KV>
struct latent_inputs {
  QN q_nope;  // [queries, heads, nope]
  QP q_pe;    // [queries, heads, rope], rotated; rope may be 0
  KV kv;      // [keys, rank + rope]: the latent, then the rotated part that all heads share
};
template <class QN, class QP, class KV>
latent_inputs(QN&&, QP&&, KV&&) -> latent_inputs<argument_t<QN>, argument_t<QP>, argument_t<KV>>;

template <class U, class V>
struct latent_weights {
  U w_uk;  // [heads, nope, rank]
  V w_uv;  // [heads, dv, rank]
};
template <class U, class V>
latent_weights(U&&, V&&) -> latent_weights<argument_t<U>, argument_t<V>>;

struct latent_attention_op {
  static constexpr std::string_view name = "latent_attention";

  // The scale of spec: 0 stands for 1 / sqrt(nope + rope).
  template <class B, class In, class W, class Out, class P, class S>
  void operator()(const B& b, const In& given, const W& weights, const Out& out,
                  attention_spec<P, S> spec) const {
    const latent_inputs in{as_const(as_view(given.q_nope)), as_const(as_view(given.q_pe)),
                           as_const(as_view(given.kv))};
    const latent_weights w{as_const(as_view(weights.w_uk)), as_const(as_view(weights.w_uv))};
    const attention_outputs to{as_view(out.o), view_or_none(out.lse)};
    check_spaces(b, in.q_nope, in.q_pe, in.kv, to.o, to.lse, spec.query_offsets);
    check_spaces(b, w.w_uk, w.w_uv);
    require_shapes(in, w, to);
    attention_checks::require_spec(spec, in.q_nope.extent(0), in.kv.extent(0), "attention",
                                   in.q_nope.extent(1));
    if (in.q_nope.extent(0) == 0 || in.q_nope.extent(1) == 0) return;
    const index_t width = in.q_nope.extent(2) + in.q_pe.extent(2);
    latent_attention_impl(b, in, w, to, attention_checks::resolved(spec, width));
  }

 private:
  template <class In, class W, class Out>
  static void require_shapes(const In& in, const W& w, const Out& out) {
    static_assert(decltype(in.q_nope)::rank == 3 && decltype(in.q_pe)::rank == 3 &&
                      decltype(in.kv)::rank == 2 && decltype(w.w_uk)::rank == 3 &&
                      decltype(w.w_uv)::rank == 3 && decltype(out.o)::rank == 3,
                  "deepseek::latent_attention: wrong ranks; pass q_nope, q_pe, o [queries, heads, "
                  "width], kv[keys, rank + rope], w_uk[heads, nope, rank], w_uv[heads, dv, rank]");
    const index_t queries = in.q_nope.extent(0), heads = in.q_nope.extent(1);
    require_extent(in.q_pe, 0, queries, "latent_attention: q_pe");
    require_extent(in.q_pe, 1, heads, "latent_attention: q_pe");
    require_extent(w.w_uk, 0, heads, "latent_attention: w_uk");
    require_extent(w.w_uk, 1, in.q_nope.extent(2), "latent_attention: w_uk");
    require_extent(w.w_uv, 0, heads, "latent_attention: w_uv");
    require_extent(w.w_uv, 2, w.w_uk.extent(2), "latent_attention: w_uv");
    require_extent(in.kv, 1, w.w_uk.extent(2) + in.q_pe.extent(2), "latent_attention: kv");
    require_extent(out.o, 0, queries, "latent_attention: o");
    require_extent(out.o, 1, heads, "latent_attention: o");
    require_extent(out.o, 2, w.w_uv.extent(1), "latent_attention: o");
    require_data(in.q_nope, "latent_attention: q_nope");
    require_data(in.q_pe, "latent_attention: q_pe");
    require_data(in.kv, "latent_attention: kv");
    require_data(w.w_uk, "latent_attention: w_uk");
    require_data(w.w_uv, "latent_attention: w_uv");
    require_data(out.o, "latent_attention: o");
    if constexpr (is_view<std::remove_cvref_t<decltype(out.lse)>>) {
      static_assert(decltype(out.lse)::rank == 2,
                    "deepseek::latent_attention: lse has the wrong rank; pass lse[queries, heads]");
      require_extent(out.lse, 0, queries, "latent_attention: lse");
      require_extent(out.lse, 1, heads, "latent_attention: lse");
      require_data(out.lse, "latent_attention: lse");
    }
  }
};
namespace ops {
inline constexpr latent_attention_op latent_attention{};
}

}  // namespace deepseek
