// SPDX-License-Identifier: Apache-2.0
// row_sum(team, n, term): the sum of term(i), i < n, in the type of the terms.
// Each worker keeps 16 partial sums over interleaved elements and adds them pairwise, so the error
// grows with n / 16 rather than n. The order is fixed by n and the team size: same bits each run.
#pragma once

#include "deepseek/core/team.hpp"
#include "deepseek/core/view.hpp"

namespace deepseek {

DEEPSEEK_EITHER_SIDE
template <class Team, class Term>
DEEPSEEK_HOST_DEVICE auto row_sum(const Team& team, index_t n, const Term& term) {
  using sum_type = decltype(term(index_t{0}));
  constexpr int lanes = 16;
  sum_type partial[lanes] = {};
  const index_t step = team.size();
  for (index_t first = team.rank(); first < n; first += lanes * step) {
    for (int lane = 0; lane < lanes && first + lane * step < n; ++lane) {
      partial[lane] += term(first + lane * step);
    }
  }
  for (int half = lanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) partial[lane] += partial[lane + half];
  }
  return team.sum(partial[0]);
}

}  // namespace deepseek
