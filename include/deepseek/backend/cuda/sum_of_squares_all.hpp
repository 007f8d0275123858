// SPDX-License-Identifier: Apache-2.0
// sum_of_squares_all on the device: the chunks of all tensors in one launch, half a warp each as in
// sum_of_squares.hpp, the chunks of each tensor added in order by a block of its own, then the
// tensors. See ops/sum_of_squares_all.hpp.
#pragma once

#include "deepseek/backend/cuda/chunk_list.hpp"
#include "deepseek/backend/cuda/sum_of_squares.hpp"
#include "deepseek/ops/sum_of_squares_all.hpp"

namespace deepseek {

namespace cuda_sum_of_squares {

static_assert(chunk == list_chunk, "the chunks of a list are those of the sum");

template <class List, class Sums>
struct list_chunks {
  static constexpr int threads = 256;
  List list;
  Sums sums;  // [chunks, 1]

  index_t blocks() const { return blocks_of(list.chunks, threads / lanes); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t c = block.index() * (threads / lanes) + block.rank() / lanes;
    double sum = 0;
    if (c < list.chunks) {
      const chunk_place at = list.place(c);
      const auto& x = list.items(at.at).item;
      for (index_t i = at.begin + block.rank() % lanes; i < at.end; i += lanes) {
        const double v = convert_to<double>(x.data()[i]);
        sum = std::fma(v, v, sum);
      }
    }
    for (int half = lanes / 2; half > 0; half /= 2) sum += block.shuffle_xor(sum, half);
    if (c < list.chunks && block.rank() % lanes == 0) sums(c, 0) = sum;
  }
};

// Thread 0 of the block of an item adds its chunks, which the block brings.
template <class List, class Sums>
struct item_sums {
  static constexpr int threads = 128;
  List list;
  Sums sums, totals;  // [chunks, 1], [items, 1]

  index_t blocks() const { return list.items.extent(0); }
  std::size_t shared_bytes() const { return threads * sizeof(double); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    double* const held = reinterpret_cast<double*>(block.shared());
    const auto& item = list.items(block.index());
    const index_t n = (item.size + list_chunk - 1) / list_chunk;
    double total = 0;
    for (index_t first = 0; first < n; first += threads) {
      const index_t here = n - first < threads ? n - first : threads;
      if (block.rank() < here) held[block.rank()] = sums(item.first + first + block.rank(), 0);
      block.sync();
      for (index_t i = 0; block.rank() == 0 && i < here; ++i) total += held[i];
      block.sync();
    }
    if (block.rank() == 0) totals(block.index(), 0) = total;
  }
};

}  // namespace cuda_sum_of_squares

template <DeviceBackend B, class T, class S>
double sum_of_squares_all_impl(const B& b, std::span<const view<const T, S, dyn>> tensors) {
  using namespace cuda_sum_of_squares;
  using Sums = view<double, S, dyn, 1>;
  auto& memory = b.workspace();
  const scope freed(memory);
  const auto list = make_chunk_list(b, tensors, [](const auto& x) { return x.extent(0); });
  using List = std::remove_const_t<decltype(list)>;
  const Sums sums = memory.template make<double, dyn, 1>(list.chunks);
  const Sums totals = memory.template make<double, dyn, 1>(list.items.extent(0));
  const auto sum = memory.template make<double, 1>();
  b.launch(list_chunks<List, Sums>{list, sums});
  b.launch(item_sums<List, Sums>{list, sums, totals});
  ordered_sum(b, totals, sum);
  return b.read(sum.data());
}

}  // namespace deepseek
