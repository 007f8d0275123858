// SPDX-License-Identifier: Apache-2.0
// contrastive on host backends; see ops/contrastive.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/cross_entropy.hpp"
#include "deepseek/ops/contrastive.hpp"

namespace deepseek {

// The cross entropy of row i against i, summed.
template <class S>
double contrastive_sum(const S& scores) {
  using A = accumulate_t<typename S::value_type>;
  double sum = 0;
  for (index_t i = 0; i < scores.extent(0); ++i) {
    const auto e = exponentials_of<A>(slice(scores, i));
    sum += static_cast<double>(std::log(e.sum) - (convert_to<A>(scores(i, i)) - e.most));
  }
  return sum;
}

template <class S>
double contrastive_impl(const reference&, const S& scores) {
  const double rows = contrastive_sum(scores), columns = contrastive_sum(transposed(scores));
  return (rows + columns) / (2 * static_cast<double>(scores.extent(0)));
}

template <class S, class DS>
void contrastive_gradient_impl(const reference& b, const S& scores, const DS& dscores,
                               double scale) {
  using A = accumulate_t<typename DS::value_type>;
  const auto turned = transposed(scores);
  const index_t n = scores.extent(0);
  const scope freed(b.workspace());
  const auto rows = b.workspace().template make<A, dyn, 2>(n);
  const auto columns = b.workspace().template make<A, dyn, 2>(n);
  for (index_t i = 0; i < n; ++i) {
    const auto r = exponentials_of<A>(slice(scores, i)), c = exponentials_of<A>(slice(turned, i));
    rows(i, 0) = r.most, rows(i, 1) = r.sum;
    columns(i, 0) = c.most, columns(i, 1) = c.sum;
  }
  const A factor = static_cast<A>(scale / (2 * static_cast<double>(n)));
  for (index_t i = 0; i < n; ++i) {
    for (index_t j = 0; j < n; ++j) {
      const A x = convert_to<A>(scores(i, j));
      const A by_row = std::exp(x - rows(i, 0)) / rows(i, 1);
      const A by_column = std::exp(x - columns(j, 0)) / columns(j, 1);
      const A hit = i == j ? A(1) : A(0);
      dscores(i, j) =
          convert_to<typename DS::value_type>(factor * ((by_row - hit) + (by_column - hit)));
    }
  }
}

}  // namespace deepseek
