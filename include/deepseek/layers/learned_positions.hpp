// SPDX-License-Identifier: Apache-2.0
// learned_positions<N, D>: y = x + w[position], w [N, D] learned; the position of a row in its
// packed sequence, from options.start on. x, y [tokens, D]. A position outside 0 .. N - 1 is an
// error (index_range). add_positions: the same for items of a fixed number of rows (patches of an
// image). Sources: Gehring et al. 2017; Dosovitskiy et al. 2021, section 3.1.
#pragma once

#include "deepseek/layers/layer.hpp"
#include "deepseek/layers/row_positions.hpp"
#include "deepseek/ops/add.hpp"
#include "deepseek/ops/copy.hpp"
#include "deepseek/ops/embedding.hpp"
#include "deepseek/ops/fill.hpp"

namespace deepseek {

// f(sums) adds to a table of zeros like dw, which is then added to dw once: two backwards are
// exactly twice one, however many rows share an entry.
template <class C, class W, class F>
void add_summed(const C& c, W& dw, const F& f) {
  const scope freed(c.scratch);
  const auto whole = dw.view();
  const auto sums =
      c.scratch.template make<typename W::value_type, dyn, dyn>(whole.extent(0), whole.extent(1));
  ops::fill(c.backend, 0.0, sums);
  f(sums);
  ops::add(c.backend, sums, whole);
}

template <index_t N, index_t D>
struct learned_positions {
  static_assert(N > 0 && D > 0,
                "deepseek::learned_positions: a size is not positive; write learned_positions<"
                "positions, dim>");
  static constexpr index_t out = D;
  static constexpr const char* label = "position";

  template <class T, class S>
  struct parameters {
    using layer = learned_positions;
    tensor<T, S, N, D> weight;
    static constexpr auto fields() { return std::tuple{named("weight", &parameters::weight)}; }
  };

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K&) {
    const scope freed(c.scratch);
    ops::embedding(c.backend, positions_of(c, x.extent(0)), p.weight, y);
    ops::add(c.backend, x, y);
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P&, const X&, const DY& dy, const DX& dx, K&, G& g) {
    const scope freed(c.scratch);
    const auto at = positions_of(c, dy.extent(0));
    add_summed(c, g.weight,
               [&](const auto& sums) { ops::embedding_backward(c.backend, at, dy, sums); });
    ops::copy(c.backend, dy, dx);
  }

 private:
  template <class C>
  static auto positions_of(const C& c, index_t rows) {
    const auto at = c.scratch.template make<std::int32_t, dyn>(rows);
    row_positions(c, at);
    return as_const(at);
  }
};

// y[i period + r] += w[r] for the items i of `period` rows each; period at most N.
template <class C, class P, class Y>
void add_positions(const C& c, const P& p, index_t period, const Y& y) {
  for (index_t first = 0; first < y.extent(0); first += period) {
    ops::add(c.backend, rows(p.weight.view(), 0, period), rows(y, first, period));
  }
}
// dw[r] += dy[i period + r].
template <class C, class DY, class G>
void add_positions_backward(const C& c, const DY& dy, index_t period, G& g) {
  add_summed(c, g.weight, [&](const auto& sums) {
    for (index_t first = 0; first < dy.extent(0); first += period) {
      ops::add(c.backend, rows(dy, first, period), rows(sums, 0, period));
    }
  });
}

}  // namespace deepseek
