// SPDX-License-Identifier: Apache-2.0
// Short names for the views of tests/cuda/kernels.
#pragma once

#include "deepseek/cuda.cuh"

namespace ds = deepseek;

template <class T>
using row = ds::view<T, ds::device, ds::dyn>;
template <class T>
using matrix = ds::view<T, ds::device, ds::dyn, ds::dyn>;
template <class T>
using batch = ds::view<T, ds::device, ds::dyn, ds::dyn, ds::dyn>;
using indices = ds::view<std::int32_t, ds::device, ds::dyn>;

template <class T>
batch<T> as_batch(const matrix<T>& m) {
  return {m.data(), {1, m.extent(0), m.extent(1)}, {0, m.stride(0), m.stride(1)}};
}
