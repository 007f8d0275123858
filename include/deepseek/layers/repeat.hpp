// SPDX-License-Identifier: Apache-2.0
// repeat<N, L, First>: N layers of one type one after the other, N sets of parameters, named
// layers.First, layers.First + 1, ... One type, so compile time does not grow with N.
#pragma once

#include "deepseek/layers/layer.hpp"
#include "deepseek/quant/format.hpp"

#include <array>

namespace deepseek {

template <index_t N, class L, index_t First = 0>
struct repeat {
  static_assert(N > 0, "deepseek::repeat: the count is not positive; write repeat<layers, layer>");
  static constexpr index_t out = L::out;
  static constexpr const char* label = "layers";
  template <class F>
  using with_format = repeat<N, reformatted<L, F>, First>;

  template <class Of>
  struct parts {
    using layer = repeat;
    numbered<each<Of, L>, N, First> all;
    static constexpr auto fields() { return std::tuple{named("", &parts::all)}; }
  };
  template <class T, class S>
  struct saved {
    std::array<view<T, S, dyn, out>, static_cast<std::size_t>(N)> y;  // of every layer but the last
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
        if (keeps_tape<K> || i < 2)
          t = c.template arena_for<K>().template make<T, dyn, out>(x.extent(0));
        next = t;
      }
      run_forward<L>(c.in(First + i), p.all[i], h, next, k.all[i]);
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
      run_backward<L>(c.in(First + i), p.all[i], xi, d, next, k.all[i], g.all[i]);
      d = next;
    }
  }
};

}  // namespace deepseek
