// SPDX-License-Identifier: Apache-2.0
// jitter on the reference backend: plain loops; see ops/jitter.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/jitter.hpp"

namespace deepseek {

template <class X, class Y>
void jitter_impl(const reference&, const X& x, const Y& y, double amount,
                 const routing_draw& draw) {
  using T = typename Y::value_type;
  using A = accumulate_t<T>;
  random_stream words(routing_stream(draw));
  for (index_t t = 0; t < y.extent(0); ++t) {
    for (index_t i = 0; i < y.extent(1); ++i) {
      const double factor = 1 + amount * (2 * static_cast<double>(words.uniform()) - 1);
      y(t, i) = convert_to<T>(convert_to<A>(x(t, i)) * static_cast<A>(factor));
    }
  }
}

}  // namespace deepseek
