// SPDX-License-Identifier: Apache-2.0
// dequantize_fp8 on the device: a warp for each 128 neighbours of a row and their scale. See
// ops/dequantize_fp8.hpp.
#pragma once

#include "deepseek/backend/cuda/coded_weights.hpp"
#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/ops/dequantize_fp8.hpp"

namespace deepseek {

namespace cuda_fp8 {

template <class Q, class S, class Y>
struct widened {
  Q codes;
  S scale;
  Y y;
  index_t blocks;  // of a row

  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t item) const {
    const index_t row = item / blocks, block = item % blocks, first = block * fp8_block;
    const float s = scale(row, block);
    for (int i = team.rank(); i < fp8_block && first + i < y.extent(1); i += team.size()) {
      const float value = s * cuda_coded::float_of_e4m3(codes(row, first + i).bits);
      y(row, first + i) = static_cast<typename Y::value_type>(value);
    }
  }
};

}  // namespace cuda_fp8

template <DeviceBackend B, class Q, class S, class Y>
void dequantize_fp8_impl(const B& b, const Q& codes, const S& scale, const Y& y) {
  const index_t blocks = scale.extent(1);
  run_each_row(b, y.extent(0) * blocks, fp8_block,
               cuda_fp8::widened<Q, S, Y>{codes, scale, y, blocks});
}

}  // namespace deepseek
