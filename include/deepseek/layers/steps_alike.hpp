// SPDX-License-Identifier: Apache-2.0
// steps_alike<Net, T, S>: whether a decode step of this net launches the same at every length, so
// that it can be recorded once and replayed: the state of every layer that keeps some says
// `static constexpr bool steps_alike = true`, which promises that it takes the start only by
// options.moving, as row_cache does (layers/kv_cache.hpp). Layers without a state that read
// options.start find start_moves there and are refused by the ops they hand it to.
#pragma once

#include "deepseek/core/keep.hpp"

namespace deepseek {

namespace detail {

template <class K>
constexpr bool kept_steps_alike();

template <class Own>
constexpr bool own_steps_alike() {
  if constexpr (requires { Own::steps_alike; }) {
    return Own::steps_alike;
  } else if constexpr (requires(Own own) { own.own; }) {  // a wrapper's kept inner part
    return kept_steps_alike<Own>();
  } else {
    return std::is_same_v<Own, none>;
  }
}

template <class K>
constexpr bool kept_steps_alike() {
  if constexpr (is_numbered<K>) {
    return kept_steps_alike<std::remove_cvref_t<decltype(std::declval<K&>()[0])>>();
  } else {
    bool all = true;
    if constexpr (requires(K k) { k.own; }) all = own_steps_alike<decltype(K::own)>();
    if constexpr (requires { K::fields(); }) {
      const auto part = [](auto m) {
        return kept_steps_alike<std::remove_cvref_t<decltype(std::declval<K&>().*(m.pointer))>>();
      };
      all = all && std::apply([&](auto... m) { return (part(m) && ...); }, K::fields());
    }
    return all;
  }
}

}  // namespace detail

template <class Net, class T, class S>
inline constexpr bool steps_alike = detail::kept_steps_alike<keep<for_decode, Net, T, S>>();

}  // namespace deepseek
