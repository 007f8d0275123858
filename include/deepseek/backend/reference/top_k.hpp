// SPDX-License-Identifier: Apache-2.0
// top_k on the reference backend: plain loops; see ops/top_k.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/index_check.hpp"
#include "deepseek/backend/rows/top_k.hpp"
#include "deepseek/ops/top_k.hpp"

namespace deepseek {

template <class X, class V, class Ids>
void top_k_impl(const reference&, const X& x, const V& values, const Ids& ids) {
  for (index_t i = 0; i < x.extent(0); ++i) {
    top_k_row(slice(x, i), slice(values, i), slice(ids, i));
  }
}

template <class Ids, class DV, class DX>
void top_k_backward_impl(const reference&, const Ids& ids, const DV& dvalues, const DX& dx) {
  using T = typename DX::value_type;
  require_indices(ids, dx.extent(1), "top_k_backward: ids");
  for (index_t i = 0; i < dx.extent(0); ++i) {
    for (index_t j = 0; j < dx.extent(1); ++j) dx(i, j) = T(0.0F);
    for (index_t j = 0; j < ids.extent(1); ++j) dx(i, ids(i, j)) = convert_to<T>(dvalues(i, j));
  }
}

}  // namespace deepseek
