// SPDX-License-Identifier: Apache-2.0
// rope on the reference backend: the row body token by token; see ops/rope.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/rope.hpp"

namespace deepseek {

template <class X, class P, class Y>
void rope_impl(const reference&, const X& x, const P& positions, const Y& y,
               const rope_spec& spec) {
  for (index_t t = 0; t < x.extent(0); ++t) {
    rope_row(serial_team{}, slice(x, t), positions(t), slice(y, t), spec);
  }
}

}  // namespace deepseek
