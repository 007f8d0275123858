// SPDX-License-Identifier: Apache-2.0
// block_set<B>: positions are cut into blocks of B; each query sees the keys of the blocks that a
// table lists for it and for the key-value head of its query head: ids[rows, kv_heads, count]
// int32, row r the blocks of the batch's query row r, ascending, negative ones last. Made at run
// time (ops/block_top_k.hpp). It borrows the table, which must outlive it and live in the backend's
// memory. A listed block beyond the keys shows nothing. Both directions: both<causal, block_set<B>>
// looks back only. Cost of a query: the keys of its blocks; a question costs log(count).
// Source: Yuan et al. 2025 (native sparse attention), section 3.3.2.
#pragma once

#include "deepseek/core/view.hpp"
#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

template <index_t B>
struct block_set {
  static_assert(B >= 1, "deepseek::block_set: a block has no positions; write B >= 1");

  static constexpr bool alike_in_group = true, listed = true;

  const std::int32_t* data = nullptr;
  index_t rows = 0, kv_heads = 1, count = 0;
  index_t row_stride = 0, head_stride = 0, id_stride = 1;
  index_t group = 1;  // query heads that share a key-value head
  pattern_scope scope{};

  block_set() = default;
  template <class T, class S, index_t N, index_t H, index_t M>
  block_set(const view<T, S, N, H, M>& ids, index_t query_heads)
      : data(ids.data()),
        rows(ids.extent(0)),
        kv_heads(ids.extent(1)),
        count(ids.extent(2)),
        row_stride(ids.stride(0)),
        head_stride(ids.stride(1)),
        id_stride(ids.stride(2)),
        group(query_heads / (ids.extent(1) > 0 ? ids.extent(1) : 1)) {}

  static constexpr bool by_row() { return true; }
  DEEPSEEK_HOST_DEVICE block_set bind(const pattern_scope& to) const {
    block_set bound = *this;
    bound.scope = to;
    return bound;
  }

  DEEPSEEK_HOST_DEVICE bool visible(index_t q, index_t k) const {
    return next_block(q, k / B) == k / B;
  }
  DEEPSEEK_HOST_DEVICE std::uint64_t row_bits(index_t q, index_t k0) const {
    std::uint64_t bits = 0;
    for (index_t block = next_block(q, k0 / B); block != no_key && block * B < k0 + 64;
         block = next_block(q, block + 1)) {
      bits |= span_bits(block * B, block * B + B, k0);
    }
    return bits;
  }
  DEEPSEEK_HOST_DEVICE coverage cover(const tile& t) const {
    bool some = false, all = true;
    for (index_t q = t.q0; q < t.q1; ++q) {
      for (index_t block = t.k0 / B; block <= (t.k1 - 1) / B; ++block) {
        next_block(q, block) == block ? some = true : all = false;
      }
      if (some && !all) return coverage::partial;
    }
    return all ? coverage::full : coverage::none;
  }
  DEEPSEEK_HOST_DEVICE key_span next_keys(index_t q0, index_t q1, index_t from) const {
    index_t first = no_key;
    for (index_t q = q0; q < q1; ++q) {
      const index_t block = next_block(q, from / B);
      if (block < first) first = block;
    }
    if (first == no_key) return {};
    return {first * B > from ? first * B : from, first * B + B};
  }

 private:
  // The first listed block of query q at or after `block`; no_key: there is none.
  DEEPSEEK_HOST_DEVICE index_t next_block(index_t q, index_t block) const {
    const index_t row = scope.row + q - scope.start, kv = scope.head / group;
    if (row < 0 || row >= rows || kv >= kv_heads) return no_key;
    const std::int32_t* const ids = data + row * row_stride + kv * head_stride;
    index_t low = 0, high = count;
    while (low < high) {  // a negative id, read unsigned, is larger than any block
      const index_t middle = low + (high - low) / 2;
      unsigned_at(ids, middle) < block ? low = middle + 1 : high = middle;
    }
    if (low == count || ids[low * id_stride] < 0) return no_key;
    return unsigned_at(ids, low);
  }
  DEEPSEEK_HOST_DEVICE index_t unsigned_at(const std::int32_t* ids, index_t i) const {
    return static_cast<index_t>(static_cast<std::uint32_t>(ids[i * id_stride]));
  }
};

}  // namespace deepseek
