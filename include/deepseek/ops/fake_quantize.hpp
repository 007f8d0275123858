// SPDX-License-Identifier: Apache-2.0
// fake_quantize: numbers rounded to the grid of a format, for training with it. With v = x / s,
//   s = exp(log_step) as its format stores it:  y = (clamp(rne(v) + z, least, most) - z) s.
// fake_quantize_backward, straight through the rounding, with code = rne(v) + z:
//   dx = dy where least <= code <= most, else 0;   dlog_step += f s sum dy d, over the step's x:
//   d = rne(v) - v inside, least - z below, most - z above; f = 1 / sqrt(N most), N numbers a step.
// (The logarithm keeps steps positive and makes an optimizer's move relative to them.)
// Shapes: x, y, dx [M, K]; log_step [M, ceil(K / group)], stride 0 along M where rows share a step.
// Types: any floating x; in accumulate_t of x, the sum of a row's group in double, rows in order.
// dx is written, dlog_step added to. NaN stays NaN. Errors: shape_mismatch, nonfinite (a step that
// is not a positive number; nothing is written), config (group).
// Sources: Bengio et al. 2013 (straight through); Esser et al. 2020 (LSQ), equations 1 to 3.
#pragma once

#include "deepseek/ops/argument.hpp"
#include "deepseek/quant/fake.hpp"

namespace deepseek {

template <class X, class S>
struct fake_inputs {
  X x;
  S log_step;
};
template <class X, class S>
fake_inputs(X&&, S&&) -> fake_inputs<argument_t<X>, argument_t<S>>;

template <class DX, class DS>
struct fake_gradients {
  DX dx;
  DS dlog_step;
};
template <class DX, class DS>
fake_gradients(DX&&, DS&&) -> fake_gradients<argument_t<DX>, argument_t<DS>>;

template <class B, class X, class S>
void check_fake_quantize(const B& b, const X& x, const S& log_step, const fake_grid& grid) {
  static_assert(X::rank == 2 && S::rank == 2,
                "deepseek::fake_quantize: pass x[M, K] and log_step[M, ceil(K / group)]");
  check_spaces(b, x, log_step);
  require(grid.group > 0, error_code::config, "fake_quantize: groups of ", grid.group,
          " numbers; write a positive number, or the width for one step a row");
  require_extent(log_step, 0, x.extent(0), "fake_quantize: log_step");
  require_extent(log_step, 1, grid.groups_of(x.extent(1)), "fake_quantize: log_step");
  require_data(x, "fake_quantize: x");
  require_data(log_step, "fake_quantize: log_step");
}

struct fake_quantize_op {
  static constexpr std::string_view name = "fake_quantize";

  template <class B, class X, class S, class Y>
  void operator()(const B& b, const fake_inputs<X, S>& in, const fake_grid& grid, Y&& y_in) const {
    const auto x = as_const(as_view(in.x));
    const auto log_step = as_const(as_view(in.log_step));
    const auto y = as_view(y_in);
    check_fake_quantize(b, x, log_step, grid);
    require_same_shape(y, x, "fake_quantize: y");
    require_data(y, "fake_quantize: y");
    if (!x.empty()) fake_quantize_impl(b, fake_inputs{x, log_step}, grid, y);
  }
};

struct fake_quantize_backward_op {
  static constexpr std::string_view name = "fake_quantize_backward";

  template <class B, class X, class S, class DY, class DX, class DS>
  void operator()(const B& b, const fake_inputs<X, S>& in, const fake_grid& grid, const DY& dy_in,
                  const fake_gradients<DX, DS>& out) const {
    const auto x = as_const(as_view(in.x));
    const auto log_step = as_const(as_view(in.log_step));
    const auto dy = as_const(as_view(dy_in));
    const auto dx = as_view(out.dx);
    const auto dlog_step = as_view(out.dlog_step);
    check_fake_quantize(b, x, log_step, grid);
    check_spaces(b, dy, dx, dlog_step);
    require_same_shape(dy, x, "fake_quantize_backward: dy");
    require_same_shape(dx, x, "fake_quantize_backward: dx");
    require_same_shape(dlog_step, log_step, "fake_quantize_backward: dlog_step");
    require_data(dy, "fake_quantize_backward: dy");
    require_data(dx, "fake_quantize_backward: dx");
    require_data(dlog_step, "fake_quantize_backward: dlog_step");
    if (!x.empty()) {
      fake_quantize_backward_impl(b, fake_inputs{x, log_step}, grid, dy,
                                  fake_gradients{dx, dlog_step});
    }
  }
};

namespace ops {
inline constexpr fake_quantize_op fake_quantize{};
inline constexpr fake_quantize_backward_op fake_quantize_backward{};
}  // namespace ops

}  // namespace deepseek
