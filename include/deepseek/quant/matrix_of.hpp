// SPDX-License-Identifier: Apache-2.0
// matrix_of(weight, expert): a stored weight of any format seen as numbers: (row, column) is the
// number that the weight counts as. For reports and tests, not for products.
#pragma once

#include "deepseek/quant/int8.hpp"
#include "deepseek/quant/smoothed.hpp"

namespace deepseek {

template <class Space>
struct int8_matrix {
  int8_operand<Space> of_expert;
  float operator()(index_t n, index_t k) const {
    return static_cast<float>(of_expert.q(0, of_expert.layout().at(n, k))) * of_expert.scale(0, n);
  }
};
// Seen through its scales: the product of the plain inputs meets W again.
template <class M>
struct unsmoothed_matrix {
  M inner;
  const float* input_scale;
  float operator()(index_t n, index_t k) const {
    return static_cast<float>(inner(n, k)) * input_scale[k];
  }
};

template <class W>
auto matrix_of(const W& w, index_t expert) {
  if constexpr (is_tensor<W> || is_stacked<W>) {
    const auto v = as_const(w.view());
    if constexpr (decltype(v)::rank == 3) {
      return slice(v, expert);
    } else {
      return v;
    }
  } else if constexpr (requires { w.input_scale; }) {
    using inner = decltype(matrix_of(w.inner, expert));
    return unsmoothed_matrix<inner>{matrix_of(w.inner, expert), w.input_scale.data()};
  } else if constexpr (requires { w.expert(expert)(expert, expert); }) {
    return w.expert(expert);
  } else if constexpr (requires { w.operand().expert(expert)(expert, expert); }) {
    return w.operand().expert(expert);
  } else {
    return int8_matrix<typename W::space>{w.operand().expert(expert)};
  }
}

}  // namespace deepseek
