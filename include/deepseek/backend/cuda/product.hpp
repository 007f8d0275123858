// SPDX-License-Identifier: Apache-2.0
// A matrix product as a vendor's library takes it: c [M, N] = a [M, K] b [K, N] (+ c), row-major
// with a leading dimension each, a and b perhaps stored transposed; a batch by strides. What
// `as_library_product` cannot say of a set of views (no unit stride, mixed types) stays with our
// own kernel. Codes of 8 bits: int8 with sums in int32, e4m3 with scales beside both factors
// (library_scales.hpp).
#pragma once

#include "deepseek/backend/cuda/library_scales.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/core/view.hpp"

#include <optional>

namespace deepseek {

struct library_matrix {
  const void* data = nullptr;
  index_t leading = 0;  // elements from one stored row to the next
  index_t batch = 0;    // elements from one matrix to the next
  bool transposed = false;
  library_scales scales = library_scales::none;
  const float* scale = nullptr;  // where there are scales; it begins at a multiple of 16 bytes
};

struct library_product {
  index_t m = 0, n = 0, k = 0, batches = 1;
  library_matrix a, b, c;
  dtype type = dtype::f32;    // of a and b; sums in float, of double in double, of int8 in int32
  dtype result = dtype::f32;  // of c: that type, i32 of i8, a floating type of f8_e4m3
  bool adds = false;
};

// Types, scales and orders of a product in one number: two products of another kind have another.
constexpr int kind_of(const library_product& p) {
  const int types = static_cast<int>(p.type) * 16 + static_cast<int>(p.result);
  const int scales = static_cast<int>(p.a.scales) * 8 + static_cast<int>(p.b.scales);
  return (types * 64 + scales) * 8 + (p.a.transposed ? 1 : 0) + (p.b.transposed ? 2 : 0) +
         (p.adds ? 4 : 0);
}

// The last two extents of v as a stored matrix; none: neither has stride 1, or rows overlap.
template <class View>
std::optional<library_matrix> as_library_matrix(const View& v) {
  constexpr int r = View::rank;
  const index_t rows = v.extent(r - 2), columns = v.extent(r - 1);
  const index_t down = v.stride(r - 2), right = v.stride(r - 1);
  library_matrix m{v.data(), 0, r == 3 ? v.stride(0) : 0, false};
  if ((right == 1 || columns == 1) && (down >= columns || rows == 1)) {
    m.leading = rows == 1 ? columns : down;
  } else if ((down == 1 || rows == 1) && (right >= rows || columns == 1)) {
    m.leading = columns == 1 ? rows : right;
    m.transposed = true;
  } else {
    return std::nullopt;
  }
  return m;
}

template <class A, class W, class C>
std::optional<library_product> as_library_product(const A& a, const W& w, const C& c) {
  using T = typename C::value_type;
  if constexpr (!std::is_same_v<typename A::value_type, T> ||
                !std::is_same_v<typename W::value_type, T>) {
    return std::nullopt;
  } else {
    constexpr int r = C::rank;
    const auto ma = as_library_matrix(a), mb = as_library_matrix(w), mc = as_library_matrix(c);
    if (!ma || !mb || !mc || mc->transposed || a.extent(r - 1) == 0) return std::nullopt;
    library_product p;
    p.m = c.extent(r - 2);
    p.n = c.extent(r - 1);
    p.k = a.extent(r - 1);
    p.batches = r == 3 ? c.extent(0) : 1;
    p.a = *ma;
    p.b = *mb;
    p.c = *mc;
    p.type = p.result = dtype_of<T>;
    return p;
  }
}

}  // namespace deepseek
