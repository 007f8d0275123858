// SPDX-License-Identifier: Apache-2.0
// prune<Smaller>(b, model[, seen]): the model with fewer units: a new type, written out, so shapes
// are compile-time and the choice of what goes is not. Smaller differs from the model's net in the
// number of neurons, heads or experts of its layers and in nothing else:
//   struct smaller : ds::chain<..., ds::swiglu<512, 1024>, ...> {};      // was swiglu<512, 2048>
//   const auto m2 = ds::prune<smaller>(b, m);                            // by L1 of the weights
//   ds::activity_of<net> seen;   ds::observe_activity(b, m, tokens, seen);
//   const auto m3 = ds::prune<smaller>(b, m, seen);                      // by what they did
// What is kept keeps its order and its bits. Experts and neurons of experts: one call for each.
// Errors: nonfinite, invalid_argument (layers/unit_scores.hpp). Host.
#pragma once

#include "deepseek/layers/checkpointed.hpp"
#include "deepseek/layers/model.hpp"
#include "deepseek/layers/unit_scores.hpp"

namespace deepseek {

namespace detail {

template <class P>
struct layer_of {
  using type = void;
};
template <class P>
requires requires {
  typename P::layer;
}
struct layer_of<P> {
  using type = typename P::layer;
};
template <class L>
struct unwrapped {
  using type = L;
};
template <class L>
struct unwrapped<checkpointed<L>> {
  using type = L;
};
template <class P>
using layer_of_t = typename unwrapped<typename layer_of<std::remove_const_t<P>>::type>::type;

// In the place of what was observed, where nothing was.
struct unseen {
  using kind = nothing;
};
// A wrapper's kept part belongs to the layer inside.
template <class K>
const auto& inner_kept(const K& k) {
  if constexpr (std::is_same_v<K, unseen>) {
    return k;
  } else if constexpr (requires { typename decltype(k.own)::kind; }) {
    return k.own;
  } else {
    return k;
  }
}
template <std::size_t I, class K>
const auto& kept_field(const K& k) {
  if constexpr (std::is_same_v<K, unseen>) {
    return k;
  } else {
    return field_of<I>(k);
  }
}
template <class K>
const auto& kept_item(const K& k, index_t i) {
  if constexpr (std::is_same_v<K, unseen>) {
    return k;
  } else {
    return k[i];
  }
}

// What has one type on both sides is copied; the rest is slices.
template <class P, class Q>
void copy_equal(const P& p, Q& q) {
  if constexpr (std::is_same_v<P, Q>) {
    q = p;
  } else if constexpr (has_fields<P>) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (copy_equal(field_of<I>(p), field_of<I>(q)), ...);
    }
    (field_sequence<P>{});
  }
}

template <class From, class To>
void copy_slices(const unit_slice& s, const std::vector<std::vector<index_t>>& kept,
                 const From& from, To& to, index_t units) {
  const unit_blocks b = blocks_of(s, from, units);
  const auto width = static_cast<std::size_t>(b.size);
  auto* out = to.data();
  for (index_t set = 0; set < b.sets; ++set) {
    const auto& chosen = kept[static_cast<std::size_t>(b.sets > 1 ? set : 0)];
    for (index_t o = 0; o < b.outer; ++o) {
      const auto* row = from.data() + (set * b.outer + o) * units * b.size;
      for (const index_t u : chosen) out = std::copy_n(row + u * b.size, width, out);
    }
  }
}

template <class L, class M>
constexpr bool same_but_units() {
  if constexpr (HasUnits<L> && HasUnits<M>) {
    return std::is_same_v<typename units_of<L>::one, typename units_of<M>::one> &&
           units_of<L>::count > units_of<M>::count;
  } else {
    return false;
  }
}

template <class P, class K, class Q>
void prune_at(const std::string& path, const P& p, const K& k, Q& q);

template <class L, class M, class P, class K, class Q>
void remove_units(const std::string& path, const P& p, const K& k, Q& q) {
  constexpr index_t units = units_of<L>::count, keep = units_of<M>::count;
  const auto kept = chosen_units<L>(path, p, k, keep);
  copy_equal(p, q);
  units_of<L>::slices([&](const unit_slice& s, const auto& from,
                          auto& to) { copy_slices(s, kept, from, to, units); },
                      p, q);
}

template <class P, class K, class Q>
void prune_fields(const std::string& path, const P& p, const K& k, Q& q) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (prune_at(join_path(path, std::get<I>(P::fields()).name), field_of<I>(p), kept_field<I>(k),
              field_of<I>(q)),
     ...);
  }
  (field_sequence<P>{});
}

template <class P, class Q>
constexpr bool fields_agree() {
  if constexpr (has_fields<P> && has_fields<Q>) {
    return std::tuple_size_v<decltype(P::fields())> == std::tuple_size_v<decltype(Q::fields())>;
  } else {
    return false;
  }
}

template <class P, class K, class Q>
void prune_at(const std::string& path, const P& p, const K& k, Q& q) {
  using L = layer_of_t<P>;
  using M = layer_of_t<Q>;
  if constexpr (std::is_same_v<P, Q>) {
    q = p;
  } else if constexpr (same_but_units<L, M>()) {
    remove_units<L, M>(path, p, inner_kept(k), q);
  } else if constexpr (is_numbered<P> && is_numbered<Q>) {
    static_assert(P::count == Q::count,
                  "deepseek::prune: the smaller net has another number of layers; keep the number "
                  "and prune units of each layer");
    for (index_t i = 0; i < P::count; ++i) {
      prune_at(join_path(path, std::to_string(P::first + i)), p[i], kept_item(k, i), q[i]);
    }
  } else if constexpr (fields_agree<P, Q>()) {
    prune_fields(path, p, inner_kept(k), q);
  } else {
    static_assert(always_false<P, Q>,
                  "deepseek::prune: the smaller layer differs in more than fewer neurons, heads or "
                  "experts; write the same layer with one smaller number, one prune for each");
  }
}

template <class Smaller, class Net, class T, class B, class K>
model<Smaller, T, B> pruned(const B& b, const model<Net, T, B>& m, const K& k) {
  static_assert(std::is_same_v<typename B::space, host>,
                "deepseek::prune: weights are chosen on the host; prune there and copy");
  model<Smaller, T, B> out(b);
  prune_at("", m.parameters(), k, out.parameters());
  return out;
}

}  // namespace detail

// By the L1 norm of each unit's weights.
template <class Smaller, class Net, class T, class B>
model<Smaller, T, B> prune(const B& b, const model<Net, T, B>& m) {
  return detail::pruned<Smaller>(b, m, detail::unseen{});
}
// By what each unit did on observed inputs.
template <class Smaller, class Net, class T, class B>
model<Smaller, T, B> prune(const B& b, const model<Net, T, B>& m,
                           const activity_of<Net, T, typename B::space>& seen) {
  return detail::pruned<Smaller>(b, m, seen);
}

// Runs the model on x and adds what its linear layers get to `seen`.
template <class Net, class T, class B, class X>
void observe_activity(const B& b, const model<Net, T, B>& m, const X& x,
                      activity_of<Net, T, typename B::space>& seen,
                      const run_options<typename B::space>& run = {}) {
  const auto xv = as_const(as_view(x));
  const scope freed(b.workspace());
  const auto y = make_outputs<Net, T>(b.workspace(), count_rows(run, input_rows<Net>(xv)));
  run_forward<Net>(call<B>{b, run, b.workspace(), b.workspace(), 0, {}}, m.parameters(), xv, y,
                   seen);
}

}  // namespace deepseek
