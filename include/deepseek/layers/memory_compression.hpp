// SPDX-License-Identifier: Apache-2.0
// memory_compression<config>: the state through a narrow layer and back, added to itself:
//   y = LayerNorm(h + W_d GELU(W_e h + b_e) + b_d),   W_e [k, dim], W_d [dim, k],
//   k = int(dim ratio), GELU exact, eps 1e-5. h, y [tokens, dim]; row-wise.
// A composition of mlp, residual and layer_norm; not a part of DeepSeek's released models.
// Cost: 4 dim k flops a row.
#pragma once

#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/mlp.hpp"
#include "deepseek/layers/norm.hpp"
#include "deepseek/layers/residual.hpp"

namespace deepseek {

struct memory_compression_config {
  index_t dim = 0;     // model width, > 0
  double ratio = 0.4;  // of the narrow width to dim, 0 < ratio <= 1
  bool operator==(const memory_compression_config&) const = default;
  constexpr index_t narrow() const {
    return static_cast<index_t>(static_cast<double>(dim) * ratio);
  }
};

template <memory_compression_config C, class F = plain>
struct memory_compression
    : chain<residual<called<"compression", mlp<C.dim, C.narrow(), activation::gelu, F>>>,
            layer_norm<C.dim, norm_config{.eps = 1e-5}>> {
  static_assert(C.dim > 0 && C.ratio > 0 && C.ratio <= 1 && C.narrow() > 0,
                "deepseek::memory_compression: ratio leaves no narrow width (or is above 1); write "
                ".dim = 512, .ratio = 0.4");
  static constexpr const char* label = "memory";
  template <class G>
  using with_format = memory_compression<C, G>;
};

}  // namespace deepseek
