// SPDX-License-Identifier: Apache-2.0
// fp8_gemm and grouped_fp8_gemm on the device: rows become codes (quantize_fp8.hpp), kept as the
// bf16 numbers that they are, then coded_gemm.hpp, whose slabs are the blocks of the scales: inner
// sums of codes, each added to y's by one fma. The bits are those of the reference; see
// ops/fp8_gemm.hpp. A context with fp8_products::tensor_cores takes the library instead, other
// bits, where that offers the product (fp8_library.hpp).
#pragma once

#include "deepseek/backend/cuda/coded_gemm.hpp"
#include "deepseek/backend/cuda/fp8_library.hpp"
#include "deepseek/backend/cuda/quantize_fp8.hpp"

namespace deepseek {

namespace cuda_coded {
static_assert(slab == fp8_block);

// Codes without their scales, which weigh the sums of slabs.
struct fp8_sums : fp8_form {
  const float* x_scale;  // [rows, blocks_in]

  struct group_of {};
  DEEPSEEK_HOST_DEVICE static group_of group(index_t, index_t, index_t) { return {}; }
  template <class A>
  DEEPSEEK_HOST_DEVICE static void decode(const packet& p, const group_of&,
                                          A (&values)[columns][steps]) {
    for (int i = 0; i < steps; ++i) {
      values[0][i] = static_cast<A>(float_of_e4m3((p.word[i / 4] >> (8 * (i % 4))) & 0xffU));
    }
  }
  template <class A>
  DEEPSEEK_HOST_DEVICE A added(A total, A inner, index_t e, index_t m, index_t n,
                               index_t block) const {
    const A weight =
        static_cast<A>(x_scale[m * blocks_in + block]) * static_cast<A>(scale_at(e, n, block));
    return std::fma(inner, weight, total);
  }
};

template <class B, class X, class S, class Y, class Bias>
void fp8_product(const B& b, const X& x, const fp8_operand<S>& w, const offsets_view<B>& offsets,
                 const Y& y, const Bias& bias) {
  const index_t rows = x.extent(0), depth = x.extent(1), blocks = fp8_blocks_in(depth);
  const scope freed(b.workspace());
  const auto memory = b.workspace().template make<bf16, dyn, dyn>(rows, blocks * fp8_block);
  const view<bf16, S, dyn, dyn> codes(memory.data(), {rows, depth}, {memory.stride(0), 1});
  const auto scales = b.workspace().template make<float, dyn, dyn>(rows, blocks);
  if (!x.empty()) b.launch(cuda_fp8::quantize_of(b, x, codes, scales));
  const fp8_sums form{form_of(w), scales.data()};
  coded_product(b, as_const(codes), form, offsets, y, bias, b.faults());
}

}  // namespace cuda_coded

template <DeviceBackend B, class X, class S, class Y, class Bias>
void fp8_gemm_impl(const B& b, const X& x, const fp8_operand<S>& w, const Y& y, const Bias& bias) {
  if (fp8_product_by_library(b, x, w, y, bias)) return;
  cuda_coded::fp8_product(b, x, w, {}, y, bias);
}

template <DeviceBackend B, class X, class S, class O, class Y>
void grouped_fp8_gemm_impl(const B& b, const X& x, const fp8_operand<S>& w, const O& offsets,
                           const Y& y) {
  cuda_coded::fp8_product(b, x, w, offsets, y, none{});
}

}  // namespace deepseek
