// SPDX-License-Identifier: Apache-2.0
// residual<L>: y = x + L(x). The sum is formed in y; nothing more is kept.
// called<"name", L>: the same layer under another name in paths.
#pragma once

#include "deepseek/layers/layer.hpp"
#include "deepseek/ops/add.hpp"
#include "deepseek/quant/format.hpp"

namespace deepseek {

template <class L>
struct residual {
  static constexpr index_t out = L::out;
  static constexpr const char* label = L::label;
  static constexpr bool stacks = runs_as_stack<L>;
  template <class F>
  using with_format = residual<reformatted<L, F>>;
  template <class Of>
  struct parts {
    using layer = residual;
    each<Of, L> body;
    static constexpr auto fields() { return std::tuple{named("", &parts::body)}; }
  };

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    static_assert(
        width_fits<X, out>,
        "deepseek::residual: the body changes the width; its output must be as wide as its input");
    run_forward<L>(c, p.body, x, y, k.body);
    ops::add(c.backend, x, y);
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
    run_backward<L>(c, p.body, x, dy, dx, k.body, g.body);
    ops::add(c.backend, dy, dx);
  }
};

template <std::size_t N>
struct text {
  char characters[N]{};
  constexpr text(const char (&s)[N]) {
    for (std::size_t i = 0; i < N; ++i) characters[i] = s[i];
  }
};
template <text Name, class L>
struct called : L {
  static constexpr const char* label = Name.characters;
  template <class F>
  using with_format = called<Name, reformatted<L, F>>;
};

}  // namespace deepseek
