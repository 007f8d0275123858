// SPDX-License-Identifier: Apache-2.0
// scale on the cpu: runs of neighbouring elements, on all threads; see ops/scale.hpp.
#pragma once

#include "deepseek/backend/cpu/eigen.hpp"
#include "deepseek/backend/cpu/elementwise.hpp"
#include "deepseek/backend/reference/scale.hpp"

namespace deepseek {

template <class Y>
void scale_impl(const cpu& b, double factor, const Y& y) requires Packable<Y> {
  const auto by = static_cast<typename Y::value_type>(factor);
  const auto run = [=](index_t n, auto* to) { as_array(to, n) *= by; };
  if (!unit_rows(y)) return scale_impl(static_cast<const reference&>(b), factor, y);
  for_each_span(b, run, y);
}

}  // namespace deepseek
