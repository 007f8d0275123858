// SPDX-License-Identifier: Apache-2.0
// A matrix or vector for tests, in guarded memory and with chosen strides; every gap is NaN.
#pragma once

#include <cstring>
#include <vector>

#include "deepseek/core/tensor.hpp"
#include "support/poison.hpp"

namespace row_cases {

namespace ds = deepseek;
using reals = std::vector<double>;

enum class strides { contiguous, padded, offset, transposed };

// A matrix (or, with one row, a vector) in guarded memory; what lies between its elements is NaN.
template <class T>
class grid {
 public:
  grid(std::size_t rows, std::size_t dim, strides how)
      : rows_(rows),
        dim_(dim),
        step_(how == strides::transposed ? 1 : dim + (how == strides::padded ? 3 : 0)),
        stride_(how == strides::transposed ? rows + 1 : 1),
        memory_(how == strides::transposed ? dim * (rows + 1) : rows * step_, support::poison<T>(),
                how == strides::offset ? 1 : 0) {}
  void fill(const reals& values) {
    for (std::size_t i = 0; i < values.size(); ++i) memory_[at(i)] = static_cast<T>(values[i]);
    memory_.remember();
  }

  ds::view<T, ds::host, ds::dyn, ds::dyn> matrix() {
    return {memory_.data(),
            {signed_of(rows_), signed_of(dim_)},
            {signed_of(step_), signed_of(stride_)}};
  }
  ds::view<T, ds::host, ds::dyn> vector() {
    return {memory_.data(), {signed_of(dim_)}, {signed_of(stride_)}};
  }
  std::vector<T> values() const {
    std::vector<T> out(rows_ * dim_);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = memory_[at(i)];
    return out;
  }
  bool unchanged() const { return memory_.intact() && memory_.unchanged(); }
  // Only elements were written, nothing between or around them.
  bool clean() const {
    std::vector<bool> used(memory_.size());
    for (std::size_t i = 0; i < rows_ * dim_; ++i) used[at(i)] = true;
    const T nan = support::poison<T>();
    for (std::size_t i = 0; i < used.size(); ++i) {
      if (!used[i] && std::memcmp(&memory_[i], &nan, sizeof(T)) != 0) return false;
    }
    return memory_.intact();
  }

 private:
  static ds::index_t signed_of(std::size_t n) { return static_cast<ds::index_t>(n); }
  std::size_t at(std::size_t i) const { return i / dim_ * step_ + i % dim_ * stride_; }

  std::size_t rows_, dim_, step_, stride_;
  support::guarded<T> memory_;
};

}  // namespace row_cases
