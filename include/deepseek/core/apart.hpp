// SPDX-License-Identifier: Apache-2.0
// Whether two views of one memory can have a byte in common, found from extents and strides alone,
// in a number of steps that depends on their ranks, not their sizes. They have none where
//   the ranges from the first to the last byte that the strides reach do not meet, or
//   modulo a step of one of them the windows of both do not meet: columns beside columns, heads
//   beside heads, even beside odd. (A window: the axes that are no multiple of the step.)
// Everything else counts as overlapping: never a common byte missed, and what is apart in neither
// way (a diagonal beside another) is refused, though it may be legal.
#pragma once

#include "deepseek/core/view.hpp"

#include <cstdint>

namespace deepseek {

// What a view reaches, in bytes, from its first byte upwards.
struct byte_range {
  static constexpr int most = shape_text::most;
  std::uintptr_t first = 0;
  index_t length = 0;  // to the end of the last element; 0: nothing is reached
  index_t element = 0;
  int axes = 0;  // those with more than one element whose step is not 0
  index_t step[most] = {}, span[most] = {};
};

// False where the bytes between the first and the last are more than 64 bits count.
inline bool add_axis(byte_range& r, index_t extent, index_t stride) {
  index_t step = 0, span = 0;
  if (extent == 1 || stride == 0) return true;
  if (__builtin_mul_overflow(stride, r.element, &step)) return false;
  if (__builtin_mul_overflow(step, extent - 1, &span)) return false;
  if (span < 0) r.first += static_cast<std::uintptr_t>(span);
  const index_t up = span < 0 ? -span : span;
  r.step[r.axes] = step < 0 ? -step : step;
  r.span[r.axes++] = up;
  return !__builtin_add_overflow(r.length, up, &r.length);
}

template <class View>
byte_range byte_range_of(const View& v) {
  constexpr index_t element = static_cast<index_t>(sizeof(typename View::value_type));
  byte_range r{reinterpret_cast<std::uintptr_t>(v.data()), 0, element};
  if (v.data() == nullptr || v.empty()) return r;
  r.length = element;
  for (int i = 0; i < View::rank; ++i) {
    if (!add_axis(r, v.extent(i), v.stride(i))) {
      fail(error_code::overflow, "view", shape_of(v), ": stride ", i, " is ", v.stride(i),
           ", more bytes than 64 bits count; pass the strides of memory that exists");
    }
  }
  return r;
}

// The bytes from the first that r takes modulo `step`.
inline index_t bytes_modulo(const byte_range& r, index_t step) {
  index_t n = r.element;
  for (int i = 0; i < r.axes; ++i) n += r.step[i] % step == 0 ? 0 : r.span[i];
  return n;
}
inline bool windows_apart(const byte_range& a, const byte_range& b, index_t step) {
  const index_t of_a = bytes_modulo(a, step), of_b = bytes_modulo(b, step);
  if (of_a > step || of_b > step - of_a) return false;
  const auto by = static_cast<std::uintptr_t>(step);
  const auto from_a = static_cast<index_t>((b.first % by + by - a.first % by) % by);
  return from_a >= of_a && from_a <= step - of_b;
}

inline bool may_overlap(const byte_range& a, const byte_range& b) {
  if (a.length == 0 || b.length == 0) return false;
  if (a.first <= b.first ? b.first - a.first >= static_cast<std::uintptr_t>(a.length)
                         : a.first - b.first >= static_cast<std::uintptr_t>(b.length)) {
    return false;
  }
  for (int i = 0; i < a.axes; ++i) {
    if (windows_apart(a, b, a.step[i])) return false;
  }
  for (int i = 0; i < b.axes; ++i) {
    if (windows_apart(a, b, b.step[i])) return false;
  }
  return true;
}
template <class X, class Y>
bool may_overlap(const X& x, const Y& y) {
  return may_overlap(byte_range_of(x), byte_range_of(y));
}

// One place for each element: the same memory, extents and strides.
template <class X, class Y>
bool same_places(const X& x, const Y& y) {
  if constexpr (X::rank != Y::rank ||
                sizeof(typename X::value_type) != sizeof(typename Y::value_type)) {
    return false;
  } else {
    bool same = static_cast<const void*>(x.data()) == static_cast<const void*>(y.data());
    for (int i = 0; i < X::rank; ++i) {
      same = same && x.extent(i) == y.extent(i) && (x.extent(i) == 1 || x.stride(i) == y.stride(i));
    }
    return same;
  }
}

[[noreturn]] inline void fail_aliasing(const shape_text& shape, const char* object,
                                       const char* or_else) {
  fail(error_code::aliasing, object, shape, ": the output overlaps this input; pass ", or_else);
}

// An op that writes y while it still reads x.
template <class View, class Out>
void require_apart(const View& x, const Out& y, const char* object) {
  if (may_overlap(x, y)) fail_aliasing(shape_of(x), object, "memory of its own for the output");
}
// An op that reads each element of x for the last time before it writes the element of y in its
// place.
template <class View, class Out>
void require_same_or_apart(const View& x, const Out& y, const char* object) {
  if (!same_places(x, y) && may_overlap(x, y))
    fail_aliasing(shape_of(x), object, "the same view or memory of its own for the output");
}

}  // namespace deepseek
