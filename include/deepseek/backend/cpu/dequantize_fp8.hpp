// SPDX-License-Identifier: Apache-2.0
// dequantize_fp8 on the cpu: rows on all threads; contiguous float rows in registers: the bits of a
// code where float has them are its value times 2^-120. See ops/dequantize_fp8.hpp.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/dequantize_fp8.hpp"

namespace deepseek {

namespace kernels {

// n codes times one scale.
inline void decode_e4m3_run(const f8_e4m3* codes, float scale, float* to, index_t n) {
  using pack = simd::pack<float>;
  const pack up = pack::broadcast(0x1p120F), by = pack::broadcast(scale);
  const pack nan = pack::broadcast(std::numeric_limits<float>::quiet_NaN());
  simd::along_row<float>(
      n, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        simd::vector<std::uint8_t, pack::width> bytes{};
        __builtin_memcpy(&bytes, codes + i,
                         static_cast<std::size_t>(std::min<index_t>(rest, pack::width)));
        const auto words = __builtin_convertvector(bytes, simd::vector<std::int32_t>);
        const auto size = words & 0x7f;
        const auto bits = (size << 20) | ((words & 0x80) << 24);
        const pack value = simd::from_bits<float>(bits) * up * by;
        pack{size == 0x7f ? nan.v : value.v}.store_up_to(to + i, rest);
      });
}

}  // namespace kernels

template <class Q, class S, class Y>
void dequantize_fp8_impl(const cpu& b, const Q& codes, const S& scale, const Y& y) {
  const index_t width = y.extent(1);
  parallel_rows(b, y.extent(0), rows_per_task(width), [&](index_t first, index_t last) {
    if constexpr (std::is_same_v<typename Y::value_type, float>) {
      if (unit_rows(codes, y)) {
        for (index_t m = first; m < last; ++m) {
          for (index_t k = 0; k < width; k += fp8_block) {
            kernels::decode_e4m3_run(&codes(m, k), scale(m, k / fp8_block), &y(m, k),
                                     std::min(fp8_block, width - k));
          }
        }
        return;
      }
    }
    const index_t n = last - first;
    dequantize_fp8_impl(static_cast<const reference&>(b), rows(codes, first, n),
                        rows(scale, first, n), rows(y, first, n));
  });
}

}  // namespace deepseek
