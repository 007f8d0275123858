// SPDX-License-Identifier: Apache-2.0
// top_k on the cpu, rows on all threads; see ops/top_k.hpp. Long answers of contiguous float or
// double rows are selected, not sorted: a pool of 2 k candidates is cut to its best k whenever it
// is full, and what does not beat the worst of those never enters. Expected cost: one comparison an
// element and some k log(m / k) entries; at worst m log k. The order is total, so the answer does
// not depend on how it is found. Everything else takes the row body of the reference.
#pragma once

#include "deepseek/backend/cpu/kernels/scratch.hpp"
#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/top_k.hpp"

namespace deepseek {
namespace kernels {

inline constexpr index_t shortest_selection = 17;  // below, insertion into the answer is faster

struct candidates;

// The first k of row x in the order of goes_before, into ids.
template <class X>
void select_top(const X& x, index_t k, std::int32_t* ids) {
  const auto before = [&](std::int32_t a, std::int32_t b) { return goes_before(x, a, b); };
  const index_t n = x.extent(0), room = std::min(2 * k, n);
  auto* const pool = scratch<candidates, std::int32_t>(static_cast<std::size_t>(room));
  index_t held = room;
  std::iota(pool, pool + room, std::int32_t{0});
  const auto cut = [&] {
    std::nth_element(pool, pool + (k - 1), pool + held, before);
    held = k;
  };
  for (index_t j = room; j < n;) {
    cut();
    const auto worst = x(pool[k - 1]);
    // Later positions lose ties; against a NaN every number wins.
    const auto enters = [&](auto v) { return v > worst || (worst != worst && v == v); };
    for (; j < n && held < room; ++j) {
      if (enters(x(j))) pool[held++] = static_cast<std::int32_t>(j);
    }
  }
  if (held > k) cut();
  std::sort(pool, pool + k, before);
  std::copy_n(pool, k, ids);
}

}  // namespace kernels

template <class X, class V, class Ids>
void top_k_impl(const cpu& b, const X& x, const V& values, const Ids& ids) {
  const index_t k = ids.extent(1);
  parallel_rows(b, x.extent(0), rows_per_task(16 * x.extent(1)), [&](index_t first, index_t end) {
    if constexpr (Packable<X, V>) {
      if (k >= kernels::shortest_selection && unit_rows(x, ids)) {
        for (index_t i = first; i < end; ++i) {
          kernels::select_top(slice(x, i), k, &ids(i, 0));
          for (index_t j = 0; j < k; ++j) values(i, j) = x(i, ids(i, j));
        }
        return;
      }
    }
    const index_t n = end - first;
    top_k_impl(static_cast<const reference&>(b), rows(x, first, n), rows(values, first, n),
               rows(ids, first, n));
  });
}

template <class Ids, class DV, class DX>
void top_k_backward_impl(const cpu& b, const Ids& ids, const DV& dvalues, const DX& dx) {
  require_indices(ids, dx.extent(1), "top_k_backward: ids");
  parallel_rows(b, dx.extent(0), rows_per_task(dx.extent(1)), [&](index_t first, index_t end) {
    const index_t n = end - first;
    top_k_backward_impl(static_cast<const reference&>(b), rows(ids, first, n),
                        rows(dvalues, first, n), rows(dx, first, n));
  });
}

}  // namespace deepseek
