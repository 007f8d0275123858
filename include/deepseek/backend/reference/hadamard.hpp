// SPDX-License-Identifier: Apache-2.0
// hadamard on the reference backend: one row at a time; see ops/hadamard.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/hadamard.hpp"
#include "deepseek/backend/rows/row_at.hpp"
#include "deepseek/ops/hadamard.hpp"

namespace deepseek {

template <class X, class Y>
void hadamard_impl(const reference& b, const X& x, const Y& y) {
  using sum = accumulate_t<typename Y::value_type>;
  const scope freed(b.workspace());
  const auto work = b.workspace().template make<sum, dyn>(row_length(x));
  for (index_t r = 0; r < row_count(x); ++r) {
    hadamard_row(serial_team{}, row_at(x, r), row_at(y, r), work);
  }
}

}  // namespace deepseek
