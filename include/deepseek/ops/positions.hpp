// SPDX-License-Identifier: Apache-2.0
// positions: out[i] = step (start + i - offsets[q]) for the sequence q that holds row i; step 1, or
// the positions that a row stands for.
// start: a number, or a view [1] (int32) in the backend's memory that is read when the op runs (>=
// 0; not checked against overflow); with such a view out[i] = step row(start + i - offsets[q]), the
// row that stands for the position (row_place.hpp; itself by default). offsets[sequences + 1]
// (int32), from 0 to tokens, not falling; an empty view: one sequence. out[tokens] (int32). Errors:
// shape_mismatch, invalid_argument (null data, start), offsets (first not 0, falling, last not
// tokens), overflow (a position above 2^31 - 1). Cost: one pass.
#pragma once

#include "deepseek/ops/argument.hpp"
#include "deepseek/ops/row_place.hpp"

#include <limits>

namespace deepseek {

// The number that a start stands for, once it may be read.
DEEPSEEK_HOST_DEVICE inline index_t number_of(index_t start) {
  return start;
}
template <class S>
DEEPSEEK_HOST_DEVICE index_t number_of(const view<const std::int32_t, S, dyn>& start) {
  return start(0);
}

struct positions_op {
  static constexpr std::string_view name = "positions";

  template <class B, class Offsets, class Out>
  void operator()(const B& b, index_t start, const Offsets& offsets_in, Out&& out_in,
                  index_t step = 1) const {
    const auto offsets = as_const(as_view(offsets_in));
    const auto out = as_view(out_in);
    check_spaces(b, offsets, out);
    static_assert(offsets.rank == 1 && out.rank == 1,
                  "deepseek::positions: wrong ranks; pass offsets[sequences + 1], out[tokens]");
    static_assert(std::is_same_v<typename decltype(offsets)::value_type, std::int32_t> &&
                      std::is_same_v<typename decltype(out)::value_type, std::int32_t>,
                  "deepseek::positions: not int32; pass std::int32_t offsets and positions");
    require_data(offsets, "positions: offsets");
    require_data(out, "positions: out");
    constexpr index_t largest = std::numeric_limits<std::int32_t>::max();
    require(start >= 0, error_code::invalid_argument, "positions: start is ", start,
            "; pass the number of tokens already seen, >= 0");
    require_step(step);
    require(start <= largest / step - out.extent(0), error_code::overflow, "positions: step ", step,
            " times (start ", start, " + ", out.extent(0), " tokens) exceeds ", largest,
            "; pass a start + tokens of at most ", largest / step, ", or a smaller step");
    positions_impl(b, start, offsets, out, step, row_place{});
  }
  template <class B, class S, class Offsets, class Out>
  void operator()(const B& b, const view<const std::int32_t, S, dyn>& start,
                  const Offsets& offsets_in, Out&& out_in, index_t step = 1,
                  const row_place& place = {}) const {
    const auto offsets = as_const(as_view(offsets_in));
    const auto out = as_view(out_in);
    check_spaces(b, start, offsets, out);
    require_extent(start, 0, 1, "positions: start");
    require_data(start, "positions: start");
    require_data(offsets, "positions: offsets");
    require_data(out, "positions: out");
    require_step(step);
    require_place(place, "positions");
    positions_impl(b, start, offsets, out, step, place);
  }

 private:
  static void require_step(index_t step) {
    require(step >= 1, error_code::invalid_argument, "positions: step is ", step,
            "; pass the positions of a row, >= 1");
  }
};
namespace ops {
inline constexpr positions_op positions{};
}

}  // namespace deepseek
