// SPDX-License-Identifier: Apache-2.0
// transformer_block<Attention, FeedForward>: h = x + Attention(norm(x)); y = h +
// FeedForward(norm(h)). Pre-norm (RMSNorm; Norm chooses another). Names: attn_norm, attn, ffn_norm,
// ffn. With dropout: transformer_block<A, F, {.rate = 0.1}> drops each branch before it is added.
#pragma once

#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/dropout.hpp"
#include "deepseek/layers/norm.hpp"
#include "deepseek/layers/residual.hpp"

namespace deepseek {

template <class Norm, class Body, text Name, dropout_config Drop>
struct residual_branch_choice {
  using type = residual<chain<called<Name, Norm>, Body, dropout<Body::out, Drop>>>;
};
template <class Norm, class Body, text Name, dropout_config Drop>
requires(Drop.rate == 0) struct residual_branch_choice<Norm, Body, Name, Drop> {
  using type = residual<chain<called<Name, Norm>, Body>>;
};
template <class Norm, class Body, text Name, dropout_config Drop>
using residual_branch = typename residual_branch_choice<Norm, Body, Name, Drop>::type;

template <class Attention, class FeedForward, dropout_config Drop = dropout_config{.rate = 0},
          class Norm = rms_norm<Attention::out>>
struct transformer_block : chain<residual_branch<Norm, Attention, "attn_norm", Drop>,
                                 residual_branch<Norm, FeedForward, "ffn_norm", Drop>> {
  static_assert(Attention::out == FeedForward::out,
                "deepseek::transformer_block: attention and feed-forward have different widths; "
                "give both the same dim");
  template <class F>
  using with_format =
      transformer_block<reformatted<Attention, F>, reformatted<FeedForward, F>, Drop, Norm>;
};

}  // namespace deepseek
