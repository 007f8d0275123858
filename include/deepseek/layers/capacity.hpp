// SPDX-License-Identifier: Apache-2.0
// How many rows an expert takes, and what becomes of the others (ops/expert_capacity.hpp).
// .factor 1.25: C = max(least, ceil(1.25 K T / E)) of the T tokens of a call; .rows: C itself.
// Without either nothing is dropped. A token whose choice found no room gets nothing from it: it
// passes by the residual around the layer. Which rows find room depends on the other rows: where
// it holds in inference too (during::always), a row of a batch is not the row alone, rows are not
// independent, and decoding with a cache is refused. Default: in training only (DeepSeek-V2 2024,
// 2.2.4).
#pragma once

#include "deepseek/layers/layer.hpp"
#include "deepseek/ops/expert_capacity.hpp"

namespace deepseek {

enum class during { training, always };
// Weights of a token that lost some of its experts: as they were, or formed again over the kept.
enum class kept_weights { as_chosen, over_kept };

struct capacity_config {
  double factor = 0;  // >= 0; 0: no capacity by factor
  index_t rows = 0;   // >= 0; rows an expert takes, instead of factor
  index_t least = 0;  // with factor: never less than that, >= 0
  drop_order order = drop_order::by_position;
  overflow then = overflow::passes;
  kept_weights weights = kept_weights::as_chosen;  // rerouted choices are always weighed again
  during when = during::training;
  bool operator==(const capacity_config&) const = default;

  constexpr bool limits() const { return factor > 0 || rows > 0; }
  constexpr bool weighs_again() const {
    return weights == kept_weights::over_kept || then == overflow::rerouted;
  }
  constexpr index_t of(index_t tokens, index_t choices, index_t experts) const {
    return rows > 0 ? rows : expert_capacity_of(factor, choices * tokens, experts, least);
  }
};

}  // namespace deepseek
