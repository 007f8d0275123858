// SPDX-License-Identifier: Apache-2.0
// What a net holds, from its type alone: nothing is allocated, and all of it is constexpr.
// parameter_count<Net>(): trained numbers. active_parameter_count<Net>(): those that meet a token:
// of a layer's routed experts the active ones (embedding and head are counted whole; of experts of
// different types the mean).
// cache_bytes_per_token<Net, T>(): what a decoder keeps of a token in elements of T.
// Of nets whose linear layers hold plain weights.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/keep.hpp"
#include "deepseek/layers/moe.hpp"

namespace deepseek {

// How many of its stacked experts a layer runs for a token; 0: it has none.
template <class L>
inline constexpr index_t active_experts = 0;
template <moe_config C, class Gate, class Expert, class Shared>
inline constexpr index_t active_experts<moe<C, Gate, Expert, Shared>> = C.active;

namespace counts {

template <class M, class Owner>
M member_of(M Owner::*);
template <class P, std::size_t I>
using member_type = decltype(member_of(std::get<I>(P::fields()).pointer));

template <class T, class S, index_t... E>
constexpr index_t elements(std::type_identity<tensor<T, S, E...>>, index_t) {
  return (E * ... * index_t{1});
}
// active > 0: so many of the N experts count.
template <class T, index_t N, class S, index_t... E>
constexpr index_t elements(std::type_identity<tensor<T, stacked<N, S>, E...>>, index_t active) {
  return (active > 0 ? active : N) * (E * ... * index_t{1});
}

template <class P>
constexpr index_t experts_of(index_t outer) {
  if constexpr (requires { typename P::layer; }) {
    return active_experts<typename P::layer> > 0 ? active_experts<typename P::layer> : outer;
  } else {
    return outer;
  }
}

template <class P>
constexpr index_t experts_apart() {
  if constexpr (requires { typename P::layer; }) {
    return apart_in<typename P::layer>;
  } else {
    return 0;
  }
}

// The trained elements of a parameter struct. only_active: see above.
template <class P>
constexpr index_t trained(bool only_active, index_t active = 0) {
  if constexpr (is_tensor<P>) {
    return elements(std::type_identity<P>{}, only_active ? active : 0);
  } else if constexpr (is_numbered<P>) {
    using Item = typename decltype(P::items)::value_type;
    return P::count * trained<Item>(only_active, active);
  } else if constexpr (has_fields<P>) {
    constexpr index_t apart = experts_apart<P>();
    const index_t inside = apart > 0 ? 0 : experts_of<P>(active);
    const index_t all = [&]<std::size_t... I>(std::index_sequence<I...>) {
      return (index_t{0} + ... +
              (std::get<I>(P::fields()).role == field_role::state
                   ? 0
                   : trained<member_type<P, I>>(only_active, inside)));
    }
    (field_sequence<P>{});
    return apart > 0 && only_active && active > 0 ? all * active / apart : all;
  } else {
    return 0;
  }
}

// The bytes of a kept struct that grow with every token.
template <class K>
constexpr index_t cache_bytes() {
  if constexpr (is_numbered<K>) {
    return K::count * cache_bytes<typename decltype(K::items)::value_type>();
  } else {
    index_t n = 0;
    if constexpr (requires { decltype(K::own)::bytes_per_token(); }) {
      n += decltype(K::own)::bytes_per_token();
    } else if constexpr (requires { decltype(K::own)::own; }) {
      n += cache_bytes<decltype(K::own)>();  // a wrapper's kept inner part
    }
    if constexpr (requires { K::fields(); }) {
      n += []<std::size_t... I>(std::index_sequence<I...>) {
        return (index_t{0} + ... + cache_bytes<member_type<K, I>>());
      }
      (field_sequence<K>{});
    }
    return n;
  }
}

}  // namespace counts

template <class Net>
constexpr index_t parameter_count() {
  return counts::trained<parameters<Net, float, host>>(false);
}
template <class Net>
constexpr index_t active_parameter_count() {
  return counts::trained<parameters<Net, float, host>>(true);
}
template <class Net, class T = bf16>
constexpr index_t cache_bytes_per_token() {
  return counts::cache_bytes<keep<for_decode, Net, T, host>>();
}

}  // namespace deepseek
