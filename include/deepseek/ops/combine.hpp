// SPDX-License-Identifier: Apache-2.0
// combine: y[t] = sum over k = 0 .. K-1 in order of weights[t, k] * ys[slot[t, k]], or with
// {weights, slot, update::add} that sum plus y[t].
// ys [R, D], weights [T, K], slot [T, K] int32 from expert_plan (-1: no row, adds nothing), y [T,
// D]. Backward: dys[slot[t, k]] = weights[t, k] * dy[t], dweights[t, k] = <dy[t], ys[slot[t, k]]>;
// both are written (0 for -1); the other slots are a permutation of 0 .. R-1 as expert_plan makes
// it: that none is there twice is trusted. dys may be ys where
// no dweights is asked for (dweights = none{}). Types: sums in accumulate_t of the output, rounded
// once. Bits do not depend on threads. Errors: index_range (slot outside -1 .. R-1; nothing is
// written then), shape_mismatch, invalid_argument, aliasing. Cost: 2 R D flops forward, 3 R D
// backward.
#pragma once

#include "deepseek/ops/argument.hpp"

#include <cstdint>

namespace deepseek {

template <class W, class Slot>
struct combine_by {
  W weights;
  Slot slot;
  update how = update::write;
};
template <class W, class Slot>
combine_by(W&&, Slot&&) -> combine_by<argument_t<W>, argument_t<Slot>>;
template <class W, class Slot>
combine_by(W&&, Slot&&, update) -> combine_by<argument_t<W>, argument_t<Slot>>;

template <class Ys, class W, class Slot>
struct combine_inputs {
  Ys ys;
  W weights;
  Slot slot;
};
template <class Ys, class W, class Slot>
combine_inputs(Ys&&, W&&, Slot&&)
    -> combine_inputs<argument_t<Ys>, argument_t<W>, argument_t<Slot>>;

template <class DYs, class DW>
struct combine_gradients {
  DYs dys;
  DW dweights;
};
template <class DYs, class DW>
combine_gradients(DYs&&, DW&&) -> combine_gradients<argument_t<DYs>, argument_t<DW>>;

struct combine_op {
  static constexpr std::string_view name = "combine";

  template <class B, class Ys, class W, class Slot, class Y>
  void operator()(const B& b, const Ys& ys_in, const combine_by<W, Slot>& by, Y&& y_in) const {
    const auto ys = as_const(as_view(ys_in));
    const auto weights = as_const(as_view(by.weights));
    const auto slot = as_const(as_view(by.slot));
    const auto y = as_view(y_in);
    check_spaces(b, ys, weights, slot, y);
    static_assert(ys.rank == 2 && slot.rank == 2 && y.rank == 2,
                  "deepseek::combine: wrong ranks; pass ys[R, D], {weights[T, K], slot[T, K]}, "
                  "y[T, D]");
    require_same_shape(weights, slot, "combine: weights");
    require_extent(y, 0, slot.extent(0), "combine: y");
    require_extent(y, 1, ys.extent(1), "combine: y");
    require_data(ys, "combine: ys");
    require_data(weights, "combine: weights");
    require_data(slot, "combine: slot");
    require_data(y, "combine: y");
    require_apart(ys, y, "combine: ys");
    if (y.extent(0) > 0) {
      using bundle = combine_by<decltype(as_const(weights)), decltype(as_const(slot))>;
      combine_impl(b, ys, bundle{weights, slot, by.how}, y);
    }
  }
};

struct combine_backward_op {
  static constexpr std::string_view name = "combine_backward";

  template <class B, class Ys, class W, class Slot, class DY, class DYs, class DW>
  void operator()(const B& b, const combine_inputs<Ys, W, Slot>& in, const DY& dy_in,
                  const combine_gradients<DYs, DW>& out) const {
    const auto ys = as_const(as_view(in.ys));
    const auto weights = as_const(as_view(in.weights));
    const auto slot = as_const(as_view(in.slot));
    const auto dy = as_const(as_view(dy_in));
    const auto dys = as_view(out.dys);
    check_spaces(b, ys, weights, slot, dy, dys);
    static_assert(ys.rank == 2 && slot.rank == 2 && dy.rank == 2,
                  "deepseek::combine_backward: wrong ranks; pass {ys[R, D], weights[T, K], "
                  "slot[T, K]}, dy[T, D], {dys[R, D], dweights[T, K]}");
    require_same_shape(weights, slot, "combine_backward: weights");
    require(ys.extent(0) <= slot.size(), error_code::shape_mismatch, "combine_backward: ys",
            shape_of(ys), " has more rows than slot", shape_of(slot),
            "; pass one row for each slot that is not -1");
    require_extent(dy, 0, slot.extent(0), "combine_backward: dy");
    require_extent(dy, 1, ys.extent(1), "combine_backward: dy");
    require_same_shape(dys, ys, "combine_backward: dys");
    require_data(ys, "combine_backward: ys");
    require_data(weights, "combine_backward: weights");
    require_data(slot, "combine_backward: slot");
    require_data(dy, "combine_backward: dy");
    require_data(dys, "combine_backward: dys");
    require_apart(dy, dys, "combine_backward: dy");
    using inputs = combine_inputs<decltype(as_const(ys)), decltype(as_const(weights)),
                                  decltype(as_const(slot))>;
    const inputs views{ys, weights, slot};
    if constexpr (std::is_same_v<std::remove_cvref_t<DW>, none>) {
      run(b, views, dy, dys, none{});
    } else {
      const auto dweights = as_view(out.dweights);
      check_spaces(b, dweights);
      require_same_shape(dweights, slot, "combine_backward: dweights");
      require_data(dweights, "combine_backward: dweights");
      require_apart(ys, dys, "combine_backward: ys");
      run(b, views, dy, dys, dweights);
    }
  }

 private:
  template <class B, class In, class DY, class DYs, class DW>
  static void run(const B& b, const In& in, const DY& dy, const DYs& dys, const DW& dweights) {
    if (in.slot.size() > 0) {
      combine_backward_impl(b, in, dy, combine_gradients<DYs, DW>{dys, dweights});
    }
  }
};

namespace ops {
inline constexpr combine_op combine{};
inline constexpr combine_backward_op combine_backward{};
}  // namespace ops

}  // namespace deepseek
