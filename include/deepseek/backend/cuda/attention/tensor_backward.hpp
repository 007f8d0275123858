// SPDX-License-Identifier: Apache-2.0
// Attention backward on tensor cores, bf16 and f16 (formulas: backward.hpp). dq: a block has 64
// rows, a warp 16 of them, and goes over the key tiles. dk, dv: a block has 64 keys, a warp 16, and
// goes over the rows that may see them. Weights and their gradients are computed in both, in
// registers, and rounded to 16 bits as left factors; the scale is applied at the end. No atomics:
// each element is one sum of fixed order. NaN as in tensor_forward.hpp. Source: Dao 2023, 3.1.2.
#pragma once

#include "deepseek/backend/cuda/attention/backward.hpp"
#include "deepseek/backend/cuda/attention/fragments.hpp"

namespace deepseek::cuda_attention {

template <class T, int Width, int ValueWidth>
struct gradient_shape {
  using type = T;
  static constexpr int width = Width, value_width = ValueWidth, warps = 4;
  static constexpr int rows = Width > 128  ? 16
                              : Width > 64 ? 32
                                           : 64;      // of a tile that dk, dv go over
  static constexpr int stages = Width > 128 ? 1 : 2;  // of the tiles that dq goes over
};

inline constexpr float log2_of_e = 1.44269504088896340736F;

// p and ds / scale of one pair: s the product q . k, lse in units of log 2.
struct pair_numbers {
  float lse, delta;
};
template <class P>
struct pair_scores {
  float scale;
  struct result {
    float p, ds;
  };
  DEEPSEEK_HOST_DEVICE result operator()(const P& bound, float s, float dp, const pair_numbers& at,
                                         index_t q, index_t k) const {
    if constexpr (modifies_scores<P>) {
      const modified_score<float> now = modify_score(bound, s * scale, q, k);
      const float p = std::exp2(now.score * log2_of_e - at.lse);
      return {p, p * (dp - at.delta) * now.slope};
    } else {
      const float p = std::exp2(s * (scale * log2_of_e) - at.lse);
      return {p, p * (dp - at.delta)};
    }
  }
};

template <class To, class T>
DEEPSEEK_HOST_DEVICE void write_two(const To& to, index_t token, index_t head, int c, float low,
                                    float high) {
  *reinterpret_cast<std::uint32_t*>(&to(token, head, c)) = mma::pack<T>(low, high);
}

}  // namespace deepseek::cuda_attention
