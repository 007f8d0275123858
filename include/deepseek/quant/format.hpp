// SPDX-License-Identifier: Apache-2.0
// A format says how the weights of a linear layer are stored. It names `weight<T, Space, O, I>`, a
// tensor or a struct of tensors with fields(); `weight_product(backend, x, weight, y)` multiplies
// by it. `plain` stores the tensor itself [out, in]; it and fake formats are trained.
// `reformatted<L, F>` maps a layer type to the same layer in another format.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/parameters.hpp"

namespace deepseek {

struct plain {
  static constexpr const char* name = "plain";
  static constexpr bool stores_elements = true;
  template <class T, class S, index_t O, index_t I>
  using weight = tensor<T, S, O, I>;
};

// Weights in bf16, 2 bytes each, as checkpoints hold them; row-major [out, in] like plain ones, so
// that ops::gemm takes any part of them. Activations keep their type and sums are theirs.
struct bf16_weights {
  static constexpr const char* name = "bf16_weights";
  static constexpr bool stores_elements = true;
  template <class T, class S, index_t O, index_t I>
  using weight = tensor<bf16, S, O, I>;
};

// Says of a stored weight which format made it and from what: a plain [O, I], or one of each of the
// E experts of a stack.
template <class F, index_t O, index_t I, index_t E>
struct formatted {};

template <class L, class F>
struct reformat {
  using type = L;
};
template <class L, class F>
requires requires {
  typename L::template with_format<F>;
}
struct reformat<L, F> {
  using type = typename L::template with_format<F>;
};
template <class L, class F>
using reformatted = typename reformat<L, F>::type;

// The format in which a linear layer L, spelled with the plain format, is stored where F is asked
// for: F, unless F chooses by the layer (quant/only.hpp).
template <class F, class L>
struct format_choice {
  using type = F;
};
template <class F, class L>
using chosen_format = typename format_choice<F, L>::type;

// Formats that are trained although they are not plain (quant/fake.hpp).
template <class F>
concept TrainedFormat = F::is_trained;

// Whether a row's product does not depend on the other rows of a call.
template <class F>
inline constexpr bool keeps_rows_apart = true;
template <class F>
requires requires {
  F::rows_are_independent;
}
inline constexpr bool keeps_rows_apart<F> = F::rows_are_independent;

// Whether weights are made with what a calibration saw of their inputs.
template <class F>
inline constexpr bool needs_calibration = false;

// What users spell. A struct, not an alias: messages stay short and every compiler can name it.
template <class L, class F>
struct quantized : reformatted<L, F> {};

}  // namespace deepseek
