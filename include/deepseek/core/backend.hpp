// SPDX-License-Identifier: Apache-2.0
// What a backend context is: it names a memory space and owns a workspace arena. Ops are function
// objects that call `<op>_impl(backend, ...)`; overloads are found on the backend's type.
// A context is not shared between threads that run at the same time: give each its own.
#pragma once

#include "deepseek/core/apart.hpp"
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

// A backend where each op costs a launch: what can be done for many tensors at once is.
template <class B>
concept RunsKernels = Backend<B> && requires {
  typename B::runs_kernels;
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

// What the checks below say: apart, so that every check of every view compiles to comparisons.
[[noreturn]] inline void fail_extent(const shape_text& shape, int i, index_t expected,
                                     const char* object) {
  fail(error_code::shape_mismatch, object, shape, ": extent ", i, " is ", shape.extents[i],
       ", expected ", expected, "; pass views whose shapes fit together");
}
[[noreturn]] inline void fail_data(const shape_text& shape, index_t size, const char* object) {
  fail(error_code::invalid_argument, object, shape, ": the data pointer is null; pass memory for ",
       size, " elements");
}
[[noreturn]] inline void fail_negative(const shape_text& shape, int i, const char* object) {
  fail(error_code::invalid_argument, object, shape, ": extent ", i, " is ", shape.extents[i],
       "; extents are >= 0");
}

// One extent checked against another, with the sentence that says which object is wrong.
template <class View>
void require_extent(const View& v, int i, index_t expected, const char* object) {
  if (v.extent(i) != expected) fail_extent(shape_of(v), i, expected, object);
}
// Memory for what the extents say, none of them negative.
template <class View>
void require_data(const View& v, const char* object) {
  for (int i = 0; i < View::rank; ++i) {
    if (v.extent(i) < 0) fail_negative(shape_of(v), i, object);
  }
  if (v.data() == nullptr && v.size() != 0) fail_data(shape_of(v), v.size(), object);
}

}  // namespace deepseek
