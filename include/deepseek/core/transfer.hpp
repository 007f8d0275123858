// SPDX-License-Identifier: Apache-2.0
// Bytes from one memory to another: transfer(from, to) between contiguous tensors or views of one
// shape and element type, one of them on the host or both in one space; in_memory<Space>(x) makes
// the tensor it goes to. Waits until the bytes are there. Structs of tensors (parameters,
// gradients, optimizer moments) of one layer type go as a whole: transfer_all(from, to). Errors:
// shape_mismatch, unsupported (not contiguous).
#pragma once

#include "deepseek/core/parameters.hpp"

namespace deepseek {

template <class From, class To>
void transfer(const From& from_in, To&& to_in) {
  const auto from = as_view(from_in);
  const auto to = as_view(to_in);
  using F = typename decltype(from)::space;
  using S = typename decltype(to)::space;
  static_assert(
      std::is_same_v<typename decltype(from)::value_type, typename decltype(to)::value_type>,
      "deepseek::transfer: the element types differ; convert with ds::ops::copy first");
  static_assert(std::is_same_v<F, host> || std::is_same_v<S, host> || std::is_same_v<F, S>,
                "deepseek::transfer: neither side is host memory; go through a host tensor");
  static_assert(decltype(from)::rank == decltype(to)::rank,
                "deepseek::transfer: the ranks differ; pass views of one shape");
  for (int i = 0; i < from.rank; ++i) require_extent(to, i, from.extent(i), "transfer: to");
  require(from.contiguous() && to.contiguous(), error_code::unsupported, "transfer: from",
          shape_string(from), " or to", shape_string(to),
          " is not contiguous; copy it with ds::ops::copy first");
  const auto bytes = static_cast<std::size_t>(from.size()) * sizeof(*from.data());
  if constexpr (std::is_same_v<F, S>) {
    memory<S>::copy(to.data(), from.data(), bytes);
  } else if constexpr (std::is_same_v<F, host>) {
    memory<S>::copy_in(to.data(), from.data(), bytes);
  } else {
    memory<F>::copy_out(to.data(), from.data(), bytes);
  }
}

namespace detail {
template <class Space, class T, class S, index_t... E>
auto in_memory(const view<T, S, E...>& x) {
  using made = tensor<std::remove_const_t<T>, Space, E...>;
  typename made::extents_array extents = {};
  for (int i = 0; i < x.rank; ++i) extents[i] = x.extent(i);
  made y(extents);
  transfer(x, y);
  return y;
}
}  // namespace detail

// A tensor in Space with the numbers of x.
template <class Space, class X>
auto in_memory(const X& x) {
  return detail::in_memory<Space>(as_view(x));
}

template <class From, class To>
void transfer_all(const From& from, To& to) {
  visit([](const tensor_name&, const auto& a, auto& b) { transfer(a, b); }, from, to);
}

}  // namespace deepseek
