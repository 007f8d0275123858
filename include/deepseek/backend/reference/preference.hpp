// SPDX-License-Identifier: Apache-2.0
// preference on host backends; see ops/preference.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/preference.hpp"

namespace deepseek {

template <class Pairs>
void require_pairs(const Pairs& pairs, index_t rows) {
  for (index_t i = 0; i < pairs.extent(0); ++i) {
    for (index_t side = 0; side < 2; ++side) {
      require(pairs(i, side) >= 0 && pairs(i, side) < rows, error_code::index_range,
              "preference: pairs[", i, ", ", side, "] is ", pairs(i, side), ", outside 0 .. ",
              rows - 1, "; pass rows of rewards");
    }
  }
}

template <class R, class Pairs>
preference_result preference_impl(const reference&, const R& rewards, const Pairs& pairs,
                                  const preference_spec& spec) {
  using A = accumulate_t<typename R::value_type>;
  require_pairs(pairs, rewards.extent(0));
  double sum = 0;
  index_t right = 0;
  for (index_t i = 0; i < pairs.extent(0); ++i) {
    const A better = convert_to<A>(rewards(pairs(i, 0)));
    const A worse = convert_to<A>(rewards(pairs(i, 1)));
    const A both = better + worse, apart = better - worse;
    sum += static_cast<double>(math::softplus(static_cast<A>(spec.margin) - apart) +
                               static_cast<A>(spec.centering) * both * both);
    right += apart > 0 ? 1 : 0;
  }
  const double n = static_cast<double>(pairs.extent(0));
  return {sum / n, static_cast<double>(right) / n};
}

template <class R, class Pairs, class DR>
void preference_gradient_impl(const reference& b, const R& rewards, const Pairs& pairs,
                              const DR& drewards, const preference_spec& spec) {
  using A = accumulate_t<typename DR::value_type>;
  const index_t rows = rewards.extent(0), n = pairs.extent(0);
  require_pairs(pairs, rows);
  const scope freed(b.workspace());
  const auto sums = b.workspace().template make<A, dyn>(rows);
  for (index_t r = 0; r < rows; ++r) sums(r) = 0;
  const A by = n > 0 ? static_cast<A>(spec.scale / static_cast<double>(n)) : A(0);
  for (index_t i = 0; i < n; ++i) {
    const A better = convert_to<A>(rewards(pairs(i, 0)));
    const A worse = convert_to<A>(rewards(pairs(i, 1)));
    const A pull = math::sigmoid(static_cast<A>(spec.margin) - (better - worse));
    const A centre = 2 * static_cast<A>(spec.centering) * (better + worse);
    sums(pairs(i, 0)) += by * (centre - pull);
    sums(pairs(i, 1)) += by * (centre + pull);
  }
  for (index_t r = 0; r < rows; ++r) drewards(r) = convert_to<typename DR::value_type>(sums(r));
}

}  // namespace deepseek
