// SPDX-License-Identifier: Apache-2.0
// pool: one row of each packed sequence. Sequence s holds rows offsets[s] .. offsets[s + 1] - 1:
//   first: y[s] = x[offsets[s]]     last: y[s] = x[offsets[s + 1] - 1]     mean: their mean
// x [rows, dim], offsets [sequences + 1] int32 from 0 to rows, y [sequences, dim]. An empty view of
// offsets: one sequence (none, where x has no rows).
// Backward: dx is written: dy[s] where a row was taken, dy[s] / n for each of n rows of a mean, 0
// elsewhere. Types may differ; sums in accumulate_t of the result over rows in order, divided once.
// Errors: offsets (not rising from 0 to rows; a sequence without rows has no row to give),
// shape_mismatch, invalid_argument. Bits do not depend on threads; a sequence alone has the same.
// Cost: rows x dim elements read for a mean, sequences x dim else.
#pragma once

#include "deepseek/ops/argument.hpp"

#include <cstdint>

namespace deepseek {

enum class pooled_row { first, mean, last };

namespace pool_checks {

template <class X, class Offsets, class Y>
void require_sequences(const X& x, const Offsets& offsets, const Y& y, const char* op) {
  static_assert(X::rank == 2 && Offsets::rank == 1 && Y::rank == 2,
                "deepseek::pool: wrong ranks; pass x[rows, dim], offsets[sequences + 1], "
                "y[sequences, dim]");
  static_assert(std::is_same_v<typename Offsets::value_type, std::int32_t>,
                "deepseek::pool: offsets are not int32; pass std::int32_t");
  const index_t given = offsets.extent(0);
  const index_t sequences = given > 0 ? given - 1 : (x.extent(0) > 0 ? 1 : 0);
  require(y.extent(0) == sequences && y.extent(1) == x.extent(1), error_code::shape_mismatch, op,
          ": rows", shape_of(x), " of ", sequences, " sequences do not give y", shape_of(y),
          "; pass y[", sequences, ", ", x.extent(1), "]");
  require_data(x, op);
  require_data(offsets, op);
  require_data(y, op);
}

}  // namespace pool_checks

struct pool_op {
  static constexpr std::string_view name = "pool";

  template <class B, class X, class Offsets, class Y>
  void operator()(const B& b, const X& x_in, const Offsets& offsets_in, pooled_row how,
                  Y&& y_in) const {
    const auto x = as_const(as_view(x_in));
    const auto offsets = as_const(as_view(offsets_in));
    const auto y = as_view(y_in);
    check_spaces(b, x, offsets, y);
    pool_checks::require_sequences(x, offsets, y, "pool");
    if (!y.empty()) pool_impl(b, x, offsets, how, y);
  }
};

struct pool_backward_op {
  static constexpr std::string_view name = "pool_backward";

  template <class B, class DY, class Offsets, class DX>
  void operator()(const B& b, const DY& dy_in, const Offsets& offsets_in, pooled_row how,
                  DX&& dx_in) const {
    const auto dy = as_const(as_view(dy_in));
    const auto offsets = as_const(as_view(offsets_in));
    const auto dx = as_view(dx_in);
    check_spaces(b, dy, offsets, dx);
    pool_checks::require_sequences(dx, offsets, dy, "pool_backward");
    if (!dx.empty()) pool_backward_impl(b, dy, offsets, how, dx);
  }
};

namespace ops {
inline constexpr pool_op pool{};
inline constexpr pool_backward_op pool_backward{};
}  // namespace ops

}  // namespace deepseek
