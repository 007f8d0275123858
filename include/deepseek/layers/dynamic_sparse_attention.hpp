// SPDX-License-Identifier: Apache-2.0
// dynamic_sparse_attention<config>: a window of tokens and, for the whole sequence, the few tokens
// that a learned selector finds most important (layers/top_tokens.hpp), each with its own softmax:
//   y = Wo (g local + (1 - g) global), g a gate for each token and head     branch_sum::gated
//   y = Wo (local + global)                                                  branch_sum::plain
// g is a softmax of two numbers Wx + b. With token_choice::causal (the default) both branches look
// back: local sees the last `window` tokens, itself among them. With token_choice::shared local
// sees `window` tokens on either side, and the selected ones are the same for all queries.
// Not DeepSeek's sparse attention (deepseek_sparse_attention), whose indexer scores every pair and
// which has one softmax. Names: wq, wk, wv, wo, mix, branches.1.selector.
#pragma once

#include "deepseek/layers/top_tokens.hpp"
#include "deepseek/pattern/band.hpp"

namespace deepseek {

enum class branch_sum { plain, gated };

struct dynamic_sparse_config {
  attention_config attention = {};
  index_t window = 64;            // >= 1
  top_tokens_config global = {};  // 10 tokens
  branch_sum sum = branch_sum::gated;
  bool operator==(const dynamic_sparse_config&) const = default;
};

template <dynamic_sparse_config C>
using dynamic_sparse_window =
    std::conditional_t<C.global.choice == token_choice::causal, sliding<C.window>, local<C.window>>;
template <dynamic_sparse_config C>
using dynamic_sparse_weights =
    std::conditional_t<C.sum == branch_sum::gated, token_gates<>, fixed_weights<>>;

template <dynamic_sparse_config C>
struct dynamic_sparse_attention
    : fused_attention<C.attention, dynamic_sparse_weights<C>, plain, over<dynamic_sparse_window<C>>,
                      top_tokens<C.global>> {
  static_assert(C.window >= 1,
                "deepseek::dynamic_sparse_attention: window is not positive; write "
                ".window = 64");
};

}  // namespace deepseek
