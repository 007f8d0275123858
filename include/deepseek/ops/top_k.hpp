// SPDX-License-Identifier: Apache-2.0
// top_k: the k largest of each row, largest first; equal ones by lower position; NaN comes last.
// x [n, m] -> values [n, k], ids [n, k] int32 (positions in the row).
// Backward: dx [n, m] is written: dvalues at the ids (those of one row are distinct), 0 elsewhere.
// Types: values are copied (rounded once where their type is another).
// Errors: invalid_argument (k > m), shape_mismatch; backward: index_range for an id outside
// 0 .. m-1 (nothing is written then). Cost: about m comparisons a row for small k, m log k at most.
#pragma once

#include "deepseek/ops/argument.hpp"

#include <cstdint>

namespace deepseek {

struct top_k_op {
  static constexpr std::string_view name = "top_k";

  template <class B, class X, class V, class Ids>
  void operator()(const B& b, const X& x_in, V&& values_in, Ids&& ids_in) const {
    const auto x = as_const(as_view(x_in));
    const auto values = as_view(values_in);
    const auto ids = as_view(ids_in);
    check_spaces(b, x, values, ids);
    static_assert(x.rank == 2 && values.rank == 2,
                  "deepseek::top_k: wrong ranks; pass x[n, m], values[n, k], ids[n, k]");
    require_extent(values, 0, x.extent(0), "top_k: values");
    require_same_shape(ids, values, "top_k: ids");
    require(values.extent(1) <= x.extent(1), error_code::invalid_argument, "top_k: k is ",
            values.extent(1), " but a row of x", shape_of(x), " has ", x.extent(1),
            " elements; ask for at most that many");
    require(x.extent(1) <= INT32_MAX, error_code::overflow, "top_k: a row of x", shape_of(x),
            " is longer than 2147483647; positions are int32");
    require_data(x, "top_k: x");
    require_data(values, "top_k: values");
    require_data(ids, "top_k: ids");
    if (!values.empty()) top_k_impl(b, x, values, ids);
  }
};

struct top_k_backward_op {
  static constexpr std::string_view name = "top_k_backward";

  template <class B, class Ids, class DV, class DX>
  void operator()(const B& b, const Ids& ids_in, const DV& dvalues_in, DX&& dx_in) const {
    const auto ids = as_const(as_view(ids_in));
    const auto dvalues = as_const(as_view(dvalues_in));
    const auto dx = as_view(dx_in);
    check_spaces(b, ids, dvalues, dx);
    static_assert(ids.rank == 2 && dx.rank == 2,
                  "deepseek::top_k_backward: wrong ranks; pass ids[n, k], dvalues[n, k], dx[n, m]");
    require_same_shape(dvalues, ids, "top_k_backward: dvalues");
    require_extent(dx, 0, ids.extent(0), "top_k_backward: dx");
    require_data(ids, "top_k_backward: ids");
    require_data(dvalues, "top_k_backward: dvalues");
    require_data(dx, "top_k_backward: dx");
    if (dx.extent(0) > 0) top_k_backward_impl(b, ids, dvalues, dx);
  }
};

namespace ops {
inline constexpr top_k_op top_k{};
inline constexpr top_k_backward_op top_k_backward{};
}  // namespace ops

}  // namespace deepseek
