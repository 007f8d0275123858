// SPDX-License-Identifier: Apache-2.0
// checkpointed<L>: saves nothing in training and runs L forward again in backward. Its input is the
// caller's; dropout and random patterns give the same bits again (they depend on the site only).
// Memory of one L instead of N inside repeat<N, checkpointed<L>>; about a third more work.
// Source: Chen et al. 2016 (training with sublinear memory cost).
#pragma once

#include "deepseek/layers/activity.hpp"
#include "deepseek/layers/layer.hpp"
#include "deepseek/quant/format.hpp"

namespace deepseek {

template <class L>
struct checkpointed {
  static constexpr index_t out = L::out;
  static constexpr const char* label = L::label;
  static constexpr bool stacks = runs_as_stack<L>;
  template <class F>
  using with_format = checkpointed<reformatted<L, F>>;
  template <class T, class S>
  struct parameters : deepseek::parameters<L, T, S> {
    using layer = checkpointed;
    using wrapped = deepseek::parameters<L, T, S>;
  };
  template <class T, class S>
  using state = keep<for_decode, L, T, S>;
  template <class T, class S>
  using observed = keep<for_calibration, L, T, S>;
  template <class T, class S>
  using activity = keep<for_activity, L, T, S>;

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    if constexpr (keeps_state<K> || observes<K> || keeps_activity<K>) {
      run_forward<L>(c, p, x, y, k.own);
    } else {
      keep<nothing, L, typename Y::value_type, typename C::space> forgotten;
      run_forward<L>(c, p, x, y, forgotten);
    }
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K&, G& g) {
    using T = typename DY::value_type;
    const scope tape_freed(c.tape), freed(c.scratch);
    keep<for_backward, L, T, typename C::space> again;
    auto y = c.scratch.template make<T, dyn, out>(x.extent(0));
    auto silent = c;
    silent.options.report = nullptr;  // what forward reports was reported the first time
    run_forward<L>(silent, p, x, y, again);
    run_backward<L>(c, p, x, dy, dx, again, g);
  }
  template <class P, class K, class Q>
  static void convert(const std::string& path, const P& p, const K& k, Q& q) {
    if constexpr (has_fields<P>) {
      using Inner = typename deepseek::parameters<L, float, host>::layer;
      if constexpr (requires { Inner::convert(path, p, k.own, q); }) {
        Inner::convert(path, p, k.own, q);
      } else {
        convert_fields(path, p, k.own, q);
      }
    }
  }
};

}  // namespace deepseek
