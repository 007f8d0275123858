// SPDX-License-Identifier: Apache-2.0
// Memory of the cases: tensors of floats and integers, filled with reproducible numbers, and the
// comparison of two results.
#pragma once

#include "deepseek/core/tensor.hpp"

#include <vector>

namespace bench {

namespace ds = deepseek;
using ds::index_t;

using vec = ds::tensor<float, ds::host, ds::dyn>;
using matrix = ds::tensor<float, ds::host, ds::dyn, ds::dyn>;
using cube = ds::tensor<float, ds::host, ds::dyn, ds::dyn, ds::dyn>;
using integers = ds::tensor<std::int32_t, ds::host, ds::dyn>;
using integer_matrix = ds::tensor<std::int32_t, ds::host, ds::dyn, ds::dyn>;

struct interval {
  float low = -1, high = 1;
};
void fill(float* data, index_t count, unsigned seed, interval in);
void fill(std::int32_t* data, index_t count, unsigned seed, std::int32_t below);

// A new tensor of such numbers.
template <class Tensor>
Tensor filled(const typename Tensor::extents_array& extents, unsigned seed, interval in = {}) {
  Tensor t(extents);
  fill(t.data(), t.size(), seed, in);
  return t;
}
template <class Tensor>
Tensor drawn(const typename Tensor::extents_array& extents, unsigned seed, std::int32_t below) {
  Tensor t(extents);
  fill(t.data(), t.size(), seed, below);
  return t;
}

// One result of a case. `terms`: how many were added up for each element.
struct output {
  const float* values = nullptr;
  const std::int32_t* integers = nullptr;
  index_t count = 0;
  double terms = 1;
};
template <class Tensor>
output out(const Tensor& t, double terms = 1) {
  if constexpr (std::is_same_v<typename Tensor::value_type, float>) {
    return {t.data(), nullptr, t.size(), terms};
  } else {
    return {nullptr, t.data(), t.size(), terms};
  }
}

// Largest difference over the largest value, in units of 16 sqrt(terms) roundings; integers must be
// equal. Not a number, or two results of zeros only (nothing was computed): infinite.
double difference(const output& got, const output& want);
double difference(const std::vector<output>& got, const std::vector<output>& want);

}  // namespace bench
