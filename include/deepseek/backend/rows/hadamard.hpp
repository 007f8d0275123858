// SPDX-License-Identifier: Apache-2.0
// The row body of hadamard (formula in ops/hadamard.hpp): butterflies of distance 1, 2, 4, ... in
// `work`, which holds one row in the accumulation type; the factor last.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/team.hpp"
#include "deepseek/core/view.hpp"

#include <cmath>

namespace deepseek {

template <class Team, class X, class Y, class Work>
DEEPSEEK_HOST_DEVICE void hadamard_row(const Team& team, const X& x, const Y& y, const Work& work) {
  using sum = typename Work::value_type;
  const index_t n = x.extent(0);
  for (index_t i = team.rank(); i < n; i += team.size()) work(i) = static_cast<sum>(x(i));
  team.sync();
  for (index_t distance = 1; distance < n; distance *= 2) {
    for (index_t pair = team.rank(); pair < n / 2; pair += team.size()) {
      const index_t first = pair / distance * distance * 2 + pair % distance;
      const sum a = work(first), b = work(first + distance);
      work(first) = a + b;
      work(first + distance) = a - b;
    }
    team.sync();
  }
  const sum factor = sum(1) / std::sqrt(static_cast<sum>(n));
  for (index_t i = team.rank(); i < n; i += team.size()) {
    y(i) = static_cast<typename Y::value_type>(work(i) * factor);
  }
}

}  // namespace deepseek
