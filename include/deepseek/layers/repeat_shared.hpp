// SPDX-License-Identifier: Apache-2.0
// repeat_shared<N, L>: one layer run N times, y = L(L(... L(x))), with one set of parameters and N
// keeps: memory of one layer, depth of N. Gradients of the passes are added up. Each pass has its
// own tape, cache, and random numbers (dropout differs); a calibration sees all passes at once.
// Paths: layers.attn.wq.weight (no number: files hold one set).
// Sources: Dehghani et al. 2019 (Universal Transformers); Lan et al. 2020 (ALBERT), section 3.1.
#pragma once

#include "deepseek/layers/layer.hpp"
#include "deepseek/quant/format.hpp"

#include <array>

namespace deepseek {

template <index_t N, class L>
struct repeat_shared {
  static_assert(N > 0,
                "deepseek::repeat_shared: the count is not positive; write repeat_shared<passes, "
                "layer>");
  static constexpr index_t out = L::out;
  static constexpr const char* label = "layers";
  template <class F>
  using with_format = repeat_shared<N, reformatted<L, F>>;

  template <class T, class S>
  struct parameters {
    using layer = repeat_shared;
    deepseek::parameters<L, T, S> shared;
    static constexpr auto fields() { return std::tuple{named("", &parameters::shared)}; }
  };
  template <class T, class S>
  struct saved {
    std::array<view<T, S, dyn, out>, static_cast<std::size_t>(N)> y;  // of every pass but the last
  };

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    using T = typename Y::value_type;
    const scope freed(c.scratch);
    view<const T, typename C::space, dyn, out> h(x);
    std::array<view<T, typename C::space, dyn, out>, 2> turn;  // inference needs only two
    for (index_t i = 0; i < N; ++i) {
      view<T, typename C::space, dyn, out> next(y);
      if (i + 1 < N) {
        auto& t = turn[static_cast<std::size_t>(i % 2)];
        if (keeps_tape<K> || i < 2) {
          t = c.template arena_for<K>().template make<T, dyn, out>(x.extent(0));
        }
        next = t;
      }
      run_forward<L>(c.in(i), p.shared, h, next, k.pass(i));
      if constexpr (keeps_tape<K>) k.own.y[static_cast<std::size_t>(i)] = next;
      h = next;
    }
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
    using T = typename DY::value_type;
    const scope freed(c.scratch);
    view<const T, typename C::space, dyn, out> d(dy);
    std::array<view<T, typename C::space, dyn, out>, 2> turn;
    for (index_t i = N - 1; i >= 0; --i) {
      view<T, typename C::space, dyn, out> next(dx);
      view<const T, typename C::space, dyn, out> xi(x);
      if (i > 0) {
        auto& t = turn[static_cast<std::size_t>(i % 2)];
        if (t.data() == nullptr) t = c.scratch.template make<T, dyn, out>(x.extent(0));
        next = t;
        xi = k.own.y[static_cast<std::size_t>(i - 1)];
      }
      run_backward<L>(c.in(i), p.shared, xi, d, next, k.pass(i), g.shared);
      d = next;
    }
  }
};

// What each pass keeps; what gathers over passes is one set, as there is one of weights.
template <class Kind, index_t N, class L, class T, class S>
struct keep<Kind, repeat_shared<N, L>, T, S> {
  using kind = Kind;
  static constexpr bool one = gathers_runs<Kind>;
  using each_pass = keep<Kind, L, T, S>;
  typename own_choice<Kind, repeat_shared<N, L>, T, S>::type own;
  std::conditional_t<one, each_pass, numbered<each_pass, N, 0>> all;
  static constexpr auto fields() { return std::tuple{named("", &keep::all)}; }
  each_pass& pass(index_t i) {
    if constexpr (one) {
      return all;
    } else {
      return all[i];
    }
  }
};

// A row of a pass depends on the rows that the layer's row does.
template <index_t N, class L>
inline constexpr bool rows_are_independent<repeat_shared<N, L>> = rows_are_independent<L>;

}  // namespace deepseek
