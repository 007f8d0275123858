// SPDX-License-Identifier: Apache-2.0
// One row of top_k, in the memory of the answer alone: short answers are kept sorted by insertion,
// long ones as a heap with the worst on top that is sorted at the end; see ops/top_k.hpp.
#pragma once

#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/core/view.hpp"

#include <cstdint>

namespace deepseek {

// Whether element a goes before element b: larger first, then lower position, NaN last.
template <class X>
DEEPSEEK_HOST_DEVICE bool goes_before(const X& x, index_t a, index_t b) {
  const auto xa = x(a), xb = x(b);
  const bool nan_a = xa != xa, nan_b = xb != xb;
  if (nan_a || nan_b) return nan_a == nan_b ? a < b : nan_b;
  return xa > xb || (xa == xb && a < b);
}

template <class X, class Ids>
DEEPSEEK_HOST_DEVICE void top_k_by_insertion(const X& x, const Ids& ids) {
  const index_t k = ids.extent(0);
  for (index_t j = 0, kept = 0; j < x.extent(0); ++j) {
    if (kept == k && !goes_before(x, j, ids(k - 1))) continue;
    index_t place = kept < k ? kept++ : k - 1;
    for (; place > 0 && goes_before(x, j, ids(place - 1)); --place) ids(place) = ids(place - 1);
    ids(place) = static_cast<std::int32_t>(j);
  }
}

// Moves `id` down from `place` in the heap of the first n ids until nothing below is worse.
template <class X, class Ids>
DEEPSEEK_HOST_DEVICE void sift_down(const X& x, const Ids& ids, index_t n, index_t place,
                                    std::int32_t id) {
  for (;;) {
    index_t child = 2 * place + 1;
    if (child >= n) break;
    if (child + 1 < n && goes_before(x, ids(child), ids(child + 1))) ++child;
    if (goes_before(x, ids(child), id)) break;
    ids(place) = ids(child);
    place = child;
  }
  ids(place) = id;
}

template <class X, class Ids>
DEEPSEEK_HOST_DEVICE void top_k_by_heap(const X& x, const Ids& ids) {
  const index_t k = ids.extent(0);
  for (index_t i = 0; i < k; ++i) ids(i) = static_cast<std::int32_t>(i);
  for (index_t i = k / 2; i-- > 0;) sift_down(x, ids, k, i, ids(i));
  for (index_t j = k; j < x.extent(0); ++j) {
    if (goes_before(x, j, ids(0))) sift_down(x, ids, k, 0, static_cast<std::int32_t>(j));
  }
  for (index_t n = k - 1; n > 0; --n) {  // the worst goes to the end
    const std::int32_t last = ids(n);
    ids(n) = ids(0);
    sift_down(x, ids, n, 0, last);
  }
}

template <class X, class Ids>
DEEPSEEK_HOST_DEVICE void top_k_ids(const X& x, const Ids& ids) {
  constexpr index_t longest_insertion = 16;
  if (ids.extent(0) <= longest_insertion) {
    top_k_by_insertion(x, ids);
  } else {
    top_k_by_heap(x, ids);
  }
}

template <class X, class V, class Ids>
DEEPSEEK_HOST_DEVICE void top_k_row(const X& x, const V& values, const Ids& ids) {
  top_k_ids(x, ids);
  for (index_t i = 0; i < ids.extent(0); ++i) {
    values(i) = convert_to<typename V::value_type>(x(ids(i)));
  }
}

}  // namespace deepseek
