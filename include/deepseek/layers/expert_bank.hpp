// SPDX-License-Identifier: Apache-2.0
// The experts of a moe, three ways to hold and run them on rows sorted by expert:
//   stack<N, L>          N layers of one type, weights side by side, run once over all rows by
//                        grouped products, or on a host, where nothing is kept, over those of some
//                        experts after another. Only layers that say `stacks = true`: those whose
//                        parts read the call's `segments` (linear, swiglu, mlp, norms, and chains
//                        of such).
//   separate<N, L>       N layers of any one type, each run on its own rows
//   expert_list<L...>    layers of different types, one for each expert, in order
// The last two run a layer on the rows of its expert alone; a layer that mixes rows (attention)
// sees them as packed sequences: the tokens of a sequence that chose this expert, in order,
// positions counted among them. An expert that got no rows is not run. Experts that keep a cache
// cannot decode.
#pragma once

#include "deepseek/layers/linear.hpp"
#include "deepseek/ops/expert_sequences.hpp"

namespace deepseek {

// No part's format makes a row depend on the others of its call.
template <class P>
constexpr bool formats_keep_rows_apart() {
  bool apart = true;
  if constexpr (requires { typename P::layer::format; }) {
    apart = keeps_rows_apart<typename P::layer::format>;
  }
  if constexpr (requires { P::fields(); }) {
    const auto in_parts = [](auto... m) {
      return (formats_keep_rows_apart<
                  std::remove_cvref_t<decltype(std::declval<P&>().*(m.pointer))>>() &&
              ... && true);
    };
    apart = apart && std::apply(in_parts, P::fields());
  }
  return apart;
}

// Whether L runs step by step beside the layer of another run, on parameters of its own kind.
template <class L, class P, class Other>
constexpr bool runs_together = false;
template <class L, class P, class Other>
requires requires {
  L::template runs_beside<typename Other::layer>;
}
constexpr bool runs_together<L, P, Other> =
    std::is_same_v<L, typename P::layer> && L::template runs_beside<typename Other::layer>;

// Bytes of rows of a stack's inputs for each thread that are run together: what lies between the
// products of an expert then stays in the caches and takes no more memory than these rows need.
inline constexpr index_t stack_bytes = index_t{1} << 21;

// N layers of one type with their weights side by side; kept things are those of one run.
template <index_t N, class L>
struct stack {
  static constexpr index_t out = L::out;
  static constexpr const char* label = L::label;
  template <class T, class S>
  using parameters = deepseek::parameters<L, T, stacked<N, S>>;

  template <class C, class Sorted, class P, class X, class Y, class K>
  static void run(const C& c, const Sorted& sorted, const P& p, const X& x, const Y& y, K& k) {
    const auto offsets = as_const(sorted.offsets);
    if constexpr (runs_in_parts<C, P, K>) {
      const index_t most = most_rows(c.backend, x);
      if (!c.training() && x.extent(0) > most) return run_parts(c, offsets, most, p, x, y, k);
    }
    run_forward<L>(c.template with<segments>(offsets), p, x, y, k);
  }
  // And the run of a layer that every row meets: step by step beside the experts' where both are of
  // one kind and these run at once, else after them.
  template <class C, class Sorted, class P, class X, class Y, class K, class Other>
  static void run_beside(const C& c, const Sorted& sorted, const P& p, const X& x, const Y& y, K& k,
                         const Other& other) {
    if constexpr (runs_together<L, P, Other>) {
      bool parts = false;
      if constexpr (runs_in_parts<C, P, K>) parts = x.extent(0) > most_rows(c.backend, x);
      if (!parts) {
        const auto lent = c.template with<segments>(as_const(sorted.offsets));
        return L::forward_beside(run_of(lent, p, x, y, k), other);
      }
    }
    run(c, sorted, p, x, y, k);
    run_forward(other);
  }
  template <class C, class Sorted, class P, class X, class DY, class DX, class K, class G>
  static void run_back(const C& c, const Sorted& rows, const P& p, const X& x, const DY& dy,
                       const DX& dx, K& k, G& g) {
    run_backward<L>(c.template with<segments>(as_const(rows.offsets)), p, x, dy, dx, k, g);
  }

 private:
  template <class C, class P, class K>
  static constexpr bool runs_in_parts =
      std::is_same_v<typename C::space, host>&& rows_are_independent<L>&&
      formats_keep_rows_apart<P>() &&
      !keeps_tape<K> && !observes<K> && !keeps_activity<K>;

  template <class B, class X>
  static index_t most_rows(const B& b, const X& x) {
    index_t threads = 1;
    if constexpr (requires { b.threads(); }) threads = b.threads();
    const auto row = x.extent(1) * static_cast<index_t>(sizeof(typename X::value_type));
    return threads * std::max<index_t>(stack_bytes / std::max<index_t>(row, 1), 1);
  }
  // Neighbouring experts with at most `most` rows, or one with more, after another. The last ones
  // take the rows behind all experts along.
  template <class C, class O, class P, class X, class Y, class K>
  static void run_parts(const C& c, const O& offsets, index_t most, const P& p, const X& x,
                        const Y& y, K& k) {
    const scope freed(c.scratch);
    const auto own = c.scratch.template make<std::int32_t, dyn>(N + 1);
    for (index_t e = 0, last; e < N; e = last) {
      const std::int32_t low = offsets(e);
      for (last = e + 1; last < N && offsets(last + 1) - low <= most;) ++last;
      for (index_t i = 0; i <= N; ++i) own(i) = std::clamp(offsets(i), low, offsets(last)) - low;
      const index_t count = (last < N ? offsets(last) : x.extent(0)) - low;
      if (count == 0) continue;
      run_forward<L>(c.template with<segments>(as_const(own)), p, rows(x, low, count),
                     rows(y, low, count), k);
    }
  }
};
template <class Kind, index_t N, class L, class T, class S>
struct keep<Kind, stack<N, L>, T, S> : keep<Kind, L, T, S> {};

// Nothing in K is kept for decoding.
template <class K>
constexpr bool keeps_nothing() {
  if constexpr (is_numbered<K>) {
    return keeps_nothing<std::remove_cvref_t<decltype(std::declval<K&>()[0])>>();
  } else if constexpr (requires(K k) { k.own; }) {
    using own = std::remove_cvref_t<decltype(std::declval<K&>().own)>;
    bool nothing_here = std::is_same_v<own, none>;
    if constexpr (requires(own o) { o.own; }) nothing_here = keeps_nothing<own>();
    if constexpr (requires { K::fields(); }) {
      const auto in_parts = [](auto... m) {
        return (keeps_nothing<std::remove_cvref_t<decltype(std::declval<K&>().*(m.pointer))>>() &&
                ... && true);
      };
      nothing_here = nothing_here && std::apply(in_parts, K::fields());
    }
    return nothing_here;
  } else {
    return true;
  }
}

// The rows of one expert and the call that it is run with.
template <class C, class Sorted>
class expert_runs {
 public:
  using space = typename C::space;
  static_assert(std::is_same_v<space, host>,
                "deepseek::moe: experts that run one by one need their rows' offsets on the host; "
                "run them on ds::cpu, or use experts that run as a stack");
  expert_runs(const C& c, const Sorted& rows, index_t n) : c_(c), rows_(rows) {
    const auto& sequences = c.options.sequences;
    if (sequences.empty()) return;
    starts_ = c.scratch.template make<std::int32_t, dyn, dyn>(n, sequences.extent(0));
    ops::expert_sequences(c.backend, expert_rows{rows.offsets, rows.source, rows.choices},
                          sequences, starts_);
  }
  index_t first(index_t e) const { return rows_.offsets(e); }
  index_t count(index_t e) const { return rows_.offsets(e + 1) - rows_.offsets(e); }
  template <class V>
  auto of(const V& v, index_t e) const {
    return rows(v, first(e), count(e));
  }
  C call(index_t e) const {
    C own = c_.in(e);
    own.options.sequences = {};
    if (!starts_.empty()) own.options.sequences = as_const(slice(starts_, e));
    return own;
  }

 private:
  const C& c_;
  const Sorted& rows_;
  view<std::int32_t, space, dyn, dyn> starts_;
};

template <class L, class Runs, class P, class X, class Y, class K>
void run_expert(const Runs& runs, index_t e, const P& p, const X& x, const Y& y, K& k) {
  if constexpr (keeps_state<K>) {
    static_assert(keeps_nothing<std::remove_cvref_t<K>>(),
                  "deepseek::moe: this expert keeps a cache and cannot decode (it would not know "
                  "the positions that other experts got); run whole sequences with m(b, x)");
  }
  if (runs.count(e) > 0) run_forward<L>(runs.call(e), p, runs.of(x, e), runs.of(y, e), k);
}
template <class L, class Runs, class P, class X, class DY, class DX, class K, class G>
void run_expert_back(const Runs& runs, index_t e, const P& p, const X& x, const DY& dy,
                     const DX& dx, K& k, G& g) {
  if (runs.count(e) == 0) return;
  run_backward<L>(runs.call(e), p, runs.of(x, e), runs.of(dy, e), runs.of(dx, e), k, g);
}

template <index_t N, class L>
struct separate {
  static constexpr index_t out = L::out;
  static constexpr const char* label = L::label;
  template <class Of>
  struct parts {
    using layer = separate;
    numbered<each<Of, L>, N, 0> all;
    static constexpr auto fields() { return std::tuple{named("", &parts::all)}; }
  };

  template <class C, class Sorted, class P, class X, class Y, class K>
  static void run(const C& c, const Sorted& rows, const P& p, const X& x, const Y& y, K& k) {
    const scope freed(c.scratch);
    const expert_runs<C, Sorted> runs(c, rows, N);
    for (index_t e = 0; e < N; ++e) run_expert<L>(runs, e, p.all[e], x, y, k.all[e]);
  }
  template <class C, class Sorted, class P, class X, class DY, class DX, class K, class G>
  static void run_back(const C& c, const Sorted& rows, const P& p, const X& x, const DY& dy,
                       const DX& dx, K& k, G& g) {
    const scope freed(c.scratch);
    const expert_runs<C, Sorted> runs(c, rows, N);
    for (index_t e = 0; e < N; ++e) {
      run_expert_back<L>(runs, e, p.all[e], x, dy, dx, k.all[e], g.all[e]);
    }
  }
};

// "0", "1", ...: paths of the experts in a list.
template <std::size_t I>
struct decimal {
  static_assert(I < 1000, "deepseek::expert_list: more than 1000 experts; use experts of one type");
  static constexpr char text[4] = {I >= 100 ? '0' + I / 100 : '0' + (I >= 10 ? I / 10 : I),
                                   I >= 100  ? '0' + I / 10 % 10
                                   : I >= 10 ? '0' + I % 10
                                             : '\0',
                                   I >= 100 ? '0' + I % 10 : '\0', '\0'};
};

template <class... L>
struct expert_list {
  static constexpr std::size_t count = sizeof...(L);
  static_assert(count > 0, "deepseek::expert_list: no experts; write expert_list<first, second>");
  template <std::size_t I>
  using at = std::tuple_element_t<I, std::tuple<L...>>;
  static constexpr index_t out = at<0>::out;
  static_assert(((L::out == out) && ...),
                "deepseek::expert_list: the experts have different widths (their rows are added); "
                "give all the model's dim");
  static constexpr const char* label = "experts";
  template <class F>
  using with_format = expert_list<reformatted<L, F>...>;

  template <class Of, std::size_t I>
  struct slot {
    each<Of, at<I>> part;
  };
  template <class Of, class Sequence>
  struct slots;
  template <class Of, std::size_t... I>
  struct slots<Of, std::index_sequence<I...>> : slot<Of, I>... {
    using layer = expert_list;
    static constexpr auto fields() {
      return std::tuple{named(decimal<I>::text, &slot<Of, I>::part)...};
    }
  };
  using numbers = std::make_index_sequence<count>;
  template <class Of>
  struct parts : slots<Of, numbers> {};

  template <class C, class Sorted, class P, class X, class Y, class K>
  static void run(const C& c, const Sorted& rows, const P& p, const X& x, const Y& y, K& k) {
    const scope freed(c.scratch);
    const expert_runs<C, Sorted> runs(c, rows, static_cast<index_t>(count));
    each_expert(
        [&]<std::size_t I>(std::integral_constant<std::size_t, I>) {
          run_expert<at<I>>(runs, I, field_of<I>(p), x, y, field_of<I>(k));
        },
        numbers{});
  }
  template <class C, class Sorted, class P, class X, class DY, class DX, class K, class G>
  static void run_back(const C& c, const Sorted& rows, const P& p, const X& x, const DY& dy,
                       const DX& dx, K& k, G& g) {
    const scope freed(c.scratch);
    const expert_runs<C, Sorted> runs(c, rows, static_cast<index_t>(count));
    each_expert(
        [&]<std::size_t I>(std::integral_constant<std::size_t, I>) {
          run_expert_back<at<I>>(runs, I, field_of<I>(p), x, dy, dx, field_of<I>(k),
                                 field_of<I>(g));
        },
        numbers{});
  }

 private:
  template <class F, std::size_t... I>
  static void each_expert(const F& f, std::index_sequence<I...>) {
    (f(std::integral_constant<std::size_t, I>{}), ...);
  }
};

// How many experts a bank runs one by one; 0: they are a stack, or it is no bank.
template <class L>
inline constexpr index_t apart_in = 0;
template <index_t N, class L>
inline constexpr index_t apart_in<separate<N, L>> = N;
template <class... L>
inline constexpr index_t apart_in<expert_list<L...>> = static_cast<index_t>(sizeof...(L));

// How a moe of E experts holds what was given as its expert.
template <index_t E, class Expert>
struct bank_choice {
  using type = std::conditional_t<runs_as_stack<Expert>, stack<E, Expert>, separate<E, Expert>>;
};
template <index_t E, class... L>
struct bank_choice<E, expert_list<L...>> {
  static_assert(sizeof...(L) == E,
                "deepseek::moe: expert_list does not name one layer for each routed expert; write "
                "as many layers as .routed");
  using type = expert_list<L...>;
};
template <index_t E, class Expert>
using expert_bank = typename bank_choice<E, Expert>::type;

}  // namespace deepseek
