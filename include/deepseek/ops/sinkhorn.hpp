// SPDX-License-Identifier: Apache-2.0
// sinkhorn: n x n logits become a matrix whose rows and columns sum to nearly 1. M = softmax of
// each row + eps; then columns, rows, columns, ... are divided by their sum + eps: `iterations`
// divisions of columns, one less of rows. x, y [matrices, n, n]; y may be x. Backward goes through
// every division: forward runs again and its matrices are kept, 2 iterations x n x n numbers of
// scratch for one matrix at a time. dx is written and may be dy. Arithmetic in accumulate_t of y
// (dx), rounded once. Errors: shape_mismatch, invalid_argument (null data, iterations, eps),
// aliasing (an output overlaps an input and is not the same view).
// Bits do not depend on threads. Cost: 4 iterations n^2 flops. Sources: Sinkhorn and Knopp 1967;
// Xie et al. 2025 (manifold-constrained hyper-connections); the eps and the order of steps from
// DeepSeek's TileKernels.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct sinkhorn_spec {
  index_t iterations = 20;  // 1 .. 1e6
  double eps = 1e-6;        // >= 0
  bool operator==(const sinkhorn_spec&) const = default;
};

inline void require_sinkhorn(const sinkhorn_spec& spec, const char* op) {
  require(spec.iterations >= 1 && spec.iterations <= 1'000'000, error_code::invalid_argument, op,
          ": iterations is ", spec.iterations, "; pass 1 .. 1000000");
  require_epsilon(spec.eps, op);
}

struct sinkhorn_op {
  static constexpr std::string_view name = "sinkhorn";

  template <class B, class X, class Y>
  void operator()(const B& b, const X& x_in, Y&& y_in, const sinkhorn_spec& spec) const {
    const auto x = as_const(as_view(x_in));
    const auto y = as_view(y_in);
    check_spaces(b, x, y);
    static_assert(decltype(x)::rank == 3,
                  "deepseek::sinkhorn: wrong rank; pass x and y [matrices, n, n]");
    require_extent(x, 2, x.extent(1), "sinkhorn: x");
    require_same_shape(y, x, "sinkhorn: y");
    require_data(x, "sinkhorn: x");
    require_data(y, "sinkhorn: y");
    require_same_or_apart(x, y, "sinkhorn: x");
    require_sinkhorn(spec, "sinkhorn");
    if (!x.empty()) sinkhorn_impl(b, x, y, spec);
  }
};

struct sinkhorn_backward_op {
  static constexpr std::string_view name = "sinkhorn_backward";

  // x: the logits that forward got.
  template <class B, class X, class DY, class DX>
  void operator()(const B& b, const X& x_in, const DY& dy_in, DX&& dx_in,
                  const sinkhorn_spec& spec) const {
    const auto x = as_const(as_view(x_in));
    const auto dy = as_const(as_view(dy_in));
    const auto dx = as_view(dx_in);
    check_spaces(b, x, dy, dx);
    static_assert(decltype(x)::rank == 3,
                  "deepseek::sinkhorn: wrong rank; pass x, dy and dx [matrices, n, n]");
    require_extent(x, 2, x.extent(1), "sinkhorn_backward: x");
    require_same_shape(dy, x, "sinkhorn_backward: dy");
    require_same_shape(dx, x, "sinkhorn_backward: dx");
    require_data(x, "sinkhorn_backward: x");
    require_data(dy, "sinkhorn_backward: dy");
    require_data(dx, "sinkhorn_backward: dx");
    require_same_or_apart(dy, dx, "sinkhorn_backward: dy");
    require_sinkhorn(spec, "sinkhorn_backward");
    if (!x.empty()) sinkhorn_backward_impl(b, x, dy, dx, spec);
  }
};

namespace ops {
inline constexpr sinkhorn_op sinkhorn{};
inline constexpr sinkhorn_backward_op sinkhorn_backward{};
}  // namespace ops

}  // namespace deepseek
