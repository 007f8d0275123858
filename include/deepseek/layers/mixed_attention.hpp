// SPDX-License-Identifier: Apache-2.0
// mixed_attention<config, Fusion, Pattern...>: y = Wo (alpha local + beta block + gamma random),
// the attentions over several patterns with shared projections, each with its own softmax, weighed
// by
//   fixed_weights<{{alpha, beta, gamma}}>, learned_weights<score> or token_gates<score>.
// Not the same as one softmax over the union of the keys: that is
// multi_head_attention<config, either<Pattern...>>. One after the other (local, then block) is
// chain<residual<...>, residual<...>>. Formulas and costs: layers/fused_attention.hpp.
#pragma once

#include "deepseek/layers/fused_attention.hpp"

namespace deepseek {

template <attention_config C, class Fusion, class... Pattern>
struct mixed_attention : fused_attention<C, Fusion, plain, over<Pattern>...> {};

}  // namespace deepseek
