// SPDX-License-Identifier: Apache-2.0
// The contiguous key-value cache of one sequence: keys [capacity, W_k], values [capacity, W_v].
// Storage only: the length is the call's `start`, so rewinding is a smaller start. The model checks
// the capacity before anything is written.
#pragma once

#include "deepseek/core/call.hpp"
#include "deepseek/ops/copy.hpp"

namespace deepseek {

template <class T, class S, index_t Keys, index_t Values>
struct contiguous_cache {
  tensor<T, S, dyn, Keys> keys;
  tensor<T, S, dyn, Values> values;

  void reserve(index_t capacity) {
    keys = tensor<T, S, dyn, Keys>({capacity, Keys});
    values = tensor<T, S, dyn, Values>({capacity, Values});
  }
  index_t capacity() const { return keys.extent(0); }
  static constexpr index_t bytes_per_token() {
    return (Keys + Values) * static_cast<index_t>(sizeof(T));
  }

  // Writes rows start .. start + n - 1 and returns all keys and values up to there.
  template <class B, class K, class V>
  auto append(const B& b, index_t start, const K& k, const V& v) {
    const index_t n = k.extent(0);
    require(start >= 0 && start + n <= capacity(), error_code::index_range, "kv_cache: positions ",
            start, " .. ", start + n - 1, " do not fit a capacity of ", capacity(),
            "; make the cache larger or rewind");
    ops::copy(b, k, rows(keys.view(), start, n));
    ops::copy(b, v, rows(values.view(), start, n));
    return std::pair{as_const(rows(keys.view(), 0, start + n)),
                     as_const(rows(values.view(), 0, start + n))};
  }
};

}  // namespace deepseek
