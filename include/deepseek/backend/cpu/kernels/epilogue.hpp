// SPDX-License-Identifier: Apache-2.0
// What is done to a finished tile of a product while it is in cache: y = activation(c + bias) +
// residual, each part optional. bias [n], residual [m, n] with a row stride of its own (it may be
// C's own place only where the product did not start from it). A lane gets the same operations at
// every place of the matrix.
#pragma once

#include <algorithm>
#include <cstddef>

#include "deepseek/backend/cpu/vector_math.hpp"

namespace deepseek::kernels {

enum class activation { none, relu, silu, gelu };

template <class T>
struct epilogue {
  const T* bias = nullptr;
  activation function = activation::none;
  const T* residual = nullptr;
  std::ptrdiff_t residual_row = 0;

  bool does_nothing() const {
    return bias == nullptr && residual == nullptr && function == activation::none;
  }
  // The same, seen from element (i, j).
  epilogue from(std::ptrdiff_t i, std::ptrdiff_t j) const {
    return {bias == nullptr ? bias : bias + j, function,
            residual == nullptr ? residual : residual + i * residual_row + j, residual_row};
  }
};

template <class T>
DEEPSEEK_INLINE simd::pack<T> apply(activation f, simd::pack<T> x) {
  switch (f) {
    case activation::relu:
      return simd::max(simd::pack<T>::zero(), x);
    case activation::silu:
      return simd::silu(x);
    case activation::gelu:
      return simd::gelu(x);
    default:
      return x;
  }
}

template <class T>
__attribute__((noinline)) void finish_row(T* c, std::ptrdiff_t n, const epilogue<T>& e) {
  using simd::pack;
  for (std::ptrdiff_t j = 0; j < n; j += pack<T>::width) {
    const std::ptrdiff_t rest = n - j;
    auto x = pack<T>::load_up_to(c + j, rest);
    if (e.bias != nullptr) x = x + pack<T>::load_up_to(e.bias + j, rest);
    x = apply(e.function, x);
    if (e.residual != nullptr) x = x + pack<T>::load_up_to(e.residual + j, rest);
    x.store_up_to(c + j, rest);
  }
}

template <class T>
void finish(T* c, std::ptrdiff_t c_row, std::ptrdiff_t m, std::ptrdiff_t n, const epilogue<T>& e) {
  if (e.does_nothing()) return;
  for (std::ptrdiff_t i = 0; i < m; ++i) finish_row(c + i * c_row, n, e.from(i, 0));
}

}  // namespace deepseek::kernels
