// SPDX-License-Identifier: Apache-2.0
// given_mask: who sees whom as a table, mask[queries, keys], nonzero = visible: what no rule says.
// It borrows the table, which must outlive it and live in the backend's memory. Position = row or
// column, so attention needs start = 0. Outside the table nothing is visible. cover reads the tile:
// cost and memory grow with queries x keys, which every other pattern avoids.
#pragma once

#include "deepseek/core/view.hpp"
#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

struct given_mask {
  const std::uint8_t* data = nullptr;
  index_t queries = 0, keys = 0;
  index_t row_stride = 0, key_stride = 1;

  given_mask() = default;
  template <class T, class S, index_t N, index_t M>
  explicit given_mask(const view<T, S, N, M>& mask)
      : data(mask.data()),
        queries(mask.extent(0)),
        keys(mask.extent(1)),
        row_stride(mask.stride(0)),
        key_stride(mask.stride(1)) {}

  DEEPSEEK_HOST_DEVICE bool visible(index_t q, index_t k) const {
    if (q < 0 || q >= queries || k < 0 || k >= keys) return false;
    return data[q * row_stride + k * key_stride] != 0;
  }
  DEEPSEEK_HOST_DEVICE coverage cover(const tile& t) const {
    bool some = false, all = true;
    for (index_t q = t.q0; q < t.q1; ++q) {
      for (index_t k = t.k0; k < t.k1; ++k) visible(q, k) ? some = true : all = false;
      if (some && !all) return coverage::partial;
    }
    return all ? coverage::full : coverage::none;
  }
};

}  // namespace deepseek
