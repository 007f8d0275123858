// SPDX-License-Identifier: Apache-2.0
// block_top_k on the cpu: tasks of 32 queries and one key-value head on all threads; float and
// double, any strides: tiles of 32 queries by 64 entries, a product a head, its exponentials added
// to the blocks in the order of entries. Other types take the reference's loops on all threads. See
// ops/block_top_k.hpp.
#pragma once

#include "deepseek/backend/cpu/attention.hpp"
#include "deepseek/backend/cpu/kernels/scratch.hpp"
#include "deepseek/backend/reference/block_top_k.hpp"

namespace deepseek {

namespace cpu_attention {

inline constexpr index_t scored_rows = 32;
struct importance_memory;

// Queries of one sequence that look through one key-value head.
template <class T, class In, class Spec>
struct scored_blocks {
  const In& in;
  const Spec& spec;
  const block_rule& rule;
  attention_range range;
  index_t kv;

  index_t position(index_t i) const { return range.start + i; }
  index_t blocks(index_t i) const { return position(i) / (rule.ratio * rule.windows) + 1; }

  // Adds to importance[row, block] of queries first .. first + count - 1.
  void add(index_t first, index_t count, const view<T, host, dyn, dyn>& importance) const {
    alignas(64) T s[scored_rows * key_tile];
    std::uint64_t bits[scored_rows];
    const index_t group = in.q.extent(1) / in.k.extent(1);
    for (index_t h = kv * group; h < (kv + 1) * group; ++h) {
      const auto pattern = bind_pattern(spec.pattern, scope_of(range, h));
      for (index_t k0 = 0; k0 < range.keys; k0 += key_tile) {
        std::uint64_t any = 0;
        for (index_t i = 0; i < count; ++i) {
          bits[i] = row_bits(pattern, position(first + i), k0) & span_bits(0, range.keys, k0);
          any |= bits[i];
        }
        if (any == 0) continue;
        multiply(first, count, k0, h, s);
        for (index_t i = 0; i < count; ++i) {
          const T lse = in.lse(range.query + first + i, h);
          if (lse == -std::numeric_limits<T>::infinity() || bits[i] == 0) continue;
          weigh(s + i * key_tile, lse, bits[i]);
          spread(s + i * key_tile, k0, bits[i], slice(importance, i), blocks(first + i));
        }
      }
    }
  }

 private:
  void multiply(index_t first, index_t count, index_t k0, index_t h, T* s) const {
    const T* const q = in.q.data() + (range.query + first) * in.q.stride(0) + h * in.q.stride(1);
    const T* const k = in.k.data() + (range.key + k0) * in.k.stride(0) + kv * in.k.stride(1);
    kernels::tile_gemm<T>({count, std::min(key_tile, range.keys - k0), in.q.extent(2)},
                          {q, in.q.stride(0), in.q.stride(2)}, {k, in.k.stride(2), in.k.stride(0)},
                          {s, key_tile});
  }
  // s = e^(scale s - lse), 0 where hidden.
  void weigh(T* s, T lse, std::uint64_t bits) const {
    using pack = simd::pack<T>;
    for (index_t j = 0; j < range_of(bits).high; j += lanes<T>) {
      const pack scaled = pack::load(s + j) * pack::broadcast(static_cast<T>(spec.scale));
      const pack weight = simd::exp(scaled - pack::broadcast(lse));
      select_bits(bits >> j, weight, pack::zero()).store(s + j);
    }
  }
  template <class Row>
  void spread(const T* p, index_t k0, std::uint64_t bits, const Row& importance,
              index_t count) const {
    for (; bits != 0; bits &= bits - 1) {
      const index_t e = k0 + std::countr_zero(bits), own = e / rule.windows;
      if (own < count) importance(own) += p[e - k0];
      if (rule.entries == overlap::absent || e == 0) continue;
      if ((e - 1) / rule.windows < count) importance((e - 1) / rule.windows) += p[e - k0];
    }
  }
};

}  // namespace cpu_attention

template <class In, class Ids, class Spec>
void block_top_k_impl(const cpu& b, const In& in, const Ids& ids, const Spec& spec,
                      const block_rule& rule) {
  using A = accumulate_t<typename decltype(in.q)::value_type>;
  choose_all_blocks<A>(
      in, ids, spec, rule, [&](index_t n, const auto& f) { b.parallel(n, f); },
      [](index_t n) {
        return kernels::scratch<cpu_attention::importance_memory, A>(static_cast<std::size_t>(n));
      });
}

template <class In, class Ids, class Spec>
requires cpu_attention::one_type<decltype(In::q), decltype(In::k), decltype(In::lse)>
void block_top_k_impl(const cpu& b, const In& in, const Ids& ids, const Spec& spec,
                      const block_rule& rule) {
  namespace tiles = cpu_attention;
  using T = typename decltype(In::q)::value_type;
  const index_t kv_heads = in.k.extent(1);
  for (index_t s = 0; s < sequence_count(spec); ++s) {
    const auto range = sequence_range(spec, s, in.q.extent(0), in.k.extent(0));
    const index_t parts = (range.queries + tiles::scored_rows - 1) / tiles::scored_rows;
    b.parallel(parts * kv_heads, [&](index_t task) {
      const index_t first = task / kv_heads * tiles::scored_rows, kv = task % kv_heads;
      const index_t count = std::min(tiles::scored_rows, range.queries - first);
      const tiles::scored_blocks<T, In, Spec> of{in, spec, rule, range, kv};
      const index_t most = of.blocks(first + count - 1);
      T* const memory =
          kernels::scratch<tiles::importance_memory, T>(static_cast<std::size_t>(count * most));
      const view<T, host, dyn, dyn> importance(memory, {count, most});
      std::fill_n(memory, count * most, T(0));
      of.add(first, count, importance);
      for (index_t i = 0; i < count; ++i) {
        const view<T, host, dyn> row(memory + i * most, {of.blocks(first + i)});
        choose_blocks(rule, row, slice(slice(ids, range.query + first + i), kv));
      }
    });
  }
}

}  // namespace deepseek
