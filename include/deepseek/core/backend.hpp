// SPDX-License-Identifier: Apache-2.0
// What a backend context is: it names a memory space and owns a workspace arena. Ops are function
// objects that call `<op>_impl(backend, ...)`; overloads are found on the backend's type.
// A context is not shared between threads that run at the same time: give each its own.
#pragma once

#include "deepseek/core/arena.hpp"

#include <concepts>
#include <string>
#include <string_view>

namespace deepseek {

template <class B>
concept Backend = requires(const B& b) {
  typename B::space;
  { b.workspace() } -> std::same_as<arena<typename B::space>&>;
  { b.name() } -> std::convertible_to<std::string_view>;
};

template <class...>
inline constexpr bool always_false = false;

struct none {};  // no tensor here: an absent bias, gradient, parameter struct

// Every view argument of an op must live in the memory of the backend that runs it.
template <class B, class V>
constexpr void check_space() {
  if constexpr (is_view<V>) {
    static_assert(
        std::is_same_v<typename V::space, typename B::space>,
        "deepseek::op: the data is not in this backend's memory; copy it with ds::transfer "
        "or ds::in_memory");
  }
}
template <class B, class... V>
constexpr void check_spaces(const B&, const V&...) {
  static_assert(Backend<B>,
                "deepseek::op: the first argument is not a backend; pass a ds::cpu, ds::cuda or "
                "ds::reference");
  (check_space<B, V>(), ...);
}

// One extent checked against another, with the sentence that says which object is wrong.
template <class View>
void require_extent(const View& v, int i, index_t expected, const char* object) {
  require(v.extent(i) == expected, error_code::shape_mismatch, object, shape_string(v), ": extent ",
          i, " is ", v.extent(i), ", expected ", expected,
          "; pass views whose shapes fit together");
}
template <class View>
void require_data(const View& v, const char* object) {
  require(v.data() != nullptr || v.size() == 0, error_code::invalid_argument, object,
          shape_string(v), ": the data pointer is null; pass memory for ", v.size(), " elements");
}

}  // namespace deepseek
