// SPDX-License-Identifier: Apache-2.0
// streaming<N, W>: the first N tokens (sinks, which soak up the weight that a query has no use for)
// and the last W, the query's own among them: k <= q and (k < N or q - k < W). Looks back only;
// either<global_tokens<N>, local<W>> is the like of it in both directions. Cost of a query: N + W
// keys. Source: Xiao et al. 2023 (StreamingLLM), section 3.2; positions here are those of the text,
// there those in the cache.
#pragma once

#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

template <index_t N, index_t W>
struct streaming {
  static_assert(N >= 0, "deepseek::streaming: the number of sinks is negative; write 0 or more");
  static_assert(W >= 1, "deepseek::streaming: the window counts the query's own; write W >= 1");
  static constexpr reach sees = reach::past;

  DEEPSEEK_HOST_DEVICE static constexpr bool visible(index_t q, index_t k) {
    return k <= q && (k < N || q - k < W);
  }
  DEEPSEEK_HOST_DEVICE static constexpr coverage cover(const tile& t) {
    if (t.k0 > t.q1 - 1 || (t.k0 >= N && t.q0 - (t.k1 - 1) >= W)) return coverage::none;
    const index_t beyond = t.k0 > N ? t.k0 : N;  // the first key that is no sink
    const bool all = t.k1 - 1 <= t.q0 && (t.k1 <= N || t.q1 - 1 - beyond < W);
    return all ? coverage::full : coverage::partial;
  }
  DEEPSEEK_HOST_DEVICE static constexpr key_span next_keys(index_t q0, index_t q1, index_t from) {
    const index_t sinks = N < q1 ? N : q1;
    if (from < sinks) return {from, sinks};
    const index_t first = q0 - W + 1 > from ? q0 - W + 1 : from;
    return first < q1 ? key_span{first, q1} : key_span{};
  }
  DEEPSEEK_HOST_DEVICE static constexpr std::uint64_t row_bits(index_t q, index_t k0) {
    const std::uint64_t window = span_bits(q - W + 1, q + 1, k0);
    return window | span_bits(0, N < q + 1 ? N : q + 1, k0);
  }
};

}  // namespace deepseek
