// SPDX-License-Identifier: Apache-2.0
// quant_gemm and grouped_quant_gemm on the device: rows become bytes (quantize_int8.hpp), kept as
// code - 128 so that both factors are signed, then products that are exact in 32 bits, so that any
// order gives the same bits:
//   few_rows  up to 8 rows of an expert: 32 outputs a block, its warps share k, weights are read
//             once, a warp 128 bytes at a time; four products an instruction (dot4)
//   tiles     more rows: tensor cores (int8_tiles.hpp)
//   from 1024 rows of one expert the vendor's library, where it offers that (int8_library.hpp)
// Errors of the rows are told to the context, and y stays untouched. See ops/quant_gemm.hpp. Speed
// on hardware is unproven.
#pragma once

#include "deepseek/backend/cuda/block_place.hpp"
#include "deepseek/backend/cuda/int8_library.hpp"
#include "deepseek/backend/cuda/int8_tiles.hpp"
#include "deepseek/backend/cuda/quantize_int8.hpp"

#include <cmath>

namespace deepseek {

// sum + the four products of signed bytes.
DEEPSEEK_HOST_DEVICE inline std::int32_t dot4(std::uint32_t x, std::uint32_t w, std::int32_t sum) {
#if defined(__CUDA_ARCH__)
  asm("dp4a.s32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(x), "r"(w));
#else
  for (int i = 0; i < 32; i += 8) {
    sum += static_cast<std::int8_t>(x >> i) * static_cast<std::int8_t>(w >> i);
  }
#endif
  return sum;
}

namespace cuda_int8 {

template <class Y, class Bias, class Offsets>
struct problem {
  using A = accumulate_t<typename Y::value_type>;
  byte_rows x;
  const std::int8_t* q;  // [experts, layout.size()]
  const float* scale;    // [experts, n]
  const std::int32_t* sum;
  int8_layout at;
  Y y;
  Bias bias;        // null data: none
  Offsets offsets;  // of the experts' rows; [0]: one has all
  fault_place faults;

  DEEPSEEK_HOST_DEVICE row_tiles<Offsets> cut(index_t tile) const {
    return {offsets, y.extent(0), tile};
  }
  DEEPSEEK_HOST_DEVICE index_t groups() const { return at.depth() / int8_layout::group; }
  DEEPSEEK_HOST_DEVICE static std::uint32_t word_at(const void* from) {
    std::uint32_t word;
    __builtin_memcpy(&word, __builtin_assume_aligned(from, sizeof word), sizeof word);
    return word;
  }
  DEEPSEEK_HOST_DEVICE void store(index_t e, index_t m, index_t n, std::int32_t dots) const {
    const int8_range r = x.range(m);
    const std::int64_t total =
        std::int64_t{dots} + std::int64_t{code_middle - r.zero} * sum[e * at.n + n];
    A add = 0;
    if (bias.data() != nullptr) add = static_cast<A>(bias(n));
    const A by = static_cast<A>(r.scale) * static_cast<A>(scale[e * at.n + n]);
    y(m, n) = static_cast<typename Y::value_type>(std::fma(static_cast<A>(total), by, add));
  }
};

template <class P, int Rows>
struct few_rows {
  static constexpr int threads = 256, warps = threads / warp_size;
  static constexpr int quad = 4;  // groups that a packet of codes covers
  static_assert(int8_layout::panel == warp_size && Rows * warp_size <= threads);
  P p;

  index_t blocks() const { return p.cut(Rows).slots() * blocks_of(p.at.n, int8_layout::panel); }
  static std::size_t shared_bytes() { return warps * Rows * warp_size * sizeof(std::int32_t); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if (p.faults.found()) return;
    const block_place place(block, p.cut(Rows).slots());
    const row_tile at = p.cut(Rows).find(block, place.slot);
    if (at.empty()) return;
    const index_t n0 = place.across * int8_layout::panel;
    std::int32_t dots[Rows] = {};
    add_quads(block, at, n0, dots);
    std::int32_t* const parts = reinterpret_cast<std::int32_t*>(block.shared());
    unrolled<Rows>(
        [&](int r) { parts[(block.warp() * Rows + r) * warp_size + block.lane()] = dots[r]; });
    block.sync();
    const index_t m = at.first + block.warp(), n = n0 + block.lane();
    if (block.warp() >= Rows || m >= at.end || n >= p.at.n) return;
    std::int32_t total = 0;
    for (int w = 0; w < warps; ++w) {
      total += parts[(w * Rows + block.warp()) * warp_size + block.lane()];
    }
    p.store(at.group, m, n, total);
  }

  // Sums of this lane's column over the quads of its warp; rows that are missing repeat the last.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void add_quads(const Block& block, const row_tile& at, index_t n0,
                                      std::int32_t (&dots)[Rows]) const {
    const index_t groups = p.groups(), width = p.at.panel_width(n0);
    const int column = block.lane() < width ? block.lane() : static_cast<int>(width) - 1;
    const std::int8_t* const panel = p.q + at.group * p.at.size() + p.at.at(n0 + column, 0);
    for (index_t g = index_t{block.warp()} * quad; g < groups; g += warps * quad) {
      std::uint32_t w[quad];
      for (int i = 0; i < quad; ++i) {
        w[i] = g + i < groups ? p.word_at(panel + (g + i) * p.at.group_step(n0)) : 0U;
      }
      unrolled<Rows>([&](int r) {
        const index_t m = at.first + r < at.end ? at.first + r : at.end - 1;
        const packet x = load_packet(p.x.codes + m * p.x.pitch + g * int8_layout::group, true);
        for (int i = 0; i < quad; ++i) dots[r] = dot4(x.word[i], w[i], dots[r]);
      });
    }
  }
};

template <class B, class P>
void run_product(const B& b, const P& p) {
  const index_t rows = p.y.extent(0), experts = p.cut(1).groups();
  const bool one = p.offsets.extent(0) == 0;
  if (one && product_by_library(b, p)) return;
  if (rows > (one ? 32 : 8 * experts)) {
    b.launch(tiles<P>{p});
  } else if (rows <= experts) {
    b.launch(few_rows<P, 1>{p});
  } else if (rows <= 4 * experts) {
    b.launch(few_rows<P, 4>{p});
  } else {
    b.launch(few_rows<P, 8>{p});
  }
}

template <class B, class X, class Y, class Bias>
void product(const B& b, const X& x, const int8_operand<typename B::space>& w,
             const offsets_view<B>& offsets, const Y& y, const Bias& bias) {
  using S = typename B::space;
  using y_view = view<typename Y::value_type, S, dyn, dyn>;
  const scope freed(b.workspace());
  const byte_rows codes = quantized_rows(b, x, w, offsets);
  const auto run = [&](const auto& add) {
    run_product(b, problem<y_view, std::remove_cvref_t<decltype(add)>, offsets_view<B>>{
                       codes, w.q.data(), w.scale.data(), w.sum.data(), w.layout(), y, add, offsets,
                       b.faults()});
  };
  if constexpr (std::is_same_v<Bias, none>) {
    run(view<const typename Y::value_type, S, dyn>{});
  } else {
    run(view<const typename Bias::value_type, S, dyn>(bias));
  }
}

}  // namespace cuda_int8

template <DeviceBackend B, class X, class Y, class Bias>
void quant_gemm_impl(const B& b, const X& x, const int8_operand<typename B::space>& w, const Y& y,
                     const Bias& bias) {
  cuda_int8::product(b, x, w, {}, y, bias);
}

template <DeviceBackend B, class X, class O, class Y>
void grouped_quant_gemm_impl(const B& b, const X& x, const int8_operand<typename B::space>& w,
                             const O& offsets, const Y& y) {
  cuda_int8::product(b, x, w, offsets, y, none{});
}

}  // namespace deepseek
