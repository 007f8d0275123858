// SPDX-License-Identifier: Apache-2.0
// dynamic_embedding<config>: an embedding that adapts to the kind of its input. The literature that
// names it gives no formula; this is ours: a gated mixture of M views of each embedded row,
//   g = softmax(W_g x + k[kind])  in R^M,      y = sum_m g_m W_m x,
// W_m [dim, dim], W_g [M, dim], k [kinds, M] a learned preference of each kind; kinds are lent by
// the input (inputs.hpp). With M = kinds (the default) one view for each kind is possible, and
// shared ones where that helps. x, y [tokens, dim]; row-wise.
// Accumulation as in the ops: linear, softmax, hyper_read. Cost: 2 M dim^2 flops a row.
#pragma once

#include "deepseek/layers/by_kind.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/learned_positions.hpp"
#include "deepseek/layers/linear.hpp"
#include "deepseek/ops/add.hpp"
#include "deepseek/ops/fill.hpp"
#include "deepseek/ops/hyper_streams.hpp"
#include "deepseek/ops/softmax.hpp"

namespace deepseek {

struct dynamic_embedding_config {
  index_t dim = 0;    // model width, > 0
  index_t kinds = 1;  // of inputs, > 0
  index_t views = 0;  // M; 0: as many as kinds
  bool operator==(const dynamic_embedding_config&) const = default;
  constexpr index_t mixed() const { return views > 0 ? views : kinds; }
};

template <dynamic_embedding_config C, class F = plain>
struct dynamic_embedding {
  static_assert(C.dim > 0 && C.kinds > 0 && C.views >= 0,
                "deepseek::dynamic_embedding: dim or kinds is not positive; write .dim and .kinds");
  static constexpr index_t D = C.dim, M = C.mixed(), out = D;
  static constexpr const char* label = "dynamic";
  template <class G>
  using with_format = dynamic_embedding<C, G>;

  template <class Of>
  struct parts {
    using layer = dynamic_embedding;
    each<Of, linear<D, M * D, F>> views;
    each<Of, linear<D, M>> gate;
    each<Of, embedding<C.kinds, M>> preference;
    static constexpr auto fields() {
      return std::tuple{named("views", &parts::views), named("gate", &parts::gate),
                        named("preference", &parts::preference)};
    }
  };
  template <class T, class S>
  struct saved {
    view<T, S, dyn, M * D> views;
    view<T, S, dyn, M> shares;
  };

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, K& k) {
    using T = typename Y::value_type;
    const scope freed(c.scratch);
    auto& memory = c.template arena_for<K>();
    const auto views = memory.template make<T, dyn, M * D>(x.extent(0));
    const auto shares = memory.template make<T, dyn, M>(x.extent(0));
    const auto preferred = c.scratch.template make<T, dyn, M>(x.extent(0));
    run_forward(c.in(0), p.views, x, views, k.views);
    run_forward(c.in(1), p.gate, x, shares, k.gate);
    run_forward(c.in(2), p.preference, c.template get<row_kinds>(), preferred, k.preference);
    ops::add(c.backend, preferred, shares);
    ops::softmax(c.backend, shares, shares);
    ops::hyper_read(c.backend, as_heads<M, D>(views), shares, y);
    if constexpr (keeps_tape<K>) k.own = {views, shares};
  }
  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k,
                       G& g) {
    using T = typename DY::value_type;
    const scope freed(c.scratch);
    const auto dviews = c.scratch.template make<T, dyn, M * D>(x.extent(0));
    const auto dshares = c.scratch.template make<T, dyn, M>(x.extent(0));
    const auto dx_gate = c.scratch.template make<T, dyn, D>(x.extent(0));
    ops::fill(c.backend, 0.0, dviews);
    ops::hyper_read_backward(c.backend, hyper_read_views{as_heads<M, D>(k.own.views), k.own.shares},
                             dy, hyper_read_views{as_heads<M, D>(dviews), dshares});
    ops::softmax_backward(c.backend, k.own.shares, dshares, dshares);
    add_summed(c, g.preference.weight, [&](const auto& sums) {
      ops::embedding_backward(c.backend, c.template get<row_kinds>(), dshares, sums);
    });
    run_backward(c.in(1), p.gate, x, as_const(dshares), dx_gate, k.gate, g.gate);
    run_backward(c.in(0), p.views, x, as_const(dviews), dx, k.views, g.views);
    ops::add(c.backend, dx_gate, dx);
  }
};

}  // namespace deepseek
