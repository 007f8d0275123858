// SPDX-License-Identifier: Apache-2.0
// What balance_loss takes of one token (formulas in ops/balance_loss.hpp), shared by reference and
// cuda.
#pragma once

#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/backend/rows/gate.hpp"
#include "deepseek/core/team.hpp"
#include "deepseek/core/view.hpp"
#include "deepseek/ops/balance_loss.hpp"

namespace deepseek {

// add(d) for each that token t counts: each of its ids, or each group that an id falls into.
template <class Ids, class Add>
DEEPSEEK_HOST_DEVICE void count_token(const Ids& ids, index_t t, index_t group_size,
                                      balance_count how, const Add& add) {
  for (index_t k = 0; k < ids.extent(1); ++k) {
    const index_t d = ids(t, k) / group_size;
    bool counted = false;
    for (index_t j = 0; j < k && how == balance_count::tokens; ++j) {
      counted = counted || ids(t, j) / group_size == d;
    }
    if (!counted) add(d);
  }
}

// The sum of a token's scores, or 1 where they are taken as they are.
template <class Team, class Row>
DEEPSEEK_HOST_DEVICE double balance_divisor(const Team& team, const Row& scores,
                                            balance_share how) {
  if (how == balance_share::as_it_is) return 1;
  double sum = team.rank() == 0 ? gate_sum_floor : 0;
  for (index_t e = team.rank(); e < scores.extent(0); e += team.size()) {
    sum += convert_to<double>(scores(e));
  }
  return team.sum(sum);
}

}  // namespace deepseek
