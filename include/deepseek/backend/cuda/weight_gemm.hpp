// SPDX-License-Identifier: Apache-2.0
// weight_gemm and grouped_weight_gemm on the device, every format of quant/: coded_gemm.hpp.
// Weights packed in panels (quant/packed.hpp) are read element by element: on a device plain
// weights are the fast form. Rows have the same bits in every batch; see ops/weight_gemm.hpp.
#pragma once

#include "deepseek/backend/cuda/coded_gemm.hpp"
#include "deepseek/ops/weight_gemm.hpp"

namespace deepseek {

template <DeviceBackend B, class X, class W, class Y, class Bias>
void weight_gemm_impl(const B& b, const X& x, const W& w, const Y& y, const Bias& bias) {
  cuda_coded::coded_product(b, x, cuda_coded::form_of(w), {}, y, bias);
}

template <DeviceBackend B, class X, class W, class O, class Y>
void grouped_weight_gemm_impl(const B& b, const X& x, const W& w, const O& offsets, const Y& y) {
  cuda_coded::coded_product(b, x, cuda_coded::form_of(w), offsets, y, none{});
}

}  // namespace deepseek
