// SPDX-License-Identifier: Apache-2.0
// grouped_gemm: y[r] = x[r] w[e] for the rows r = offsets[e] .. offsets[e + 1] - 1 of expert e.
// Shapes: x [R, K], w [E, K, N] (any strides), offsets [E + 1] int32 from 0 to R, y [R, N].
// Types and order as in gemm. Experts without rows cost nothing. Cost: 2 R K N flops.
// Backward: dx[r] = dy[r] w[e]^T is written, dw[e] += x_e^T dy_e.
// Biases [E, N] come after it: add_expert_bias: y[r] += bias[e]; add_expert_sums: their gradient,
// out[e] += sum of the rows of e.
// Errors: shape_mismatch, invalid_argument, aliasing (y overlaps x or w), offsets (not from 0,
// falling, beyond R; on a device they are what expert_plan made there and are trusted).
#pragma once

#include "deepseek/ops/gemm.hpp"

namespace deepseek {

struct grouped_gemm_op {
  static constexpr std::string_view name = "grouped_gemm";

  template <class B, class X, class W, class O, class Y>
  void operator()(const B& b, const X& x_in, const W& w_in, const O& offsets_in, Y&& y_in) const {
    const auto x = as_const(as_view(x_in));
    const auto w = as_const(as_view(w_in));
    const auto offsets = as_const(as_view(offsets_in));
    const auto y = as_view(y_in);
    check_spaces(b, x, w, offsets, y);
    static_assert(decltype(x)::rank == 2 && decltype(w)::rank == 3 && decltype(y)::rank == 2 &&
                      decltype(offsets)::rank == 1,
                  "deepseek::grouped_gemm: pass x[R, K], w[E, K, N], offsets[E + 1], y[R, N]");
    require_extent(w, 1, x.extent(1), "grouped_gemm: w");
    require_extent(offsets, 0, w.extent(0) + 1, "grouped_gemm: offsets");
    require_extent(y, 0, x.extent(0), "grouped_gemm: y");
    require_extent(y, 1, w.extent(2), "grouped_gemm: y");
    require_data(x, "grouped_gemm: x");
    require_data(w, "grouped_gemm: w");
    require_data(offsets, "grouped_gemm: offsets");
    require_expert_offsets(b, offsets, y.extent(0), "grouped_gemm: offsets");
    require_data(y, "grouped_gemm: y");
    require_apart(x, y, "grouped_gemm: x");
    require_apart(w, y, "grouped_gemm: w");
    if (!y.empty()) grouped_gemm_impl(b, x, w, offsets, y);
  }
};

template <class X, class W, class O>
struct grouped_gemm_inputs {
  X x;
  W w;
  O offsets;
};
template <class X, class W, class O>
grouped_gemm_inputs(X&&, W&&, O&&)
    -> grouped_gemm_inputs<argument_t<X>, argument_t<W>, argument_t<O>>;
template <class DX, class DW>
struct grouped_gemm_gradients {
  DX dx;
  DW dw;
};
template <class DX, class DW>
grouped_gemm_gradients(DX&&, DW&&) -> grouped_gemm_gradients<argument_t<DX>, argument_t<DW>>;

namespace ops {
inline constexpr grouped_gemm_op grouped_gemm{};
}

struct grouped_gemm_backward_op {
  static constexpr std::string_view name = "grouped_gemm_backward";

  template <class B, class X, class W, class O, class DY, class DX, class DW>
  void operator()(const B& b, const grouped_gemm_inputs<X, W, O>& in, const DY& dy_in,
                  const grouped_gemm_gradients<DX, DW>& out) const {
    const auto x = as_const(as_view(in.x));
    const auto dy = as_const(as_view(dy_in));
    const auto dw = as_view(out.dw);
    check_spaces(b, x, dw);
    require_extent(dw, 0, as_view(in.w).extent(0), "grouped_gemm_backward: dw");
    require_extent(dw, 1, x.extent(1), "grouped_gemm_backward: dw");
    require_extent(dw, 2, dy.extent(1), "grouped_gemm_backward: dw");
    require_extent(x, 0, dy.extent(0), "grouped_gemm_backward: x");
    require_data(x, "grouped_gemm_backward: x");
    require_extent(as_view(in.offsets), 0, dw.extent(0) + 1, "grouped_gemm_backward: offsets");
    require_data(as_view(in.offsets), "grouped_gemm_backward: offsets");
    require_expert_offsets(b, as_const(as_view(in.offsets)), x.extent(0),
                           "grouped_gemm_backward: offsets");
    require_data(dw, "grouped_gemm_backward: dw");
    require_apart(x, dw, "grouped_gemm_backward: x");
    require_apart(dy, dw, "grouped_gemm_backward: dy");
    ops::grouped_gemm(b, dy, transposed(as_view(in.w)), in.offsets, out.dx);
    if (!dw.empty()) grouped_gemm_weight_gradient_impl(b, x, dy, as_const(as_view(in.offsets)), dw);
  }
};
struct add_expert_bias_op {
  static constexpr std::string_view name = "add_expert_bias";

  template <class B, class Bias, class O, class Y>
  void operator()(const B& b, const Bias& bias_in, const O& offsets_in, Y&& y_in) const {
    const auto bias = as_const(as_view(bias_in));
    const auto offsets = as_const(as_view(offsets_in));
    const auto y = as_view(y_in);
    check_spaces(b, bias, offsets, y);
    static_assert(
        decltype(bias)::rank == 2 && decltype(offsets)::rank == 1 && decltype(y)::rank == 2,
        "deepseek::add_expert_bias: pass bias[E, N], offsets[E + 1], y[R, N]");
    require_extent(offsets, 0, bias.extent(0) + 1, "add_expert_bias: offsets");
    require_extent(bias, 1, y.extent(1), "add_expert_bias: bias");
    require_data(bias, "add_expert_bias: bias");
    require_data(offsets, "add_expert_bias: offsets");
    require_expert_offsets(b, offsets, y.extent(0), "add_expert_bias: offsets");
    require_data(y, "add_expert_bias: y");
    require_apart(bias, y, "add_expert_bias: bias");
    if (!y.empty()) add_expert_bias_impl(b, bias, offsets, y);
  }
};

struct add_expert_sums_op {
  static constexpr std::string_view name = "add_expert_sums";

  template <class B, class X, class O, class Y>
  void operator()(const B& b, const X& x_in, const O& offsets_in, Y&& out_in) const {
    const auto x = as_const(as_view(x_in));
    const auto offsets = as_const(as_view(offsets_in));
    const auto out = as_view(out_in);
    check_spaces(b, x, offsets, out);
    static_assert(
        decltype(x)::rank == 2 && decltype(offsets)::rank == 1 && decltype(out)::rank == 2,
        "deepseek::add_expert_sums: pass x[R, N], offsets[E + 1], out[E, N]");
    require_extent(offsets, 0, out.extent(0) + 1, "add_expert_sums: offsets");
    require_extent(out, 1, x.extent(1), "add_expert_sums: out");
    require_data(x, "add_expert_sums: x");
    require_data(offsets, "add_expert_sums: offsets");
    require_expert_offsets(b, offsets, x.extent(0), "add_expert_sums: offsets");
    require_data(out, "add_expert_sums: out");
    if (!x.empty()) add_expert_sums_impl(b, x, offsets, out);
  }
};

namespace ops {
inline constexpr grouped_gemm_backward_op grouped_gemm_backward{};
inline constexpr add_expert_bias_op add_expert_bias{};
inline constexpr add_expert_sums_op add_expert_sums{};
}  // namespace ops

}  // namespace deepseek
