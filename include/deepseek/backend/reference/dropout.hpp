// SPDX-License-Identifier: Apache-2.0
// dropout on the reference backend: plain loops; see ops/dropout.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/copy.hpp"
#include "deepseek/ops/dropout.hpp"

namespace deepseek {

template <class X, class Y>
void dropout_impl(const reference& b, const X& x, const Y& y, const dropout_spec& spec) {
  using T = typename Y::value_type;
  using A = accumulate_t<T>;
  if (spec.rate == 0) return copy_impl(b, x, y);
  const A grown = static_cast<A>(1 / (1 - spec.rate));
  const std::uint32_t threshold = dropout_threshold(spec.rate);
  random_stream words(dropout_stream(spec));
  for (index_t r = 0; r < row_count(y); ++r) {
    const auto from = row_at(x, r);
    const auto to = row_at(y, r);
    for (index_t i = 0; i < to.extent(0); ++i) {
      to(i) = convert_to<T>(words.word() >= threshold ? convert_to<A>(from(i)) * grown : A(0));
    }
  }
}

}  // namespace deepseek
