// SPDX-License-Identifier: Apache-2.0
// Input layers. One makes rows of the model's width from what people have: embedding<V, D> from
// token ids, patch_embedding from images, frame_embedding from audio, linear from features that are
// rows already. The concept: a layer that says how many rows it makes, input_rows<L>(x), and writes
// y [that many, out]. Its x is data and has no gradient (dx = none).
// inputs<L...>: several kinds in one model: kind i goes through layer i, all to one width; the rows
// are joined in the order that the input says (by_kind.hpp) and its kinds are lent to what follows:
//   y[r] = (L_0(x_0); L_1(x_1); ...)[order[r]]
// Backward adds over rows used several times. Errors: shape_mismatch (rows of a kind), index_range.
#pragma once

#include "deepseek/layers/by_kind.hpp"
#include "deepseek/ops/embedding.hpp"
#include "deepseek/ops/fill.hpp"
#include "deepseek/quant/format.hpp"

namespace deepseek {

template <class L, class X>
concept InputLayer = Layer<L> && requires(const X& x) {
  { input_rows<L>(x) } -> std::convertible_to<index_t>;
};

template <class... L>
struct inputs {
  static constexpr std::size_t count = sizeof...(L);
  static_assert(count > 0, "deepseek::inputs: no input layers; write inputs<text, image>");
  template <std::size_t I>
  using at = std::tuple_element_t<I, std::tuple<L...>>;
  static constexpr index_t out = at<0>::out;
  static_assert(((L::out == out) && ...),
                "deepseek::inputs: input layers have different widths; give all the same dim");
  static constexpr const char* label = "inputs";
  template <class F>
  using with_format = inputs<reformatted<L, F>...>;

  template <class Of, std::size_t I>
  struct slot {
    each<Of, at<I>> part;
  };
  template <class Of, class Sequence>
  struct slots;
  template <class Of, std::size_t... I>
  struct slots<Of, std::index_sequence<I...>> : slot<Of, I>... {
    using layer = inputs;
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

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    static_assert(X::count == count,
                  "deepseek::inputs: the input has another number of kinds than there are layers; "
                  "pass by_kind(order, one view for each layer)");
    const scope freed(c.scratch);
    const auto all = c.scratch.template make<typename Y::value_type, dyn, out>(total_rows(x));
    each_kind(x, [&](auto kind, index_t first, index_t n) {
      constexpr std::size_t I = kind;
      run_forward<at<I>>(c.in(static_cast<index_t>(I)), p.template get<I>(), x.template of<I>(),
                         rows(all, first, n), k.template get<I>());
    });
    ops::embedding(c.backend, x.order, all, y);
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX&, K& k, G& g) {
    static_assert(std::is_same_v<DX, none>,
                  "deepseek::inputs: inputs have no gradient; pass ds::none{} as dx");
    const scope freed(c.scratch);
    const auto all = c.scratch.template make<typename DY::value_type, dyn, out>(total_rows(x));
    ops::fill(c.backend, 0.0, all);
    ops::embedding_backward(c.backend, x.order, dy, all);
    each_kind(x, [&](auto kind, index_t first, index_t n) {
      constexpr std::size_t I = kind;
      run_backward<at<I>>(c.in(static_cast<index_t>(I)), p.template get<I>(), x.template of<I>(),
                          as_const(rows(all, first, n)), none{}, k.template get<I>(),
                          g.template get<I>());
    });
  }

 private:
  // f(kind, first row, rows) for each kind, its rows behind those of the kinds before it.
  template <class X, class F>
  static index_t each_kind(const X& x, const F& f) {
    index_t first = 0;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      const auto one = [&](auto kind) {
        constexpr std::size_t J = kind;
        using V = std::remove_cvref_t<decltype(x.template of<J>())>;
        static_assert(InputLayer<at<J>, V>,
                      "deepseek::inputs: one of the layers is no input layer for what it gets; see "
                      "layers/inputs.hpp");
        const index_t n = deepseek::input_rows<at<J>>(x.template of<J>());
        f(kind, first, n);
        first += n;
      };
      (one(std::integral_constant<std::size_t, I>{}), ...);
    }
    (std::make_index_sequence<count>{});
    return first;
  }
  template <class X>
  static index_t total_rows(const X& x) {
    return each_kind(x, [](auto, index_t, index_t) {});
  }
};

}  // namespace deepseek
