// SPDX-License-Identifier: Apache-2.0
// native_sparse_attention<config>: three gated branches, each with keys and values of its own,
//   y = Wo sum_b g_b o_b, g = sigmoid(W x + b) for each token and head, b in
//   compressed  entries of overlapping or adjacent windows of `stride` tokens, complete ones only
//   selected    the `blocks.count` blocks that the compressed scores find important, the initial
//               and the most recent ones always, the same for the heads of a key-value head
//   window      the last `window` tokens.
// Defaults are the paper's: windows of 32 every 16 tokens, 16 blocks of 64, a window of 512. Chosen
// here: an entry is a learned mean of the window for each channel (layers/token_pool.hpp; the paper
// has an MLP), the first overlapping entry holds `stride` tokens, keys are pooled after their
// rotation, a gate is one linear layer.
// Names: wq, wo, mix, branches.0 (wk, wv, pool_k, pool_v), branches.1 and .2 (wk, wv).
// Source: Yuan et al. 2025, Native Sparse Attention, section 3.
#pragma once

#include "deepseek/layers/selected_blocks.hpp"

namespace deepseek {

struct nsa_config {
  attention_config attention = {};     // kv_heads: the groups that share a choice of blocks
  index_t stride = 16;                 // tokens of a window
  overlap windows = overlap::present;  // an entry takes the window before, too
  pooling entries = pooling::learned;
  selected_blocks_config blocks = {};
  index_t window = 512;  // >= 1
  bool operator==(const nsa_config&) const = default;
};

template <nsa_config C>
struct native_sparse_attention
    : fused_attention<C.attention, token_gates<weight_score::sigmoid>, plain,
                      own_keys<pooled<C.stride, C.entries, C.windows>>,
                      own_keys<selected_blocks<C.blocks>>, own_keys<over<sliding<C.window>>>> {
  static_assert(C.stride >= 1 && C.window >= 1,
                "deepseek::native_sparse_attention: stride or window is not positive; write "
                ".stride = 16 and .window = 512");
  static_assert(
      C.blocks.block % C.stride == 0,
      "deepseek::native_sparse_attention: a block is not whole windows (blocks are scored "
      "by their entries); write a multiple of .stride as .blocks.block");
};

}  // namespace deepseek
