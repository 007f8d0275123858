// SPDX-License-Identifier: Apache-2.0
// fill on the cpu: runs of neighbouring elements, on all threads; see ops/fill.hpp.
#pragma once

#include "deepseek/backend/cpu/elementwise.hpp"
#include "deepseek/backend/reference/fill.hpp"

namespace deepseek {

template <class Y>
void fill_impl(const cpu& b, double value, const Y& y) {
  const auto element = static_cast<typename Y::value_type>(value);
  const auto run = [=](index_t n, auto* to) { std::fill(to, to + n, element); };
  if (!unit_rows(y)) return fill_impl(static_cast<const reference&>(b), value, y);
  for_each_span(b, run, y);
}

}  // namespace deepseek
