// SPDX-License-Identifier: Apache-2.0
// quantize_fp8 on the device: a warp for each 128 neighbours of a row, in registers: one read for
// the amax and the codes. The op reads x once more before, since nothing is written where x holds
// NaN or an infinity; fp8_gemm asks that of its own y alone. See ops/fp8_gemm.hpp.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/ops/fp8_gemm.hpp"

#include <cmath>

namespace deepseek {

namespace cuda_fp8 {

inline void raise_not_finite(const fault& f) {
  fail(error_code::nonfinite, "quantize_fp8: x[", f.position / f.size, ", ", f.position % f.size,
       "] is ", f.number, "; e4m3 needs finite numbers, look for what made it in the layer before");
}

// A warp's share of one block of a row: elements lane, lane + 32 ...
inline constexpr int share = static_cast<int>(fp8_block) / warp_size;

template <class X>
struct block_of_row {
  X x;
  index_t blocks;  // of a row

  DEEPSEEK_HOST_DEVICE index_t items() const { return x.extent(0) * blocks; }
  struct values {
    index_t row, block, first;
    float x[share];
    bool finite;
    index_t bad;  // the element that is not
  };
  template <class Team>
  DEEPSEEK_HOST_DEVICE values load(const Team& team, index_t item) const {
    values v{item / blocks, item % blocks, item % blocks * fp8_block, {}, true, 0};
    for (int i = 0; i < share; ++i) {
      const index_t k = v.first + team.rank() + i * team.size();
      v.x[i] = k < x.extent(1) ? static_cast<float>(x(v.row, k)) : 0.0F;
      if (v.x[i] - v.x[i] == 0) continue;
      v.finite = false;
      v.bad = k;
    }
    return v;
  }
  DEEPSEEK_HOST_DEVICE fault fault_of(const values& v) const {
    fault f;
    f.position = v.row * x.extent(1) + v.bad;
    f.size = x.extent(1);
    f.number = static_cast<double>(static_cast<float>(x(v.row, v.bad)));
    return f;
  }
};

// Tells what cannot become codes.
template <class X>
struct check {
  static constexpr int threads = 256;
  block_of_row<X> from;
  fault_place faults;
  raiser raise;

  index_t blocks() const { return blocks_of(from.items(), threads / warp_size); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t item = block.index() * (threads / warp_size) + block.warp();
    if (item >= from.items()) return;
    const auto v = from.load(warp_team(block), item);
    if (v.finite) return;
    fault f = from.fault_of(v);
    f.raise = raise;
    faults.tell(block, f);
  }
};

// Codes are f8_e4m3, or bf16, which holds the numbers of all codes (what products read). x was
// checked before, and nothing is written where that found something; or it is told here.
enum class checked { here, before };
template <class X, class Q, class S>
struct quantize {
  static constexpr int threads = 256;
  using code = typename Q::value_type;
  block_of_row<X> from;
  Q codes;
  S scale;
  fp8_scales kind;
  checked when;
  fault_place faults;
  raiser raise;

  index_t blocks() const { return blocks_of(from.items(), threads / warp_size); }
  DEEPSEEK_HOST_DEVICE static code as_code(f8_e4m3 q) {
    if constexpr (std::is_same_v<code, f8_e4m3>) {
      return q;
    } else {
      return static_cast<code>(static_cast<float>(q));
    }
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t item = block.index() * (threads / warp_size) + block.warp();
    if (item >= from.items() || (when == checked::before && faults.found())) return;
    const warp_team team(block);
    const auto v = from.load(team, item);
    if (when == checked::here && !v.finite) {
      fault f = from.fault_of(v);
      f.raise = raise;
      faults.tell(block, f);
    }
    float amax = 0;
    for (int i = 0; i < share; ++i) amax = larger{}(std::fabs(v.x[i]), amax);
    const float s = fp8_scale_of(team.max(amax), kind);
    if (team.rank() == 0) scale(v.row, v.block) = s;
    for (int i = 0; i < share; ++i) {
      const index_t k = v.first + team.rank() + i * team.size();
      if (k < from.x.extent(1)) codes(v.row, k) = as_code(fp8_code(v.x[i], s));
    }
  }
};

template <class B, class X, class Q, class S>
quantize<X, Q, S> quantize_of(const B& b, const X& x, const Q& codes, const S& scale) {
  const block_of_row<X> from{x, scale.extent(1)};
  return {from, codes, scale, fp8_scales::any, checked::here, b.faults(), raise_not_finite};
}

}  // namespace cuda_fp8

template <DeviceBackend B, class X, class Rows>
void quantize_fp8_impl(const B& b, const X& x, const Rows& out, fp8_scales kind) {
  b.launch(cuda_fp8::check<X>{{x, out.scale.extent(1)}, b.faults(), cuda_fp8::raise_not_finite});
  auto kernel = cuda_fp8::quantize_of(b, x, out.codes, out.scale);
  kernel.kind = kind;
  kernel.when = cuda_fp8::checked::before;
  b.launch(kernel);
}

}  // namespace deepseek
