// SPDX-License-Identifier: Apache-2.0
// permute: xs[r] = x[source[r] / K]: tokens brought into the order of an expert plan.
// x [T, D], source [R] int32, K choices a token, xs [R, D].
// Backward: dx[t] = sum over k = 0 .. K-1 in order of dxs[slot[t, k]]; slot [T, K] int32, -1: no
// row; dx is written. Types: sums in accumulate_t of dx, rounded once. Bits do not depend on
// threads. Errors: index_range (source outside 0 .. T K - 1, slot outside -1 .. R - 1; nothing is
// written then), shape_mismatch, invalid_argument, aliasing (the rows written overlap those read).
// Cost: R x D elements read and written.
#pragma once

#include "deepseek/ops/argument.hpp"

#include <cstdint>

namespace deepseek {

struct permute_op {
  static constexpr std::string_view name = "permute";

  template <class B, class X, class Source, class Y>
  void operator()(const B& b, const X& x_in, const Source& source_in, index_t choices,
                  Y&& xs_in) const {
    const auto x = as_const(as_view(x_in));
    const auto source = as_const(as_view(source_in));
    const auto xs = as_view(xs_in);
    check_spaces(b, x, source, xs);
    static_assert(x.rank == 2 && source.rank == 1 && xs.rank == 2,
                  "deepseek::permute: wrong ranks; pass x[T, D], source[R], K, xs[R, D]");
    require(choices >= 1, error_code::invalid_argument, "permute: K is ", choices,
            "; pass how many experts a token chooses, at least 1");
    require_extent(xs, 0, source.extent(0), "permute: xs");
    require_extent(xs, 1, x.extent(1), "permute: xs");
    require_data(x, "permute: x");
    require_data(source, "permute: source");
    require_data(xs, "permute: xs");
    require_apart(x, xs, "permute: x");
    if (!source.empty()) permute_impl(b, x, source, choices, xs);
  }
};

struct permute_backward_op {
  static constexpr std::string_view name = "permute_backward";

  template <class B, class DY, class Slot, class DX>
  void operator()(const B& b, const DY& dxs_in, const Slot& slot_in, DX&& dx_in) const {
    const auto dxs = as_const(as_view(dxs_in));
    const auto slot = as_const(as_view(slot_in));
    const auto dx = as_view(dx_in);
    check_spaces(b, dxs, slot, dx);
    static_assert(dxs.rank == 2 && slot.rank == 2 && dx.rank == 2,
                  "deepseek::permute_backward: wrong ranks; pass dxs[R, D], slot[T, K], dx[T, D]");
    require_extent(dx, 0, slot.extent(0), "permute_backward: dx");
    require_extent(dx, 1, dxs.extent(1), "permute_backward: dx");
    require_data(dxs, "permute_backward: dxs");
    require_data(slot, "permute_backward: slot");
    require_data(dx, "permute_backward: dx");
    require_apart(dxs, dx, "permute_backward: dxs");
    if (dx.extent(0) > 0) permute_backward_impl(b, dxs, slot, dx);
  }
};

namespace ops {
inline constexpr permute_op permute{};
inline constexpr permute_backward_op permute_backward{};
}  // namespace ops

}  // namespace deepseek
