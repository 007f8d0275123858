// SPDX-License-Identifier: Apache-2.0
// A layer is a stateless type. It has `out` (its width), `label` (its part of a path), parameters
// (or parts), and two verbs:
//   forward(call, parameters, x, y, kept)                            writes y
//   backward(call, parameters, x, dy, dx, kept, gradients)           writes dx, adds to gradients
// The caller owns x, y, dy and dx; a layer saves only what is none of them. Parts are run through
// the two doors below, where a missing verb becomes one sentence.
#pragma once

#include "deepseek/core/call.hpp"
#include "deepseek/core/keep.hpp"
#include "deepseek/core/parameters.hpp"

namespace deepseek {

template <class L>
concept Layer = requires {
  { L::out } -> std::convertible_to<index_t>;
  { L::label } -> std::convertible_to<const char*>;
};

struct absent {  // in the place of a part that is not there
  static constexpr index_t out = 0;
  static constexpr const char* label = "absent";
};

template <class Given, class P>
struct layer_choice {
  using type = Given;
};
template <class P>
struct layer_choice<void, P> {
  using type = typename P::layer;
};

template <class Given = void, class C, class P, class X, class Y, class K>
void run_forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
  using L = typename layer_choice<Given, P>::type;
  constexpr bool ok = requires {
    L::forward(c, p, x, y, k);
  };
  static_assert(Layer<L>,
                "deepseek::layer: this type has no `out` and `label`; see docs/own_layer.md");
  static_assert(ok,
                "deepseek::layer: no forward(call, parameters, x, y, kept) takes these arguments; "
                "see docs/own_layer.md");
  if constexpr (ok) {
    L::forward(c, p, x, y, k);
  }
}

// One layer's forward, put off.
template <class C, class P, class X, class Y, class K>
struct layer_run {
  using layer = typename P::layer;
  C c;
  const P& p;
  X x;
  Y y;
  K& k;
};
template <class C, class P, class X, class Y, class K>
layer_run<C, P, X, Y, K> run_of(const C& c, const P& p, const X& x, const Y& y, K& k) {
  return {c, p, x, y, k};
}
template <class C, class P, class X, class Y, class K>
void run_forward(const layer_run<C, P, X, Y, K>& run) {
  run_forward(run.c, run.p, run.x, run.y, run.k);
}

template <class Given = void, class C, class P, class X, class DY, class DX, class K, class G>
void run_backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
  using L = typename layer_choice<Given, P>::type;
  constexpr bool ok = requires {
    L::backward(c, p, x, dy, dx, k, g);
  };
  static_assert(ok,
                "deepseek::layer: this layer cannot be trained (no backward); write backward(call, "
                "parameters, x, dy, dx, kept, gradients) or run it without a tape");
  if constexpr (ok) {
    L::backward(c, p, x, dy, dx, k, g);
  }
}

// How many rows a run has: one for each token (or patch, or frame), and packed sequences.
struct row_counts {
  index_t tokens = 0, sequences = 0;
};
template <class Options>
row_counts count_rows(const Options& run, index_t tokens) {
  const index_t offsets = run.sequences.extent(0);
  return {tokens, offsets > 0 ? offsets - 1 : (tokens > 0 ? 1 : 0)};
}
// Rows that a layer makes of x: as many as x has, unless the layer says more (an image is several).
template <class L, class X>
index_t input_rows(const X& x) {
  if constexpr (requires { L::input_rows(x); }) {
    return L::input_rows(x);
  } else {
    return x.extent(0);
  }
}
// Rows of y: one for each token, unless the layer says otherwise (one for each sequence).
template <class L>
constexpr index_t output_rows(const row_counts& n) {
  if constexpr (requires { L::output_rows(n); }) {
    return L::output_rows(n);
  } else {
    return n.tokens;
  }
}

// Call tag: the ids of the rows' tokens, a view [tokens] of int32. Lent to what comes after an
// embedding by the composite that owns it. An input that is a struct says itself what it lends.
struct token_ids {};
template <class C, class X>
auto lend_token_ids(const C& c, const X& x) {
  if constexpr (requires { x.lend(c); }) {
    return x.lend(c);
  } else if constexpr (is_view<X>) {
    if constexpr (X::rank == 1 && std::is_integral_v<typename X::value_type>) {
      return c.template with<token_ids>(as_const(x));
    } else {
      return c;
    }
  } else {
    return c;
  }
}

// The static width of a view of rows must be what the layer expects (or run-time).
template <class X, index_t Expected>
inline constexpr bool width_fits = X::rank == 2 && (X::static_extents[X::rank - 1] == dyn ||
                                                    X::static_extents[X::rank - 1] == Expected);

// Nets with multi-token prediction draft the token after the next; see with_mtp.hpp.
template <class Net>
concept PredictsFurther = requires {
  typename Net::mtp;
};

// Row-wise layers treat each row alone: then a row of a batch equals the row alone. Default true.
template <class L>
inline constexpr bool rows_are_independent = true;

// Call tag: offsets [E + 1], the rows of each expert: lent to layers whose weights are those of E
// experts side by side. A layer that reads it says `static constexpr bool stacks = true`; any other
// runs expert by expert (layers/expert_bank.hpp).
struct segments {};
template <class L>
inline constexpr bool runs_as_stack = false;
template <class L>
requires requires {
  L::stacks;
}
inline constexpr bool runs_as_stack<L> = L::stacks;

// f(e, first row, rows) for each expert of the call that has rows. Host memory.
template <class C, class F>
void for_each_segment(const C& c, const F& f) {
  static_assert(
      std::is_same_v<typename C::space, host>,
      "deepseek::layer: this layer reads its experts' rows on the host; run it on ds::cpu");
  const auto& offsets = c.template get<segments>();
  for (index_t e = 0; e + 1 < offsets.extent(0); ++e) {
    if (offsets(e) < offsets(e + 1)) f(e, offsets(e), offsets(e + 1) - offsets(e));
  }
}

}  // namespace deepseek
