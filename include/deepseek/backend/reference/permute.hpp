// SPDX-License-Identifier: Apache-2.0
// permute on the reference backend: plain loops; see ops/permute.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/index_check.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/permute.hpp"

namespace deepseek {

template <class X, class Source, class Y>
void permute_impl(const reference&, const X& x, const Source& source, index_t choices,
                  const Y& xs) {
  require_indices(source, x.extent(0) * choices, "permute: source");
  for (index_t r = 0; r < xs.extent(0); ++r) {
    const index_t token = source(r) / choices;
    for (index_t d = 0; d < xs.extent(1); ++d) {
      xs(r, d) = convert_to<typename Y::value_type>(x(token, d));
    }
  }
}

template <class DY, class Slot, class DX>
void permute_backward_impl(const reference&, const DY& dxs, const Slot& slot, const DX& dx) {
  using T = typename DX::value_type;
  using A = accumulate_t<T>;
  require_indices(slot, dxs.extent(0), "permute_backward: slot", absent_index);
  for (index_t t = 0; t < dx.extent(0); ++t) {
    for (index_t d = 0; d < dx.extent(1); ++d) {
      A sum = 0;
      for (index_t k = 0; k < slot.extent(1); ++k) {
        if (slot(t, k) >= 0) sum += convert_to<A>(dxs(slot(t, k), d));
      }
      dx(t, d) = convert_to<T>(sum);
    }
  }
}

}  // namespace deepseek
