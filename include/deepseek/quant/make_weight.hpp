// SPDX-License-Identifier: Apache-2.0
// make_weight(format, weights, observed range, out): stores weights in a format, on the host, once.
// weights: a tensor or view [out, in], or [experts, out, in] for a stack. One expert alone, so that
// a stack can be filled matrix by matrix:
//   make_expert_weight(format, matrix, observed range, out, expert)
// A matrix is anything with value_type, extent(0), extent(1) and (row, column) -> number: a view of
// floats, or weights of another format seen as numbers (fp8_matrix). Formats define
// make_expert_weight beside their weight types.
// Errors: shape_mismatch, nonfinite (a weight is NaN or infinite; named), index_range (expert). In
// make_weight nothing is written where a weight is refused.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/parameters.hpp"
#include "deepseek/quant/calibrate.hpp"
#include "deepseek/quant/format.hpp"

#include <cmath>
#include <limits>

namespace deepseek {

template <class S>
struct stack_of {
  using space = S;
  static constexpr index_t count = 1;
};
template <index_t N, class S>
struct stack_of<stacked<N, S>> {
  using space = S;
  static constexpr index_t count = N;
};

// What a format needs to know before it stores a matrix as expert `expert` of `experts`.
struct weight_shape {
  index_t experts, out, in;
};
template <class M>
void require_weight_shape(const char* format, const M& m, const weight_shape& want,
                          index_t expert) {
  require(expert >= 0 && expert < want.experts, error_code::index_range, format, ": expert ",
          expert, " of ", want.experts, "; choose one of the stack");
  require(m.extent(0) == want.out && m.extent(1) == want.in, error_code::shape_mismatch, format,
          ": the weights are [", m.extent(0), ", ", m.extent(1), "], expected [", want.out, ", ",
          want.in, "]; pass [out, in] of this layer");
}

// As floats: a double beyond float counts as infinite.
template <class M>
void require_finite_matrix(const char* format, const M& m, index_t expert) {
  for (index_t n = 0; n < m.extent(0); ++n) {
    for (index_t k = 0; k < m.extent(1); ++k) {
      const double value = static_cast<double>(m(n, k));
      require(std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max()),
              error_code::nonfinite, format, ": weight[", expert, ", ", n, ", ", k,
              "] (expert, output, input) is ", value,
              "; quantize a model whose weights are finite floats");
    }
  }
}

// Formats that are a tensor [out, in] of floating numbers: each is rounded once; NaN and infinity
// stay what they are in the file.
template <class F>
concept ElementFormat = F::stores_elements;

template <class F, class Plain, class Out>
void make_weight(const F& format, const Plain& weights, const observed_range& seen, Out& out) {
  const auto w = as_const(as_view(weights));
  if constexpr (decltype(w)::rank == 2) {
    make_expert_weight(format, w, seen, out, 0);
  } else {
    if constexpr (!ElementFormat<F>) {
      for (index_t e = 0; e < w.extent(0); ++e) require_finite_matrix(F::name, slice(w, e), e);
    }
    for (index_t e = 0; e < w.extent(0); ++e) make_expert_weight(format, slice(w, e), seen, out, e);
  }
}

template <ElementFormat F, class M, class T, class S, index_t O, index_t I>
void make_expert_weight(const F&, const M& from, const observed_range&, tensor<T, S, O, I>& out,
                        index_t expert) {
  static_assert(std::is_same_v<typename stack_of<S>::space, host>,
                "deepseek::make_weight: weights are made on the host; make them there and copy");
  require_weight_shape(F::name, from, {stack_of<S>::count, O, I}, expert);
  T* const to = out.data() + expert * O * I;
  for (index_t n = 0; n < O; ++n) {
    for (index_t k = 0; k < I; ++k) to[n * I + k] = static_cast<T>(from(n, k));
  }
}

}  // namespace deepseek
