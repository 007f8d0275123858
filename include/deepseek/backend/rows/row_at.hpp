// SPDX-License-Identifier: Apache-2.0
// A view of any rank seen as rows: every index of the leading extents, in order, names one row,
// which runs along the last extent. A view of rank 0 is one row of one element.
#pragma once

#include "deepseek/core/view.hpp"

namespace deepseek {

template <class View>
DEEPSEEK_HOST_DEVICE index_t row_length(const View& v) {
  return View::rank > 0 ? v.extent(View::rank - 1) : 1;
}
template <class View>
DEEPSEEK_HOST_DEVICE index_t row_count(const View& v) {
  index_t n = 1;
  for (int d = 0; d + 1 < View::rank; ++d) n *= v.extent(d);
  return n;
}
template <class View>
DEEPSEEK_HOST_DEVICE index_t row_stride(const View& v) {
  return View::rank > 0 ? v.stride(View::rank - 1) : 1;
}

template <class T, class S, index_t... E>
DEEPSEEK_HOST_DEVICE view<T, S, dyn> row_at(const view<T, S, E...>& v, index_t row) {
  index_t offset = 0;
  for (int d = static_cast<int>(sizeof...(E)) - 2; d >= 0; --d) {
    offset += row % v.extent(d) * v.stride(d);
    row /= v.extent(d);
  }
  return {v.data() + offset, {row_length(v)}, {row_stride(v)}};
}

}  // namespace deepseek
