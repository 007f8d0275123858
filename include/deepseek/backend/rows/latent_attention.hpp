// SPDX-License-Identifier: Apache-2.0
// latent_attention, absorbed, from other ops, so for any backend that has gemm, copy and attention:
// a product a head, attention with one key-value head whose values are the first elements of its
// keys, a product a head; see ops/latent_attention.hpp.
#pragma once

#include "deepseek/ops/copy.hpp"
#include "deepseek/ops/gemm.hpp"
#include "deepseek/ops/latent_attention.hpp"

namespace deepseek {

namespace latent_rows {

// [tokens, heads, width] as one matrix [tokens, width] a head.
template <class T, class S, index_t N, index_t H, index_t D>
view<T, S, dyn, dyn, dyn> by_head(const view<T, S, N, H, D>& v) {
  return {
      v.data(), {v.extent(1), v.extent(0), v.extent(2)}, {v.stride(1), v.stride(0), v.stride(2)}};
}
// Elements first .. first + count - 1 of every head.
template <class T, class S, index_t N, index_t H, index_t D>
view<T, S, dyn, dyn, dyn> part(const view<T, S, N, H, D>& v, index_t first, index_t count) {
  return {v.data() + first * v.stride(2),
          {v.extent(0), v.extent(1), count},
          {v.stride(0), v.stride(1), v.stride(2)}};
}

}  // namespace latent_rows

// A: of the absorbed queries and of the weighted sums of latents.
template <class A, class B, class In, class W, class Out, class Spec>
void absorbed_attention(const B& b, const In& in, const W& w, const Out& out, const Spec& spec) {
  using namespace latent_rows;
  const index_t queries = in.q_nope.extent(0), heads = in.q_nope.extent(1);
  const index_t rank = w.w_uk.extent(2), rope = in.q_pe.extent(2), keys = in.kv.extent(0);
  const scope freed(b.workspace());
  const auto q = b.workspace().template make<A, dyn, dyn, dyn>(queries, heads, rank + rope);
  const auto sum = b.workspace().template make<A, dyn, dyn, dyn>(queries, heads, rank);
  ops::gemm(b, by_head(in.q_nope), w.w_uk, by_head(part(q, 0, rank)));
  ops::copy(b, in.q_pe, part(q, rank, rope));
  using rows_view = std::remove_cvref_t<decltype(in.kv)>;
  const view<typename rows_view::element_type, typename rows_view::space, dyn, dyn, dyn> kv(
      in.kv.data(), {keys, 1, rank + rope}, {in.kv.stride(0), 0, in.kv.stride(1)});
  ops::attention(b, attention_inputs{q, kv, part(kv, 0, rank)}, attention_outputs{sum, out.lse},
                 spec);
  ops::gemm(b, by_head(as_const(sum)), transposed(w.w_uv), by_head(out.o));
}

}  // namespace deepseek
