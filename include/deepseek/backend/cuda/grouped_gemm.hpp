// SPDX-License-Identifier: Apache-2.0
// grouped_gemm, its weight gradient, add_expert_bias and add_expert_sums on the device, offsets
// read there: blocks for an upper bound of the row tiles find their expert themselves
// (row_tiles.hpp). bf16 and f16 in whole packets of 16 bytes run on tensor cores, forward and both
// gradients (tensor_product.hpp, tensor_weight_gradient.hpp). Else weights stored [E, N, K] in
// whole packets go through coded_gemm.hpp as they are: up to 8 rows an expert stream them once,
// more rows take 64 x 64 tiles, with the same bits. Other strides, and gradients of other types:
// 64 x 64 tiles as in gemm.hpp, sums over k, or over the rows of an expert, in order. See
// ops/grouped_gemm.hpp. Unproven on hardware: the rates.
#pragma once

#include "deepseek/backend/cuda/coded_gemm.hpp"
#include "deepseek/backend/cuda/gemm.hpp"
#include "deepseek/backend/cuda/plain_weights.hpp"
#include "deepseek/backend/cuda/row_tiles.hpp"
#include "deepseek/backend/cuda/tensor_weight_gradient.hpp"
#include "deepseek/ops/grouped_gemm.hpp"

namespace deepseek {

namespace cuda_grouped {

using cuda_gemm::tile;

template <class X, class W, class O, class Y>
struct product {
  using Acc = accumulate_t<typename Y::value_type>;
  static constexpr int threads = 256;
  X x;
  W w;
  row_tiles<O> tiles;
  Y y;

  DEEPSEEK_HOST_DEVICE index_t across() const { return (y.extent(1) + tile - 1) / tile; }
  index_t blocks() const { return tiles.slots() * across(); }
  static std::size_t shared_bytes() { return cuda_gemm::tile_bytes<Acc>(); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const row_tile own = tiles.find(block, block.index() / across());
    if (own.empty()) return;
    const index_t n0 = block.index() % across() * tile;
    cuda_gemm::tile_sums<Acc> sums;
    sums.run(block, x, slice(w, own.group), own.first, own.end, n0,
             reinterpret_cast<Acc*>(block.shared()));
    sums.store(block, own.first, own.end, n0, y.extent(1), [&](index_t row, index_t n, Acc sum) {
      y(row, n) = static_cast<typename Y::value_type>(sum);
    });
  }
};

// dw[e] += x_e^T dy_e: a block for each tile of each expert's matrix.
template <class X, class DY, class O, class DW>
struct weight_gradient {
  using Acc = accumulate_t<typename DW::value_type>;
  static constexpr int threads = 256;
  X x;
  DY dy;
  O offsets;
  DW dw;

  DEEPSEEK_HOST_DEVICE index_t down() const { return (dw.extent(1) + tile - 1) / tile; }
  DEEPSEEK_HOST_DEVICE index_t across() const { return (dw.extent(2) + tile - 1) / tile; }
  index_t blocks() const { return dw.extent(0) * down() * across(); }
  static std::size_t shared_bytes() { return cuda_gemm::tile_bytes<Acc>(); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t e = block.index() / (down() * across());
    const index_t place = block.index() % (down() * across());
    const index_t m0 = place / across() * tile, n0 = place % across() * tile;
    const index_t first = first_of(offsets, e), count = end_of(offsets, e) - first;
    if (count == 0) return;
    cuda_gemm::tile_sums<Acc> sums;
    sums.run(block, transposed(rows(x, first, count)), rows(dy, first, count), m0, dw.extent(1), n0,
             reinterpret_cast<Acc*>(block.shared()));
    sums.store(block, m0, dw.extent(1), n0, dw.extent(2), [&](index_t m, index_t n, Acc sum) {
      auto& to = dw(e, m, n);
      to = static_cast<typename DW::value_type>(sum + static_cast<Acc>(to));
    });
  }
};

template <class Bias, class O, class Y>
struct biased {
  static constexpr int threads = 256;
  static constexpr index_t own_rows = threads / warp_size;
  Bias bias;
  row_tiles<O> groups;
  Y y;
  index_t blocks() const { return blocks_of(y.extent(0), own_rows); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    using T = typename Y::value_type;
    using Acc = accumulate_t<T>;
    const index_t r = block.index() * own_rows + block.warp();
    if (r >= y.extent(0)) return;
    const index_t e = groups.group_of(block, r);
    for (index_t n = block.lane(); n < y.extent(1); n += warp_size) {
      y(r, n) = static_cast<T>(static_cast<Acc>(y(r, n)) + static_cast<Acc>(bias(e, n)));
    }
  }
};

// Sums of the rows of a tile, then of the tiles of an expert, in order.
template <class X, class O, class Partial>
struct partial_sums {
  using Acc = typename Partial::value_type;
  static constexpr int threads = 256;
  X x;
  row_tiles<O> tiles;
  Partial partial;  // [slots, N]

  DEEPSEEK_HOST_DEVICE index_t across() const { return (x.extent(1) + threads - 1) / threads; }
  index_t blocks() const { return tiles.slots() * across(); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t slot = block.index() / across();
    const index_t n = block.index() % across() * threads + block.rank();
    const row_tile own = tiles.find(block, slot);
    if (n >= x.extent(1)) return;
    Acc sum = 0;
    for (index_t r = own.first; r < own.end; ++r) sum += static_cast<Acc>(x(r, n));
    partial(slot, n) = sum;
  }
};
template <class O, class Partial, class Out>
struct add_partials {
  O offsets;
  index_t tile;
  Partial partial;
  Out out;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    using Acc = typename Partial::value_type;
    const index_t e = i / out.extent(1), n = i % out.extent(1);
    const index_t begin = offsets(e), end = offsets(e + 1);
    if (begin == end) return;
    const index_t first = first_slot(begin, e, tile), count = (end - begin + tile - 1) / tile;
    Acc sum = 0;
    for (index_t s = first; s < first + count; ++s) sum += partial(s, n);
    out(e, n) = static_cast<typename Out::value_type>(static_cast<Acc>(out(e, n)) + sum);
  }
};

}  // namespace cuda_grouped

template <DeviceBackend B, class X, class W, class O, class Y>
void grouped_gemm_impl(const B& b, const X& x, const W& w, const O& offsets, const Y& y) {
  if (cuda_coded::is_plain_along(w, 1)) {
    return cuda_coded::coded_product(b, x, cuda_coded::plain_rows_of(w), offsets, y, none{});
  }
  if (cuda_coded::is_plain_along(w, 2) &&
      cuda_coded::tensor_product(b, x, cuda_coded::plain_columns_of(w), offsets, y)) {
    return;
  }
  b.launch(cuda_grouped::product<X, W, O, Y>{x, w, {offsets, y.extent(0), cuda_gemm::tile}, y});
}

template <DeviceBackend B, class X, class DY, class O, class DW>
void grouped_gemm_weight_gradient_impl(const B& b, const X& x, const DY& dy, const O& offsets,
                                       const DW& dw) {
  if (cuda_tensor::run_weight_gradient(b, x, dy, offsets, dw)) return;
  b.launch(cuda_grouped::weight_gradient<X, DY, O, DW>{x, dy, offsets, dw});
}

template <DeviceBackend B, class Bias, class O, class Y>
void add_expert_bias_impl(const B& b, const Bias& bias, const O& offsets, const Y& y) {
  b.launch(cuda_grouped::biased<Bias, O, Y>{bias, {offsets, y.extent(0), 1}, y});
}

template <DeviceBackend B, class X, class O, class Y>
void add_expert_sums_impl(const B& b, const X& x, const O& offsets, const Y& out) {
  using Acc = accumulate_t<typename Y::value_type>;
  using Partial = view<Acc, typename B::space, dyn, dyn>;
  const row_tiles<O> tiles{offsets, x.extent(0), 64};
  const scope freed(b.workspace());
  const Partial partial = b.workspace().template make<Acc, dyn, dyn>(tiles.slots(), x.extent(1));
  b.launch(cuda_grouped::partial_sums<X, O, Partial>{x, tiles, partial});
  run_each_element(b, out.size(),
                   cuda_grouped::add_partials<O, Partial, Y>{offsets, tiles.tile, partial, out});
}

}  // namespace deepseek
