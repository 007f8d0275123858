// SPDX-License-Identifier: Apache-2.0
// chain<L...>: y = Ln(... L2(L1(x))). Each intermediate is kept once, by the chain, in training;
// in inference it lives in scratch until the chain ends. Parts are named by their labels. A chain
// of token ids lends them to all parts but the first (the embedding).
#pragma once

#include "deepseek/layers/layer.hpp"
#include "deepseek/quant/format.hpp"

namespace deepseek {

template <class... L>
struct chain {
  static constexpr std::size_t count = sizeof...(L);
  static_assert(count > 0, "deepseek::chain: no layers; write chain<first, second, ...>");
  template <std::size_t I>
  using at = std::tuple_element_t<I, std::tuple<L...>>;
  static constexpr index_t out = at<count - 1>::out;
  static constexpr const char* label = "";
  static constexpr bool stacks = (runs_as_stack<L> && ...);
  template <class F>
  using with_format = chain<reformatted<L, F>...>;

  template <class Of, std::size_t I>
  struct slot {
    each<Of, at<I>> part;
  };
  template <class Of, class Sequence>
  struct slots;
  template <class Of, std::size_t... I>
  struct slots<Of, std::index_sequence<I...>> : slot<Of, I>... {
    using layer = chain;
    // Part J: p.get<0>() is what belongs to the first layer.
    template <std::size_t J>
    auto& get() {
      return static_cast<slot<Of, J>&>(*this).part;
    }
    template <std::size_t J>
    const auto& get() const {
      return static_cast<const slot<Of, J>&>(*this).part;
    }
    static constexpr auto fields() {
      return std::tuple{named(at<I>::label, &slot<Of, I>::part)...};
    }
  };
  template <class Of>
  struct parts : slots<Of, std::make_index_sequence<count>> {};

  template <class T, class S>
  struct saved {
    template <std::size_t I>
    struct input {
      view<T, S, dyn, at<I>::out> x;
    };
    template <class Sequence>
    struct inputs;
    template <std::size_t... I>
    struct inputs<std::index_sequence<I...>> : input<I>... {};
    inputs<std::make_index_sequence<count - 1>> outputs;  // of every part but the last
  };

  template <class X>
  static index_t input_rows(const X& x) {
    return deepseek::input_rows<at<0>>(x);
  }
  static constexpr index_t output_rows(row_counts n) {
    ((n.tokens = deepseek::output_rows<L>(n)), ...);
    return n.tokens;
  }

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    if constexpr (keeps_tape<K>) {
      forward_from<0>(c, p, x, y, k);
    } else {
      const scope freed(c.scratch);
      forward_from<0>(c, p, x, y, k);
    }
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
    backward_from<count - 1>(c, p, x, dy, dx, k, g);
  }

 private:
  template <std::size_t I, class Saved>
  static auto& output_of(Saved& s) {
    return static_cast<typename Saved::template input<I>&>(s.outputs).x;
  }

  template <std::size_t I, class C, class P, class X, class Y, class K>
  static void forward_from(const C& c, const P& p, const X& x, const Y& y, K& k) {
    if constexpr (I + 1 == count) {
      run_forward<at<I>>(c.in(I), p.template get<I>(), x, y, k.template get<I>());
    } else {
      using T = typename Y::value_type;
      const row_counts n = count_rows(c.options, deepseek::input_rows<at<I>>(x));
      auto h = c.template arena_for<K>().template make<T, dyn, at<I>::out>(
          deepseek::output_rows<at<I>>(n));
      run_forward<at<I>>(c.in(I), p.template get<I>(), x, h, k.template get<I>());
      if constexpr (keeps_tape<K>) output_of<I>(k.own) = h;
      forward_from<I + 1>(lend_token_ids(c, x), p, h, y, k);
    }
  }
  template <std::size_t I, class C, class P, class X, class DY, class DX, class K, class G>
  static void backward_from(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k,
                            G& g) {
    if constexpr (I == 0) {
      run_backward<at<0>>(c.in(0), p.template get<0>(), x, dy, dx, k.template get<0>(),
                          g.template get<0>());
    } else {
      using T = typename DY::value_type;
      const auto h = as_const(output_of<I - 1>(k.own));
      const scope freed(c.scratch);
      auto dh = c.scratch.template make<T, dyn, at<I - 1>::out>(h.extent(0));
      run_backward<at<I>>(lend_token_ids(c, x).in(I), p.template get<I>(), h, dy, dh,
                          k.template get<I>(), g.template get<I>());
      backward_from<I - 1>(c, p, x, as_const(dh), dx, k, g);
    }
  }
};

}  // namespace deepseek
