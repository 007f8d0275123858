// SPDX-License-Identifier: Apache-2.0
// What the indexer's kernels share: which sequence a row is of, who sees whom, ReLU.
#pragma once

#include "deepseek/backend/cuda/attention/tiles.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/lightning_indexer.hpp"

namespace deepseek::cuda_indexer {

using namespace cuda_attention;

// The last sequence that begins at or before `row`.
template <class Offsets>
DEEPSEEK_HOST_DEVICE index_t sequence_holding(const Offsets& offsets, index_t row) {
  index_t low = 0, high = offsets.extent(0) - 2;
  while (low < high) {
    const index_t middle = low + (high - low + 1) / 2;
    offsets(middle) <= row ? low = middle : high = middle - 1;
  }
  return low < 0 ? 0 : low;
}

// f(sequence, first, count): rows first .. first + count - 1 of the batch are of one sequence; for
// all of first .. first + count - 1 in order. Offsets: of queries or of keys.
template <class Spec, class Offsets, class F>
DEEPSEEK_HOST_DEVICE void each_sequence(const Spec& spec, const Offsets& offsets, index_t queries,
                                        index_t keys, index_t first, index_t count, const F& f) {
  const index_t end = first + count;
  for (index_t row = first; row < end;) {
    const index_t s = offsets.extent(0) > 0 ? sequence_holding(offsets, row) : 0;
    const index_t last = offsets.extent(0) > 0 ? offsets(s + 1) : end;
    const index_t here = (last < end ? last : end) - row;
    f(sequence_at(spec, s, queries, keys), row, here);
    row += here;
  }
}

template <class A>
DEEPSEEK_HOST_DEVICE A relu(A x) {
  return x < A(0) ? A(0) : x;  // NaN stays NaN
}

// Row r of 16 against key k0 + j: whether it is seen. Rows first .. of a sequence.
template <class P>
DEEPSEEK_HOST_DEVICE std::uint64_t seen_keys(const P& pattern, index_t position, index_t k0,
                                             index_t keys) {
  return row_bits(pattern, position, k0) & span_bits(0, keys, k0);
}

}  // namespace deepseek::cuda_indexer
