// SPDX-License-Identifier: Apache-2.0
// pool<D, How>: one row of each packed sequence: its first, its last or the mean (ops/pool.hpp).
// x [tokens, D], y [sequences, D]; without offsets in the call all rows are one sequence.
#pragma once

#include "deepseek/layers/layer.hpp"
#include "deepseek/ops/pool.hpp"

namespace deepseek {

template <index_t D, pooled_row How = pooled_row::mean>
struct pool {
  static_assert(D > 0, "deepseek::pool: the width is not positive; write pool<dim>");
  static constexpr index_t out = D;
  static constexpr const char* label = "pool";
  static constexpr index_t output_rows(const row_counts& n) { return n.sequences; }

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P&, const X& x, const Y& y, K&) {
    static_assert(
        !keeps_state<K>,
        "deepseek::pool: a decoder has no whole sequence to pool (it sees one token after "
        "the other); run the model on the sequence, without a decoder");
    static_assert(width_fits<X, D>,
                  "deepseek::pool: the input's width is not the layer's; write pool<dim> with the "
                  "width of the layer before it");
    ops::pool(c.backend, x, c.options.sequences, How, y);
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P&, const X&, const DY& dy, const DX& dx, K&, G&) {
    ops::pool_backward(c.backend, dy, c.options.sequences, How, dx);
  }
};

// A row of y is made of several of x.
template <index_t D, pooled_row How>
inline constexpr bool rows_are_independent<pool<D, How>> = false;

}  // namespace deepseek
