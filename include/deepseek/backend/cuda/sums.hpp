// SPDX-License-Identifier: Apache-2.0
// ordered_sum(b, terms, out): out[k] = the sum of terms[i, k] over i in order, in double, for
// terms [n, 1 .. 4]: a block brings the terms, one thread for each k adds them, so the bits are
// those of a loop. For results of few terms: means of rows, sums of chunks.
#pragma once

#include "deepseek/backend/cuda/device_backend.hpp"
#include "deepseek/core/view.hpp"

namespace deepseek {

namespace cuda_sums {

template <class Terms, class Out>
struct in_order {
  static constexpr int threads = 256, tile = 1024;
  Terms terms;
  Out out;

  index_t blocks() const { return 1; }
  std::size_t shared_bytes() const { return tile * sizeof(double); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    double* const held = reinterpret_cast<double*>(block.shared());
    const index_t width = terms.extent(1), rows = tile / width, n = terms.extent(0);
    double sum = 0;
    for (index_t first = 0; first < n; first += rows) {
      const index_t here = n - first < rows ? n - first : rows;
      for (index_t i = block.rank(); i < here * width; i += threads) {
        held[i] = terms(first + i / width, i % width);
      }
      block.sync();
      if (block.rank() < width) {
        for (index_t i = 0; i < here; ++i) sum += held[i * width + block.rank()];
      }
      block.sync();
    }
    if (block.rank() < width) out(block.rank()) = sum;
  }
};

}  // namespace cuda_sums

template <DeviceBackend B, class Terms, class Out>
void ordered_sum(const B& b, const Terms& terms, const Out& out) {
  b.launch(cuda_sums::in_order<Terms, Out>{terms, out});
}

}  // namespace deepseek
