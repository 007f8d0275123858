// SPDX-License-Identifier: Apache-2.0
// with_heads<Trunk, Heads...>: one trunk, several tasks: h = Trunk(x), y_i = Head_i(h). Training
// gives head_outputs, a view for each head (y.get<i>()), and takes their gradients; a head that has
// no loss in this step gets none in its place. m(b, x) runs the first head alone, m.outputs all.
// Gradients of h add up in the order of the heads. Names: those of the trunk and of each head.
#pragma once

#include "deepseek/layers/layer.hpp"
#include "deepseek/ops/add.hpp"
#include "deepseek/ops/fill.hpp"
#include "deepseek/quant/format.hpp"

#include <tuple>

namespace deepseek {

// A view (or none) for each head: outputs, or their gradients.
template <class... Y>
struct head_outputs {
  std::tuple<Y...> all;
  template <std::size_t I>
  const auto& get() const {
    return std::get<I>(all);
  }
};
template <class... Y>
head_outputs<Y...> make_head_outputs(const Y&... y) {
  return {{y...}};
}
template <class>
inline constexpr bool is_head_outputs = false;
template <class... Y>
inline constexpr bool is_head_outputs<head_outputs<Y...>> = true;

namespace head_detail {
template <class V>
auto reading(const V& v) {
  if constexpr (std::is_same_v<V, none>) {
    return none{};
  } else {
    return as_const(as_view(v));
  }
}
}  // namespace head_detail
template <class... Y>
head_outputs<Y...> as_view(const head_outputs<Y...>& y) {
  return y;
}
template <class... Y>
auto as_const(const head_outputs<Y...>& y) {
  return std::apply([](const auto&... v) { return make_head_outputs(head_detail::reading(v)...); },
                    y.all);
}

template <class Trunk, class... Heads>
struct with_heads {
  static constexpr std::size_t count = sizeof...(Heads);
  static_assert(count > 0, "deepseek::with_heads: no heads; write with_heads<trunk, head, ...>");
  template <std::size_t I>
  using at = std::tuple_element_t<I, std::tuple<Heads...>>;
  static constexpr index_t D = Trunk::out, out = at<0>::out;
  static constexpr const char* label = "";
  template <class F>
  using with_format = with_heads<reformatted<Trunk, F>, reformatted<Heads, F>...>;

  template <class Of, std::size_t I>
  struct slot {
    each<Of, at<I>> part;
  };
  template <class Of, class Sequence>
  struct slots;
  template <class Of, std::size_t... I>
  struct slots<Of, std::index_sequence<I...>> : slot<Of, I>... {
    using layer = with_heads;
    each<Of, Trunk> trunk;
    template <std::size_t J>
    auto& get() {
      return static_cast<slot<Of, J>&>(*this).part;
    }
    template <std::size_t J>
    const auto& get() const {
      return static_cast<const slot<Of, J>&>(*this).part;
    }
    static constexpr auto fields() {
      return std::tuple{named(Trunk::label, &slots::trunk),
                        named(at<I>::label, &slot<Of, I>::part)...};
    }
  };
  template <class Of>
  struct parts : slots<Of, std::make_index_sequence<count>> {};
  template <class T, class S>
  struct saved {
    view<T, S, dyn, D> h;
  };

  template <class X>
  static index_t input_rows(const X& x) {
    return deepseek::input_rows<Trunk>(x);
  }
  static constexpr index_t output_rows(row_counts n) {  // of the first head
    return deepseek::output_rows<at<0>>({deepseek::output_rows<Trunk>(n), n.sequences});
  }
  template <class T, class S>
  static auto make_outputs(arena<S>& memory, const row_counts& n) {
    const row_counts h{deepseek::output_rows<Trunk>(n), n.sequences};
    return head_outputs<view<T, S, dyn, Heads::out>...>{
        {memory.template make<T, dyn, Heads::out>(deepseek::output_rows<Heads>(h))...}};
  }

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    const scope freed(c.scratch);
    if constexpr (is_head_outputs<Y>) {
      using T = typename std::tuple_element_t<0, decltype(y.all)>::value_type;
      const auto h = run_trunk<T>(c, p, x, k);
      each_head([&](auto i) { run_head<i>(c, p, x, h, y.template get<i>(), k); });
    } else {
      static_assert(!keeps_tape<K>,
                    "deepseek::with_heads: training gives all outputs (one loss each); pass "
                    "head_outputs as y");
      run_head<0>(c, p, x, run_trunk<typename Y::value_type>(c, p, x, k), y, k);
    }
  }

  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
    const scope freed(c.scratch);
    using T = typename decltype(k.own.h)::value_type;
    const auto h = as_const(k.own.h);
    const auto dh = c.scratch.template make<T, dyn, D>(h.extent(0));
    const auto part = c.scratch.template make<T, dyn, D>(h.extent(0));
    ops::fill(c.backend, 0.0, dh);
    each_head([&](auto i) {
      using D_i = std::remove_cvref_t<decltype(dy.template get<i>())>;
      if constexpr (!std::is_same_v<D_i, none>) {
        run_backward<at<i>>(call_of<i>(c, x), p.template get<i>(), h, dy.template get<i>(), part,
                            k.template get<i>(), g.template get<i>());
        ops::add(c.backend, part, dh);
      }
    });
    run_backward<Trunk>(c.in(0), p.trunk, x, as_const(dh), dx, k.trunk, g.trunk);
  }

 private:
  template <class F>
  static void each_head(const F& f) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (f(std::integral_constant<std::size_t, I>{}), ...);
    }
    (std::make_index_sequence<count>{});
  }
  template <std::size_t I, class C, class X>
  static auto call_of(const C& c, const X& x) {
    return lend_token_ids(c, x).in(1 + static_cast<index_t>(I));
  }
  template <class T, class C, class P, class X, class K>
  static auto run_trunk(const C& c, const P& p, const X& x, K& k) {
    const row_counts n = count_rows(c.options, input_rows(x));
    const auto h =
        c.template arena_for<K>().template make<T, dyn, D>(deepseek::output_rows<Trunk>(n));
    run_forward<Trunk>(c.in(0), p.trunk, x, h, k.trunk);
    if constexpr (keeps_tape<K>) k.own.h = h;
    return as_const(h);
  }
  template <std::size_t I, class C, class P, class X, class H, class Y, class K>
  static void run_head(const C& c, const P& p, const X& x, const H& h, const Y& y, K& k) {
    run_forward<at<I>>(call_of<I>(c, x), p.template get<I>(), h, y, k.template get<I>());
  }
};

}  // namespace deepseek
