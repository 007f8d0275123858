// SPDX-License-Identifier: Apache-2.0
// sum_heads on the reference backend: plain loops; see ops/sum_heads.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/ops/sum_heads.hpp"

namespace deepseek {

template <class X, class Y>
void sum_heads_impl(const reference&, const X& x, const Y& y) {
  using T = typename Y::value_type;
  using A = accumulate_t<T>;
  for (index_t t = 0; t < y.extent(0); ++t) {
    for (index_t d = 0; d < y.extent(1); ++d) {
      A sum = 0;
      for (index_t h = 0; h < x.extent(1); ++h) sum += static_cast<A>(x(t, h, d));
      y(t, d) = static_cast<T>(sum);
    }
  }
}

}  // namespace deepseek
