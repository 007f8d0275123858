// SPDX-License-Identifier: Apache-2.0
// attention_weights on the cpu, float or double, any strides of q and k and contiguous rows of p:
// tiles of 32 queries by 64 keys, a product a head, its exponentials added in the order of heads;
// see ops/attention_weights.hpp. Other types take the reference.
#pragma once

#include "deepseek/backend/cpu/attention.hpp"
#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/attention_weights.hpp"

namespace deepseek {

namespace cpu_attention {

inline constexpr index_t weight_rows = 32;

template <class T, class In, class P, class Pattern>
struct weight_tile {
  const In& in;
  const P& p;
  const Pattern& pattern;
  attention_range range;
  T scale;

  // Queries first .. first + rows - 1 of the sequence against the keys from k0 on.
  void run(index_t first, index_t rows, index_t k0) const {
    using pack = simd::pack<T>;
    alignas(64) T s[weight_rows * key_tile], sum[weight_rows * key_tile];
    std::uint64_t bits[weight_rows], any = 0;
    for (index_t i = 0; i < rows; ++i) {
      bits[i] = row_bits(pattern, range.start + first + i, k0) & span_bits(0, range.keys, k0);
      any |= bits[i];
    }
    const index_t heads = in.q.extent(1), group = heads / in.k.extent(1);
    const index_t here = std::min(key_tile, range.keys - k0);
    std::fill_n(sum, rows * key_tile, T(0));
    for (index_t h = 0; any != 0 && h < heads; ++h) {
      multiply(first, rows, k0, h, h / group, s);
      for (index_t i = 0; i < rows; ++i) {
        const T lse = in.lse(range.query + first + i, h);
        if (lse == -std::numeric_limits<T>::infinity()) continue;
        for (index_t j = 0; j < here; j += lanes<T>) {
          T* const to = sum + i * key_tile + j;
          const pack scaled = pack::load(s + i * key_tile + j) * pack::broadcast(scale);
          const pack weight = simd::exp(scaled - pack::broadcast(lse));
          (pack::load(to) + select_bits(bits[i] >> j, weight, pack::zero())).store(to);
        }
      }
    }
    for (index_t i = 0; i < rows; ++i) {
      T* const to = &p(range.query + first + i, k0);
      for (index_t j = 0; j < here; ++j) to[j] = sum[i * key_tile + j] / static_cast<T>(heads);
    }
  }

 private:
  void multiply(index_t first, index_t rows, index_t k0, index_t h, index_t kv, T* s) const {
    const T* const q = in.q.data() + (range.query + first) * in.q.stride(0) + h * in.q.stride(1);
    const T* const k = in.k.data() + (range.key + k0) * in.k.stride(0) + kv * in.k.stride(1);
    kernels::tile_gemm<T>({rows, std::min(key_tile, range.keys - k0), in.q.extent(2)},
                          {q, in.q.stride(0), in.q.stride(2)}, {k, in.k.stride(2), in.k.stride(0)},
                          {s, key_tile});
  }
};

}  // namespace cpu_attention

template <class In, class P, class Spec>
requires cpu_attention::one_type<decltype(In::q), decltype(In::k), decltype(In::lse), P>
void attention_weights_impl(const cpu& b, const In& in, const P& p, const Spec& spec) {
  namespace tiles = cpu_attention;
  using T = typename P::value_type;
  if (!unit_rows(p)) {
    return attention_weights_impl(static_cast<const reference&>(b), in, p, spec);
  }
  for (index_t s = 0; s < sequence_count(spec); ++s) {
    const auto range = sequence_range(spec, s, in.q.extent(0), in.k.extent(0));
    const auto pattern = bind_pattern(spec.pattern, scope_of(range, 0));
    const tiles::weight_tile<T, In, P, std::remove_const_t<decltype(pattern)>> tile{
        in, p, pattern, range, static_cast<T>(spec.scale)};
    parallel_rows(b, range.queries, tiles::weight_rows, [&](index_t first, index_t last) {
      for (index_t k0 = 0; k0 < range.keys; k0 += tiles::key_tile) {
        tile.run(first, last - first, k0);
      }
      for (index_t i = first; i < last; ++i) {
        T* const row = p.data() + (range.query + i) * p.stride(0);
        std::fill(row + range.keys, row + p.extent(1), T(0));
      }
    });
  }
}

}  // namespace deepseek
