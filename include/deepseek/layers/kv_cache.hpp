// SPDX-License-Identifier: Apache-2.0
// The contiguous key-value cache of one sequence: keys [capacity, W_k], values [capacity, W_v]; the
// latent cache: rows [capacity, kv_rank + rope_dim], the normed latent, then the rotated key part.
// Storage only: the length is the call's `start`, so rewinding is a smaller start. The model checks
// the capacity before anything is written.
#pragma once

#include "deepseek/core/call.hpp"
#include "deepseek/ops/copy.hpp"

namespace deepseek {

inline void require_fits(index_t start, index_t n, index_t capacity) {
  require(start >= 0 && start + n <= capacity, error_code::index_range, "kv_cache: positions ",
          start, " .. ", start + n - 1, " do not fit a capacity of ", capacity,
          "; make the cache larger or rewind");
}

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
    require_fits(start, n, capacity());
    ops::copy(b, k, rows(keys.view(), start, n));
    ops::copy(b, v, rows(values.view(), start, n));
    return std::pair{as_const(rows(keys.view(), 0, start + n)),
                     as_const(rows(values.view(), 0, start + n))};
  }
};

template <class T, class S, index_t KVRank, index_t RopeDim>
struct latent_cache {
  static constexpr index_t width = KVRank + RopeDim;
  tensor<T, S, dyn, width> latents;

  void reserve(index_t capacity) { latents = tensor<T, S, dyn, width>({capacity, width}); }
  index_t capacity() const { return latents.extent(0); }
  static constexpr index_t bytes_per_token() { return width * static_cast<index_t>(sizeof(T)); }

  // Writes rows start .. start + n - 1 and returns all rows up to there.
  template <class B, class V>
  auto append(const B& b, index_t start, const V& v) {
    const index_t n = v.extent(0);
    require_fits(start, n, capacity());
    ops::copy(b, v, rows(latents.view(), start, n));
    return as_const(rows(latents.view(), 0, start + n));
  }
};

}  // namespace deepseek
