// SPDX-License-Identifier: Apache-2.0
// What router_z_loss takes of one token (formulas in ops/router_z_loss.hpp), over a team; shared by
// reference and cuda.
#pragma once

#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/core/team.hpp"
#include "deepseek/core/view.hpp"
#include "deepseek/ops/router_z_loss.hpp"

#include <cmath>

namespace deepseek {

// ln sum exp of a row of logits; -inf where every logit is.
template <class Team, class Z>
DEEPSEEK_HOST_DEVICE double log_sum_exp(const Team& team, const Z& z) {
  constexpr double infinity = math::infinity<double>;
  double top = -infinity, sum = 0;
  for (index_t e = team.rank(); e < z.extent(0); e += team.size()) {
    top = std::fmax(top, convert_to<double>(z(e)));
  }
  top = team.max(top);
  if (std::fabs(top) == infinity) return top;
  for (index_t e = team.rank(); e < z.extent(0); e += team.size()) {
    sum += std::exp(convert_to<double>(z(e)) - top);
  }
  return top + std::log(team.sum(sum));
}

}  // namespace deepseek
