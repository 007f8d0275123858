// SPDX-License-Identifier: Apache-2.0
// contrastive: which of n columns belongs to a row, and which of n rows to a column. Pair i is
// scores(i, i) of scores [n, n]:
//   loss = 1/(2 n) sum_i (ln sum_j e^scores(i, j) + ln sum_j e^scores(j, i) - 2 scores(i, i)).
// contrastive_gradient writes dscores [n, n] =
//   scale / (2 n) (softmax over columns + softmax over rows - 2 I); dscores may be scores.
// Types: accumulate_t; the mean in double, rows in order, then columns. n = 0 gives 0.
// Errors: shape_mismatch (not square), invalid_argument (null data, scale). One thread: n is a
// batch. Cost: four passes of n^2. train/contrastive.hpp makes the scores of two sets of
// embeddings under a learned temperature. Source: Radford et al. 2021 (CLIP), section 2.3.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct contrastive_op {
  static constexpr std::string_view name = "contrastive";

  template <class B, class S>
  double operator()(const B& b, const S& scores_in) const {
    const auto scores = as_const(as_view(scores_in));
    check_spaces(b, scores);
    static_assert(scores.rank == 2, "deepseek::contrastive: wrong rank; pass scores[n, n]");
    require_extent(scores, 1, scores.extent(0), "contrastive: scores");
    require_data(scores, "contrastive: scores");
    return scores.empty() ? 0.0 : contrastive_impl(b, scores);
  }
};

struct contrastive_gradient_op {
  static constexpr std::string_view name = "contrastive_gradient";

  template <class B, class S, class DS>
  void operator()(const B& b, const S& scores_in, DS&& dscores_in, double scale = 1) const {
    const auto scores = as_const(as_view(scores_in));
    const auto dscores = as_view(dscores_in);
    check_spaces(b, scores, dscores);
    static_assert(scores.rank == 2,
                  "deepseek::contrastive_gradient: wrong rank; pass scores, dscores [n, n]");
    require_extent(scores, 1, scores.extent(0), "contrastive_gradient: scores");
    require_same_shape(dscores, scores, "contrastive_gradient: dscores");
    require_data(scores, "contrastive_gradient: scores");
    require_data(dscores, "contrastive_gradient: dscores");
    require(std::isfinite(scale), error_code::invalid_argument, "contrastive_gradient: scale is ",
            scale, "; pass a finite number");
    if (!scores.empty()) contrastive_gradient_impl(b, scores, dscores, scale);
  }
};

namespace ops {
inline constexpr contrastive_op contrastive{};
inline constexpr contrastive_gradient_op contrastive_gradient{};
}  // namespace ops

}  // namespace deepseek
