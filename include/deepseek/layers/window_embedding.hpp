// SPDX-License-Identifier: Apache-2.0
// window_embedding<config>: what patch_embedding and frame_embedding share. Windows of x [items,
// channels, height, width] as rows (ops/unfold.hpp), a linear map with bias to dim, and a learned
// vector for each place of a window in its item:
//   y[i g + r] = W window_r(x_i) + b + position[r],    y [items g, dim], g windows an item.
// Errors: shape_mismatch (channels; an item smaller than a window), index_range (more windows than
// positions). Source: Dosovitskiy et al. 2021, section 3.1, equation 1.
#pragma once

#include "deepseek/layers/learned_positions.hpp"
#include "deepseek/layers/linear.hpp"
#include "deepseek/ops/unfold.hpp"

namespace deepseek {

struct window_config {
  index_t channels = 1;     // of x, > 0
  unfold_spec window = {};  // size and steps
  index_t positions = 0;    // most windows of an item, > 0
  index_t dim = 0;          // model width, > 0
};

template <window_config C>
struct window_embedding {
  static_assert(C.channels > 0 && C.positions > 0 && C.dim > 0,
                "deepseek::window_embedding: a size is not positive; write all of them");
  static constexpr index_t out = C.dim, size = C.channels * C.window.height * C.window.width;
  static constexpr const char* label = "embed";

  template <class Of>
  struct parts {
    using layer = window_embedding;
    each<Of, linear<size, C.dim, plain, bias::present>> proj;
    each<Of, learned_positions<C.positions, C.dim>> position;
    static constexpr auto fields() {
      return std::tuple{named("proj", &parts::proj), named("position", &parts::position)};
    }
  };
  template <class T, class S>
  struct saved {
    view<T, S, dyn, size> windows;
  };

  template <class X>
  static index_t windows_of(const X& x) {  // of one item
    return unfold_windows(x.extent(2), x.extent(3), C.window).size();
  }
  template <class X>
  static index_t input_rows(const X& x) {
    return x.extent(0) * windows_of(x);
  }

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, K& k) {
    const scope freed(c.scratch);
    const index_t each = windows_of(x);
    require(x.extent(0) == 0 || each <= C.positions, error_code::index_range,
            "window_embedding: ", each, " windows of x", shape_of(x), " for ", C.positions,
            " positions; pass smaller items or write more positions");
    const auto windows =
        c.template arena_for<K>().template make<typename Y::value_type, dyn, size>(y.extent(0));
    ops::unfold(c.backend, x, C.window, windows);
    run_forward(c.in(0), p.proj, as_const(windows), y, k.proj);
    add_positions(c, p.position, each, y);
    if constexpr (keeps_tape<K>) k.own.windows = windows;
  }
  // dx may be none: data needs no gradient.
  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k,
                       G& g) {
    const scope freed(c.scratch);
    add_positions_backward(c, dy, windows_of(x), g.position);
    const auto windows = as_const(k.own.windows);
    if constexpr (std::is_same_v<DX, none>) {
      run_backward(c.in(0), p.proj, windows, dy, none{}, k.proj, g.proj);
    } else {
      const auto d = c.scratch.template make<typename DY::value_type, dyn, size>(dy.extent(0));
      run_backward(c.in(0), p.proj, windows, dy, d, k.proj, g.proj);
      ops::unfold_backward(c.backend, d, C.window, dx);
    }
  }
};

}  // namespace deepseek
