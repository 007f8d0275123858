// SPDX-License-Identifier: Apache-2.0
// place_rows: y[first[0] + i] = x[i] for every row i of x; the number of the first row stands in
// the backend's memory and is read when the op runs, so that a launch serves every place.
// x[n, W] first[1] (int32) y[rows, W], any strides; conversions as copy has them. The other rows of
// y are not touched. x and y must not overlap. place (row_place.hpp): the rows of y that stand for
// position first[0] + i; with a ratio > 1 x has at most one row, in a ring of R rows y has 2 R and
// x at most R. Errors: shape_mismatch, invalid_argument (null data, place), aliasing, index_range
// (a row outside y; nothing is written then). Cost: x and n rows of y once, in a ring twice.
#pragma once

#include "deepseek/ops/argument.hpp"
#include "deepseek/ops/row_place.hpp"

namespace deepseek {

struct place_rows_op {
  static constexpr std::string_view name = "place_rows";

  template <class B, class X, class First, class Y>
  void operator()(const B& b, const X& x_in, const First& first_in, Y&& y_in,
                  const row_place& place = {}) const {
    const auto x = as_const(as_view(x_in));
    const auto first = as_const(as_view(first_in));
    const auto y = as_view(y_in);
    check_spaces(b, x, first, y);
    static_assert(decltype(x)::rank == 2 && decltype(first)::rank == 1 && decltype(y)::rank == 2,
                  "deepseek::place_rows: wrong ranks; pass x[n, W], first[1], y[rows, W]");
    static_assert(std::is_same_v<typename decltype(first)::value_type, std::int32_t>,
                  "deepseek::place_rows: first is not int32; pass a std::int32_t");
    require_extent(first, 0, 1, "place_rows: first");
    require_extent(x, 1, y.extent(1), "place_rows: x");
    require(x.extent(0) <= y.extent(0), error_code::shape_mismatch, "place_rows: x",
            shape_string(x), " has more rows than y", shape_string(y), "; pass at most those");
    require_rows(x.extent(0), y.extent(0), place);
    require_data(x, "place_rows: x");
    require_data(first, "place_rows: first");
    require_data(y, "place_rows: y");
    require_apart(x, y, "place_rows: x");
    if (!x.empty()) place_rows_impl(b, x, first, y, place);
  }

  // Where n rows may begin: at 0 .. starts - 1.
  static constexpr index_t starts(index_t n, index_t rows, const row_place& place) {
    constexpr index_t all = index_t{1} << 31;
    return place.ring > 0 ? all : (rows - n + 1) * place.ratio;
  }

 private:
  static void require_rows(index_t n, index_t rows, const row_place& place) {
    require_place(place, "place_rows");
    require(place.ratio == 1 || n <= 1, error_code::shape_mismatch, "place_rows: x has ", n,
            " rows, but a row of y stands for ", place.ratio, " positions; pass one row");
    require(place.ring == 0 || (rows == 2 * place.ring && n <= place.ring),
            error_code::shape_mismatch, "place_rows: y has ", rows, " rows, x has ", n,
            ", for a ring of ", place.ring, "; pass twice the ring as y, at most the ring as x");
  }
};
namespace ops {
inline constexpr place_rows_op place_rows{};
}

}  // namespace deepseek
