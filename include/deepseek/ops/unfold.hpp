// SPDX-License-Identifier: Apache-2.0
// unfold: the windows of images as rows (im2col). x [images, channels, height, width]; windows of
// spec.height x spec.width, spec.down and spec.across apart, g_h = (height - spec.height) / down +
// 1 of them downwards, g_w likewise; what does not fill a window at the far edges is left out.
//   y[(i g_h + r) g_w + s, (c spec.height + u) spec.width + v] = x[i, c, r down + u, s across + v]
// y [images g_h g_w, channels spec.height spec.width]. With down = spec.height and across =
// spec.width: patches without overlap. Backward: dx is written, each element the sum of the dy of
// the windows that hold it, in the order of the windows; 0 where there is none.
// Types may differ; sums in accumulate_t of dx, rounded once. Bits do not depend on threads.
// Errors: invalid_argument (a size or step < 1, null data), shape_mismatch (a window larger than
// the image, y). Cost: size of y elements read and written.
// Sources: Chellapilla, Puri, Simard 2006 (im2col); Dosovitskiy et al. 2021, section 3.1 (patches).
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct unfold_spec {
  index_t height = 1, width = 1;  // of a window, >= 1
  index_t down = 1, across = 1;   // steps from window to window, >= 1
};
struct unfold_grid {
  index_t down = 0, across = 0;  // windows
  constexpr index_t size() const { return down * across; }
};

// The windows of one image; none along an axis shorter than the window.
constexpr unfold_grid unfold_windows(index_t height, index_t width, const unfold_spec& s) {
  const index_t down = height >= s.height ? (height - s.height) / s.down + 1 : 0;
  const index_t across = width >= s.width ? (width - s.width) / s.across + 1 : 0;
  return {down, across};
}

namespace unfold_checks {

template <class X, class Y>
void require_windows(const X& x, const Y& y, const unfold_spec& s, const char* op) {
  static_assert(X::rank == 4 && Y::rank == 2,
                "deepseek::unfold: wrong ranks; pass x[images, channels, height, width], "
                "y[windows, channels x height x width]");
  require(s.height >= 1 && s.width >= 1 && s.down >= 1 && s.across >= 1,
          error_code::invalid_argument, op, ": windows of ", s.height, " x ", s.width, ", ", s.down,
          " and ", s.across, " apart; write numbers >= 1");
  require(x.extent(0) == 0 || (x.extent(2) >= s.height && x.extent(3) >= s.width),
          error_code::shape_mismatch, op, ": a window of ", s.height, " x ", s.width,
          " does not fit x", shape_of(x), "; pass larger images or a smaller window");
  const auto grid = unfold_windows(x.extent(2), x.extent(3), s);
  const index_t rows = x.extent(0) * grid.size(), columns = x.extent(1) * s.height * s.width;
  require(y.extent(0) == rows && y.extent(1) == columns, error_code::shape_mismatch, op,
          ": windows", shape_of(y), " do not match x", shape_of(x), "; pass [", rows, ", ", columns,
          "]");
  require_data(x, op);
  require_data(y, op);
}

}  // namespace unfold_checks

struct unfold_op {
  static constexpr std::string_view name = "unfold";

  template <class B, class X, class Y>
  void operator()(const B& b, const X& x_in, const unfold_spec& spec, Y&& y_in) const {
    const auto x = as_const(as_view(x_in));
    const auto y = as_view(y_in);
    check_spaces(b, x, y);
    unfold_checks::require_windows(x, y, spec, "unfold");
    if (!y.empty()) unfold_impl(b, x, spec, y);
  }
};

struct unfold_backward_op {
  static constexpr std::string_view name = "unfold_backward";

  template <class B, class DY, class DX>
  void operator()(const B& b, const DY& dy_in, const unfold_spec& spec, DX&& dx_in) const {
    const auto dy = as_const(as_view(dy_in));
    const auto dx = as_view(dx_in);
    check_spaces(b, dy, dx);
    unfold_checks::require_windows(dx, dy, spec, "unfold_backward");
    if (!dx.empty()) unfold_backward_impl(b, dy, spec, dx);
  }
};

namespace ops {
inline constexpr unfold_op unfold{};
inline constexpr unfold_backward_op unfold_backward{};
}  // namespace ops

}  // namespace deepseek
