// SPDX-License-Identifier: Apache-2.0
// fp8_gemm by the vendor's library, where the context asks for it (fp8_products::tensor_cores) and
// the library offers it: rows become e4m3 codes with scales 1 x 128, weights stay as they are with
// their scales 128 x 128 (library_scales.hpp). Each block of 128 of k is summed on tensor cores,
// scaled, and added in float. What our kernel sums in float is there, on compute capability 9.0,
// kept to about 14 bits inside a block: see DeepSeek-V3 (2024), section 3.3.2, and docs/cuda.md.
// More than 32 rows; K and N multiples of 16. Unproven on hardware.
#pragma once

#include "deepseek/backend/cuda/library_parts.hpp"
#include "deepseek/backend/cuda/quantize_fp8.hpp"

namespace deepseek {

namespace cuda_fp8 {

static_assert(scaled_block == fp8_block);

// Scales of the rows, in the order of the library, for quantize.
struct placed_scales {
  float* data;
  row_parts parts;
  index_t depth;
  DEEPSEEK_HOST_DEVICE float& operator()(index_t row, index_t block) const {
    return data[parts.scale_at(depth, row, block)];
  }
};
// Rows that fill up the last part.
struct filled_rows {
  f8_e4m3* codes;
  placed_scales scales;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const index_t depth = scales.depth, row = scales.parts.rows + i / depth, k = i % depth;
    codes[row * depth + k] = f8_e4m3::from_bits(0);
    if (k % fp8_block == 0) scales(row, k / fp8_block) = 1.0F;
  }
};
// Scales of weights, [lines, blocks], with zeros behind each line.
struct padded_scales {
  const float* from;
  float* to;
  index_t blocks;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const index_t wide = whole_fours(blocks), line = i / wide, block = i % wide;
    to[i] = block < blocks ? from[line * blocks + block] : 0.0F;
  }
};
template <class Y, class Bias>
struct biased_store {
  Y y;
  Bias bias;
  template <class Sum>
  DEEPSEEK_HOST_DEVICE void operator()(index_t m, index_t n, Sum sum) const {
    if constexpr (!std::is_same_v<Bias, none>) sum += static_cast<float>(bias(n));
    y(m, n) = static_cast<typename Y::value_type>(sum);
  }
};

// What a product by the library has in the workspace.
template <class Sum>
struct library_rows {
  row_parts parts;
  index_t depth, outputs;
  f8_e4m3* codes = nullptr;              // [parts.stored(), depth]
  float* scales = nullptr;               // line_128 of each part
  const float* weight_scales = nullptr;  // block_128
  Sum* sums = nullptr;                   // of one part

  template <class S>
  library_product product(const fp8_operand<S>& w, index_t part) const {
    library_product p;
    p.m = whole_fours(parts.rows_of(part));
    p.n = outputs;
    p.k = depth;
    p.a = rows_along_k(codes + part * parts.each * depth, depth);
    p.a.scales = library_scales::line_128;
    p.a.scale = scales + parts.scales_before(part, depth);
    p.b = columns_along_k(w.q.data(), depth);
    p.b.scales = library_scales::block_128;
    p.b.scale = weight_scales;
    p.c = rows_along_k(sums, outputs);
    p.type = dtype::f8_e4m3;
    p.result = dtype_of<Sum>;
    return p;
  }
};

// Their blocks of a line begin at multiples of 16 bytes already.
template <class S>
bool scales_fit(const fp8_operand<S>& w) {
  return fp8_blocks_in(w.in()) % 4 == 0 && begins_at_packet(w.scale.data());
}

template <class Sum, class B, class S>
library_rows<Sum> rows_in_workspace(const B& b, index_t rows, const fp8_operand<S>& w) {
  library_rows<Sum> r{parts_of(rows, w.out(), sizeof(Sum)), w.in(), w.out()};
  auto& memory = b.workspace();
  const index_t stored = r.parts.stored(), most = stored < r.parts.each ? stored : r.parts.each;
  r.codes = memory.template make<f8_e4m3, dyn, dyn>(stored, r.depth).data();
  r.scales =
      memory.template make<float, dyn>(scale_count(library_scales::line_128, stored, r.depth))
          .data();
  r.sums = memory.template make<Sum, dyn, dyn>(most, r.outputs).data();
  r.weight_scales = w.scale.data();
  return r;
}

// Sums that are rounded once: those that a bias is added to are floats.
template <class Y, class Bias>
using library_sum_t = std::conditional_t<std::is_same_v<Bias, none>, typename Y::value_type, float>;

template <class B, class X, class S, class Y, class Bias>
bool run_library(const B& b, const X& x, const fp8_operand<S>& w, const Y& y, const Bias& bias) {
  using Sum = library_sum_t<Y, Bias>;
  const scope freed(b.workspace());
  library_rows<Sum> r = rows_in_workspace<Sum>(b, x.extent(0), w);
  const index_t wide = scale_count(library_scales::block_128, r.outputs, r.depth);
  float* const padded =
      scales_fit(w) ? nullptr : b.workspace().template make<float, dyn>(wide).data();
  if (padded != nullptr) r.weight_scales = padded;
  const auto product = [&](index_t part) { return r.product(w, part); };
  if (!library_offers_parts(b, r.parts, product)) return false;

  if (padded != nullptr) {
    const index_t blocks = fp8_blocks_in(r.depth);
    run_each_element(b, wide, padded_scales{w.scale.data(), padded, blocks});
  }
  const placed_scales scales{r.scales, r.parts, r.depth};
  const view<f8_e4m3, S, dyn, dyn> codes(r.codes, {r.parts.rows, r.depth});
  b.launch(quantize<X, view<f8_e4m3, S, dyn, dyn>, placed_scales>{{x, fp8_blocks_in(r.depth)},
                                                                  codes,
                                                                  scales,
                                                                  fp8_scales::any,
                                                                  checked::here,
                                                                  b.faults(),
                                                                  raise_not_finite});
  const index_t fillers = r.parts.stored() - r.parts.rows;
  if (fillers > 0) run_each_element(b, fillers * r.depth, filled_rows{r.codes, scales});
  for (index_t part = 0; part < r.parts.count(); ++part) {
    const index_t first = part * r.parts.each, count = r.parts.rows_of(part);
    run_offered(b, product(part));
    const auto to = rows(y, first, count);
    b.launch(finish_part{const_cast<const Sum*>(r.sums), count, r.outputs,
                         biased_store<std::remove_const_t<decltype(to)>, Bias>{to, bias},
                         b.faults()});
  }
  return true;
}

}  // namespace cuda_fp8

// False: the library offers nothing for these shapes and types, and nothing was done.
template <DeviceBackend B, class X, class S, class Y, class Bias>
bool fp8_product_by_library(const B& b, const X& x, const fp8_operand<S>& w, const Y& y,
                            const Bias& bias) {
  constexpr index_t few = 32;  // our kernel streams the weights once
  using T = typename Y::value_type;
  if constexpr (std::is_same_v<accumulate_t<T>, float>) {
    const bool whole = w.in() % 16 == 0 && w.out() % 16 == 0 && begins_at_packet(w.q.data());
    if (x.extent(0) <= few || w.in() == 0 || !whole) return false;
    return cuda_fp8::run_library(b, x, w, y, bias);
  } else {
    return false;
  }
}

}  // namespace deepseek
