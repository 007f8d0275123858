// SPDX-License-Identifier: Apache-2.0
// sum_of_squares on the device: half a warp keeps the 16 lanes of a chunk of 4096, so the sum has
// the bits that the contract describes; the host reads it. See ops/sum_of_squares.hpp.
#pragma once

#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/cuda/sums.hpp"
#include "deepseek/ops/sum_of_squares.hpp"

#include <cmath>

namespace deepseek {

namespace cuda_sum_of_squares {

inline constexpr index_t lanes = 16, chunk = 4096;

template <class X, class Sums>
struct chunks {
  static constexpr int threads = 256;
  X x;
  Sums sums;  // [chunks, 1]

  index_t blocks() const { return blocks_of(sums.extent(0), threads / lanes); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t at = block.index() * (threads / lanes) + block.rank() / lanes;
    const index_t last = (at + 1) * chunk < x.size() ? (at + 1) * chunk : x.size();
    double sum = 0;
    for (index_t i = at * chunk + block.rank() % lanes; i < last; i += lanes) {
      const double v = convert_to<double>(element_at(x, i));
      sum = std::fma(v, v, sum);
    }
    for (int half = lanes / 2; half > 0; half /= 2) sum += block.shuffle_xor(sum, half);
    if (at < sums.extent(0) && block.rank() % lanes == 0) sums(at, 0) = sum;
  }
};

}  // namespace cuda_sum_of_squares

template <DeviceBackend B, class X>
double sum_of_squares_impl(const B& b, const X& x) {
  using namespace cuda_sum_of_squares;
  using Sums = view<double, typename B::space, dyn, 1>;
  using Flat = view<const typename X::value_type, typename B::space, dyn>;
  const scope freed(b.workspace());
  const Sums sums = b.workspace().template make<double, dyn, 1>(blocks_of(x.size(), chunk));
  const auto sum = b.workspace().template make<double, 1>();
  if (x.contiguous()) {
    b.launch(chunks<Flat, Sums>{Flat(x.data(), {x.size()}), sums});
  } else {
    b.launch(chunks<X, Sums>{x, sums});
  }
  ordered_sum(b, sums, sum);
  return b.read(sum.data());
}

}  // namespace deepseek
