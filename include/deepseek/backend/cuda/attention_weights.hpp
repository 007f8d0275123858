// SPDX-License-Identifier: Apache-2.0
// attention_weights on the device: a block for 64 queries of a sequence by 64 keys, a product for
// each head through shared memory (gemm.hpp), its exponentials added in registers in the order of
// heads; see ops/attention_weights.hpp. Plain multiply-adds, any types and strides; not measured.
#pragma once

#include "deepseek/backend/cuda/attention/tiles.hpp"
#include "deepseek/backend/cuda/gemm.hpp"
#include "deepseek/ops/attention_weights.hpp"

#include <cmath>

namespace deepseek {

namespace cuda_attention_weights {

inline constexpr int tile = cuda_gemm::tile, each = cuda_gemm::each;
static_assert(tile == cuda_attention::key_tile);

// Head h of v [n, heads, d] as rows [n, d]; its first `count` rows count.
template <class T, class S, index_t N, index_t H, index_t D>
DEEPSEEK_HOST_DEVICE view<T, S, dyn, dyn> head_rows(const view<T, S, N, H, D>& v, index_t h,
                                                    index_t count) {
  return {v.data() + h * v.stride(1), {count, v.extent(2)}, {v.stride(0), v.stride(2)}};
}

template <class In, class P, class Spec>
struct kernel {
  using A = accumulate_t<typename P::value_type>;
  static constexpr int threads = 256;
  In in;
  P p;
  Spec spec;

  DEEPSEEK_HOST_DEVICE index_t across() const { return (p.extent(1) + tile - 1) / tile; }
  index_t blocks() const {
    return cuda_attention::slot_count(spec.query_offsets, in.q.extent(0), tile) * across();
  }
  static std::size_t shared_bytes() { return cuda_gemm::tile_bytes<A>() + tile * sizeof(bits); }
  using bits = std::uint64_t;

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const auto slot = cuda_attention::slot_at(spec.query_offsets, tile, block.index() / across());
    const auto seq =
        cuda_attention::sequence_at(spec, slot.sequence, in.q.extent(0), in.k.extent(0));
    const index_t first = slot.tile * tile, k0 = block.index() % across() * tile;
    if (first >= seq.queries) return;
    auto* const seen = reinterpret_cast<bits*>(block.shared());
    if (block.rank() < tile) {
      const auto pattern = bind_pattern(spec.pattern, seq.scope(0));
      const bool exists = first + block.rank() < seq.queries;
      seen[block.rank()] = !exists ? 0
                                   : span_bits(0, seq.keys, k0) &
                                         row_bits(pattern, seq.start + first + block.rank(), k0);
    }
    block.sync();
    bits any = 0;
    for (int r = 0; r < tile; ++r) any |= seen[r];
    A sums[each][each] = {};
    for (index_t h = 0; any != 0 && h < in.q.extent(1); ++h)
      add_head(block, seq, h, {first, k0}, sums);
    write(block, seq.query, {first, k0, seq.queries}, sums);
  }

  template <class Block, class Sequence>
  DEEPSEEK_HOST_DEVICE void add_head(const Block& block, const Sequence& seq, index_t h,
                                     const index_t (&at)[2], A (&sums)[each][each]) const {
    const auto* const seen = reinterpret_cast<const bits*>(block.shared());
    const index_t kv = h / (in.q.extent(1) / in.k.extent(1)), end = seq.query + seq.queries;
    const int row = block.rank() / 16 * each, column = block.rank() % 16 * each;
    cuda_gemm::tile_sums<A> products;
    products.run(block, head_rows(in.q, h, end),
                 transposed(head_rows(in.k, kv, seq.key + seq.keys)), seq.query + at[0], end,
                 seq.key + at[1], reinterpret_cast<A*>(block.shared() + tile * sizeof(bits)));
    for (int i = 0; i < each; ++i) {
      if (seen[row + i] == 0) continue;
      const A lse = static_cast<A>(in.lse(seq.query + at[0] + row + i, h));
      if (lse == -math::infinity<A>) continue;
      for (int j = 0; j < each; ++j) {
        const A weight = std::exp(products.sums[i][j] * static_cast<A>(spec.scale) - lse);
        if ((seen[row + i] >> (column + j) & 1) != 0) sums[i][j] += weight;
      }
    }
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void write(const Block& block, index_t query, const index_t (&at)[3],
                                  const A (&sums)[each][each]) const {
    const index_t row = at[0] + block.rank() / 16 * each, column = at[1] + block.rank() % 16 * each;
    const A heads = static_cast<A>(in.q.extent(1));
    for (int i = 0; i < each && row + i < at[2]; ++i) {
      for (int j = 0; j < each && column + j < p.extent(1); ++j) {
        p(query + row + i, column + j) = static_cast<typename P::value_type>(sums[i][j] / heads);
      }
    }
  }
};

}  // namespace cuda_attention_weights

template <DeviceBackend B, class In, class P, class Spec>
void attention_weights_impl(const B& b, const In& in, const P& p, const Spec& spec) {
  b.launch(cuda_attention_weights::kernel<In, P, Spec>{in, p, spec});
}

}  // namespace deepseek
