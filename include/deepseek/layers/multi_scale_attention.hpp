// SPDX-License-Identifier: Apache-2.0
// multi_scale_attention<config, Fusion, Pattern, Factor...>: attention at several resolutions.
// Scale 1 sees the keys that Pattern shows; scale f sees keys and values pooled by f, one entry
// (their mean) for each complete window of f tokens; each scale has its own softmax, and
//   y = Wo (g_1 o_1 + sum_f g_f o_f), g by Fusion: learned_weights<>, token_gates<>,
//   fixed_weights<>.
// Causal where Pattern looks back: then a scale shows a query the entries complete at its position;
// else it shows all, and the layer cannot decode. What follows the last complete window is seen at
// scale 1 only. Projections are shared. Cost of a query: the keys of Pattern and n / f entries.
#pragma once

#include "deepseek/layers/pooled_branch.hpp"

namespace deepseek {

template <index_t Factor, class Pattern>
using scale_branch =
    pooled<Factor, pooling::mean, overlap::absent,
           std::conditional_t<reach_of<Pattern> == reach::past, compressed<Factor>, everyone>>;

template <attention_config C, class Fusion, class Pattern, index_t... Factor>
struct multi_scale_attention
    : fused_attention<C, Fusion, plain, over<Pattern>, scale_branch<Factor, Pattern>...> {
  static_assert(sizeof...(Factor) >= 1 && ((Factor >= 2) && ...),
                "deepseek::multi_scale_attention: no factors, or one below 2 (scale 1 is there "
                "already); write factors such as 4, 16");
};

}  // namespace deepseek
