// SPDX-License-Identifier: Apache-2.0
// The bodies of move_load and move_bias (formulas in ops/load_state.hpp) over a team, shared by
// reference and cuda. Counts are whole numbers, so their sum is exact in any order.
#pragma once

#include "deepseek/core/team.hpp"
#include "deepseek/core/view.hpp"

namespace deepseek {

template <class Team, class V>
DEEPSEEK_HOST_DEVICE double sum_of(const Team& team, const V& v) {
  double sum = 0;
  for (index_t e = team.rank(); e < v.extent(0); e += team.size()) {
    sum += static_cast<double>(v(e));
  }
  return team.sum(sum);
}

template <class Team, class Counts, class Load>
DEEPSEEK_HOST_DEVICE void move_load_row(const Team& team, const Counts& counts, double decay,
                                        const Load& load) {
  using T = typename Load::value_type;
  const double total = sum_of(team, counts), known = sum_of(team, load);
  if (!(total > 0)) return;
  const double old = known > 0 ? decay : 0.0;
  for (index_t e = team.rank(); e < load.extent(0); e += team.size()) {
    const double share = static_cast<double>(counts(e)) / total;
    load(e) = static_cast<T>(old * static_cast<double>(load(e)) + (1 - old) * share);
  }
}

template <class Team, class Counts, class Bias>
DEEPSEEK_HOST_DEVICE void move_bias_row(const Team& team, const Counts& counts, double step,
                                        const Bias& bias) {
  using T = typename Bias::value_type;
  const double mean = sum_of(team, counts) / static_cast<double>(counts.extent(0));
  for (index_t e = team.rank(); e < bias.extent(0); e += team.size()) {
    const double lack = mean - static_cast<double>(counts(e));
    const double by = lack > 0 ? step : lack < 0 ? -step : 0.0;
    bias(e) = static_cast<T>(static_cast<double>(bias(e)) + by);
  }
}

}  // namespace deepseek
