// SPDX-License-Identifier: Apache-2.0
// int4_activations<G, Scale>, int4_symmetric_activations<G, Scale>: the weights of int4_groups<G,
// Scale> or int4_symmetric<G, Scale>, and inputs that become signed bytes in the call, symmetric,
// one scale for each row (token), so that products are integers:
//   a_m = max_k |x[m, k]| / 127 (0 -> 1), p = clamp(rne(x / a_m), -127, 127)
//   y[m, n] = a_m sum_g s[n, g] (sum over k in g of (q[n, k] - z[n, g]) p[m, k]) + bias[n]
// Many rows then run at the speed of byte products instead of float ones; the error of the inputs
// is that of 8 bits beside that of 4. Rows are independent; no calibration.
// Source: Nagel et al. 2021, section 2 (white paper); Lin et al. 2024 (QServe), section 4.
#pragma once

#include "deepseek/quant/int4_groups.hpp"

#include <cmath>

namespace deepseek {

// The weights of one or several experts for products with rows of bytes.
template <class Space, class Scale = bf16>
struct int4_activations_operand {
  using space = Space;
  int4_operand<Space, Scale> weights;

  index_t experts() const { return weights.experts(); }
  index_t out() const { return weights.out(); }
  index_t in() const { return weights.in(); }
  int4_matrix<Space, Scale> expert(index_t e) const { return weights.expert(e); }
  void check(const char* op) const { weights.check(op); }
};

// The tensors of the weights under their names.
template <class Weight, class Scale>
struct int4_activations_weight : Weight {
  int4_activations_operand<typename Weight::space, Scale> operand() const {
    return {Weight::operand()};
  }
};

template <zero_points Z, index_t G, class Scale>
struct int4_activations_format : int4_format<Z, G, Scale> {
  template <class T, class S, index_t O, index_t I>
  using weight =
      int4_activations_weight<typename int4_format<Z, G, Scale>::template weight<T, S, O, I>,
                              Scale>;
};
template <index_t G = 32, class Scale = bf16>
struct int4_activations : int4_activations_format<zero_points::stored, G, Scale> {
  static constexpr const char* name = "int4_activations";
};
template <index_t G = 32, class Scale = bf16>
struct int4_symmetric_activations : int4_activations_format<zero_points::middle, G, Scale> {
  static constexpr const char* name = "int4_symmetric_activations";
};

// x is finite; A: the type of the computation.
template <class A>
float signed_byte_scale(A largest) {
  const float scale = static_cast<float>(largest / A(127));
  return scale > 0 ? scale : 1.0F;
}
template <class A>
std::int8_t signed_byte(A x, float scale) {
  const A code = std::nearbyint(x / static_cast<A>(scale));
  return static_cast<std::int8_t>(std::clamp(code, A(-127), A(127)));
}

}  // namespace deepseek
