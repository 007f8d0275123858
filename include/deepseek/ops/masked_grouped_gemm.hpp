// SPDX-License-Identifier: Apache-2.0
// masked_grouped_gemm: y[e, r] = x[e, r] w[e] for the rows r < counts[e] of expert e: a place of
// `capacity` rows for each expert, of which the first are there. Shapes do not depend on counts, so
// a recorded step (a CUDA graph) serves any of them: decoding with experts.
// Shapes: x [E, capacity, K], w [E, K, N] (any strides), counts [E] int32, y [E, capacity, N]; the
// experts' rows of x and of y follow each other (stride 0 is capacity times stride 1).
// Rows from counts[e] on have no influence and are not written. Types and order as in gemm.
// Backward: dx[e, r] = dy[e, r] w[e]^T is written, dw[e] += x_e^T dy_e over the rows that are
// there. Cost: 2 K N sum(counts) flops. Errors: shape_mismatch, invalid_argument (null, rows that
// do not follow each other), aliasing (y overlaps x or w, dw x or dy), index_range (a count below 0
// or above the capacity; nothing is written then). Source: experts with places of one capacity,
// Lepikhin et al. 2020 (GShard), section 2.2.
#pragma once

#include "deepseek/ops/grouped_gemm.hpp"

namespace deepseek {

// Rows e * capacity .. + counts[e] - 1 belong to expert e, in place of offsets.
template <class Counts>
struct counted_rows {
  Counts counts;
  index_t capacity;
};
template <class Counts>
counted_rows(Counts, index_t) -> counted_rows<Counts>;

[[noreturn]] inline void fail_expert_count(index_t expert, index_t count, index_t capacity) {
  fail(error_code::index_range, "masked_grouped_gemm: counts[", expert, "] is ", count,
       ", outside 0 .. ", capacity, "; an expert has places for ", capacity, " rows");
}

// [E, capacity, N] as the rows [E capacity, N].
template <class T, class S, index_t E, index_t C, index_t N>
view<T, S, dyn, N> as_expert_rows(const view<T, S, E, C, N>& v, const char* object) {
  const index_t experts = v.extent(0), capacity = v.extent(1);
  const index_t row = capacity == 1 ? v.stride(0) : v.stride(1);
  require(v.empty() || experts == 1 || v.stride(0) == capacity * row, error_code::invalid_argument,
          object, " ", shape_of(v), " has strides ", v.stride(0), ", ", v.stride(1),
          "; the rows of expert e + 1 begin behind the last of expert e: stride 0 is ",
          capacity * row);
  return {v.data(), {experts * capacity, v.extent(2)}, {row, v.stride(2)}};
}

struct masked_grouped_gemm_op {
  static constexpr std::string_view name = "masked_grouped_gemm";

  template <class B, class X, class W, class C, class Y>
  void operator()(const B& b, const X& x_in, const W& w_in, const C& counts_in, Y&& y_in) const {
    const auto x = as_const(as_view(x_in));
    const auto w = as_const(as_view(w_in));
    const auto counts = as_const(as_view(counts_in));
    const auto y = as_view(y_in);
    check_spaces(b, x, w, counts, y);
    static_assert(decltype(x)::rank == 3 && decltype(w)::rank == 3 && decltype(y)::rank == 3 &&
                      decltype(counts)::rank == 1,
                  "deepseek::masked_grouped_gemm: pass x[E, capacity, K], w[E, K, N], counts[E], "
                  "y[E, capacity, N]");
    require_extent(w, 0, x.extent(0), "masked_grouped_gemm: w");
    require_extent(w, 1, x.extent(2), "masked_grouped_gemm: w");
    require_extent(counts, 0, x.extent(0), "masked_grouped_gemm: counts");
    require_extent(y, 0, x.extent(0), "masked_grouped_gemm: y");
    require_extent(y, 1, x.extent(1), "masked_grouped_gemm: y");
    require_extent(y, 2, w.extent(2), "masked_grouped_gemm: y");
    require_data(x, "masked_grouped_gemm: x");
    require_data(w, "masked_grouped_gemm: w");
    require_data(counts, "masked_grouped_gemm: counts");
    require_data(y, "masked_grouped_gemm: y");
    require_apart(x, y, "masked_grouped_gemm: x");
    require_apart(w, y, "masked_grouped_gemm: w");
    const auto from = as_expert_rows(x, "masked_grouped_gemm: x");
    const auto to = as_expert_rows(y, "masked_grouped_gemm: y");
    masked_grouped_gemm_impl(b, from, w, counted_rows{counts, x.extent(1)}, to);
  }
};

template <class X, class W, class C>
struct masked_grouped_gemm_inputs {
  X x;
  W w;
  C counts;
};
template <class X, class W, class C>
masked_grouped_gemm_inputs(X&&, W&&, C&&)
    -> masked_grouped_gemm_inputs<argument_t<X>, argument_t<W>, argument_t<C>>;

namespace ops {
inline constexpr masked_grouped_gemm_op masked_grouped_gemm{};
}

struct masked_grouped_gemm_backward_op {
  static constexpr std::string_view name = "masked_grouped_gemm_backward";

  template <class B, class X, class W, class C, class DY, class DX, class DW>
  void operator()(const B& b, const masked_grouped_gemm_inputs<X, W, C>& in, const DY& dy_in,
                  const grouped_gemm_gradients<DX, DW>& out) const {
    const auto x = as_const(as_view(in.x));
    const auto dy = as_const(as_view(dy_in));
    const auto counts = as_const(as_view(in.counts));
    const auto dw = as_view(out.dw);
    check_spaces(b, x, dw);
    require_extent(dw, 0, x.extent(0), "masked_grouped_gemm_backward: dw");
    require_extent(dw, 1, x.extent(2), "masked_grouped_gemm_backward: dw");
    require_extent(dw, 2, dy.extent(2), "masked_grouped_gemm_backward: dw");
    require_extent(x, 0, dy.extent(0), "masked_grouped_gemm_backward: x");
    require_extent(x, 1, dy.extent(1), "masked_grouped_gemm_backward: x");
    require_data(x, "masked_grouped_gemm_backward: x");
    require_data(dw, "masked_grouped_gemm_backward: dw");
    require_apart(x, dw, "masked_grouped_gemm_backward: x");
    require_apart(dy, dw, "masked_grouped_gemm_backward: dy");
    const auto from = as_expert_rows(x, "masked_grouped_gemm_backward: x");
    const auto slope = as_expert_rows(dy, "masked_grouped_gemm_backward: dy");
    ops::masked_grouped_gemm(b, dy, transposed(as_view(in.w)), counts, out.dx);
    masked_grouped_gemm_weight_gradient_impl(b, from, slope, counted_rows{counts, x.extent(1)}, dw);
  }
};

namespace ops {
inline constexpr masked_grouped_gemm_backward_op masked_grouped_gemm_backward{};
}

}  // namespace deepseek
