// SPDX-License-Identifier: Apache-2.0
// combine on the reference backend: plain loops; see ops/combine.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/index_check.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/combine.hpp"

namespace deepseek {

template <class Ys, class By, class Y>
void combine_impl(const reference&, const Ys& ys, const By& by, const Y& y) {
  using T = typename Y::value_type;
  using A = accumulate_t<T>;
  require_indices(by.slot, ys.extent(0), "combine: slot", absent_index);
  for (index_t t = 0; t < y.extent(0); ++t) {
    for (index_t d = 0; d < y.extent(1); ++d) {
      A sum = 0;
      for (index_t k = 0; k < by.slot.extent(1); ++k) {
        if (by.slot(t, k) < 0) continue;
        sum += convert_to<A>(by.weights(t, k)) * convert_to<A>(ys(by.slot(t, k), d));
      }
      if (by.how == update::add) sum += convert_to<A>(y(t, d));
      y(t, d) = convert_to<T>(sum);
    }
  }
}

template <class In, class DY, class DYs, class DW>
void combine_backward_impl(const reference&, const In& in, const DY& dy,
                           const combine_gradients<DYs, DW>& out) {
  using T = typename DYs::value_type;
  using A = accumulate_t<T>;
  require_indices(in.slot, in.ys.extent(0), "combine_backward: slot", absent_index);
  for (index_t t = 0; t < in.slot.extent(0); ++t) {
    for (index_t k = 0; k < in.slot.extent(1); ++k) {
      const index_t row = in.slot(t, k);
      if (row < 0) {
        if constexpr (!std::is_same_v<DW, none>) {
          out.dweights(t, k) = convert_to<typename DW::value_type>(A(0));
        }
        continue;
      }
      if constexpr (!std::is_same_v<DW, none>) {
        using W = typename DW::value_type;
        using S = accumulate_t<W>;
        S sum = 0;
        for (index_t d = 0; d < dy.extent(1); ++d) {
          sum += convert_to<S>(dy(t, d)) * convert_to<S>(in.ys(row, d));
        }
        out.dweights(t, k) = convert_to<W>(sum);
      }
      const A weight = convert_to<A>(in.weights(t, k));
      for (index_t d = 0; d < dy.extent(1); ++d) {
        out.dys(row, d) = convert_to<T>(weight * convert_to<A>(dy(t, d)));
      }
    }
  }
}

}  // namespace deepseek
