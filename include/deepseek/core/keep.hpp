// SPDX-License-Identifier: Apache-2.0
// What a run keeps, generated like the parameters: nothing, the tape for backward, the state of a
// decoder, what a calibration observed. A leaf or composite names its own part (`saved`, `state`,
// `observed`); composites nest their parts' by themselves. A user may add a kind.
#pragma once

#include "deepseek/core/parameters.hpp"

namespace deepseek {

struct nothing {
  static constexpr bool gathers = true;
  template <class, class, class>
  using of = none;
};
struct for_backward {
  template <class Layer, class T, class S>
  using of = typename Layer::template saved<T, S>;
};
struct for_decode {
  template <class Layer, class T, class S>
  using of = typename Layer::template state<T, S>;
};
struct for_calibration {
  static constexpr bool gathers = true;
  template <class Layer, class T, class S>
  using of = typename Layer::template observed<T, S>;
};

// Kinds that need one set for one set of parameters, however often a run passes it.
template <class Kind>
inline constexpr bool gathers_runs = requires {
  Kind::gathers;
};

template <class Kind, class Layer, class T, class S>
concept KeepsOwn = requires {
  typename Kind::template of<Layer, T, S>;
};
template <class Kind, class Layer, class T, class S>
struct own_choice {
  using type = none;
};
template <class Kind, class Layer, class T, class S>
requires KeepsOwn<Kind, Layer, T, S>
struct own_choice<Kind, Layer, T, S> {
  using type = typename Kind::template of<Layer, T, S>;
};

template <class Kind, class Layer, class T, class S>
struct keep;
template <class Kind, class T, class S>
struct keep_of {
  template <class Layer>
  using of = keep<Kind, Layer, T, S>;
};

template <class Kind, class Layer, class T, class S>
struct keep {
  using kind = Kind;
  typename own_choice<Kind, Layer, T, S>::type own;
};
template <class Kind, class Layer, class T, class S>
requires HasParts<Layer, keep_of<Kind, T, S>>
struct keep<Kind, Layer, T, S> : Layer::template parts<keep_of<Kind, T, S>> {
  using kind = Kind;
  typename own_choice<Kind, Layer, T, S>::type own;
};

template <class K>
inline constexpr bool keeps_tape =
    std::is_same_v<typename std::remove_cvref_t<K>::kind, for_backward>;
template <class K>
inline constexpr bool keeps_state =
    std::is_same_v<typename std::remove_cvref_t<K>::kind, for_decode>;
template <class K>
inline constexpr bool observes =
    std::is_same_v<typename std::remove_cvref_t<K>::kind, for_calibration>;

// Calls f(own) for everything kept that `Wanted` (a concept-like predicate type) accepts.
template <class F, class K>
void visit_kept(F&& f, K& k) {
  if constexpr (is_numbered<std::remove_const_t<K>>) {
    for (index_t i = 0; i < K::count; ++i) visit_kept(f, k[i]);
  } else {
    if constexpr (requires { f(k.own); }) f(k.own);
    if constexpr (requires { k.own.own; }) visit_kept(f, k.own);  // a wrapper's kept inner part
    if constexpr (requires { K::fields(); }) {
      std::apply([&](auto... m) { (visit_kept(f, k.*(m.pointer)), ...); }, K::fields());
    }
  }
}

}  // namespace deepseek
