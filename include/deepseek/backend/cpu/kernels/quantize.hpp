// SPDX-License-Identifier: Apache-2.0
// Rows of float to unsigned bytes: q = clamp(round(x / scale) + zero, 0, 255), ties to even,
// infinities saturate. A NaN makes the result false and its byte `zero`; the caller decides what
// that means. Lanes are independent: a row gives the same bytes wherever it lies.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "deepseek/backend/cpu/simd_narrow.hpp"

namespace deepseek::kernels {

enum class values { numbers, some_nan };

struct value_range {
  float least = std::numeric_limits<float>::infinity(),
        most = -std::numeric_limits<float>::infinity();
  values kind = values::numbers;
};

inline bool some_lane(simd::vector<std::int32_t> lanes) {
  std::int32_t all = 0;
  for (int lane = 0; lane < simd::pack<float>::width; ++lane) all |= lanes[lane];
  return all != 0;
}

// Smallest and largest of x[0 .. n - 1]; infinities count, NaN is reported and otherwise passed
// over.
inline value_range range_of(const float* x, std::ptrdiff_t n) {
  using pack = simd::pack<float>;
  value_range r;
  pack least = pack::broadcast(r.least), most = pack::broadcast(r.most);
  simd::vector<std::int32_t> unordered{};
  std::ptrdiff_t i = 0;
  for (; i + pack::width <= n; i += pack::width) {
    const pack v = pack::load(x + i);
    least = simd::min(v, least), most = simd::max(v, most);
    unordered |= v.v != v.v;
  }
  r.least = -simd::reduce_max(-least), r.most = simd::reduce_max(most);
  int nan = some_lane(unordered) ? 1 : 0;
  const int rest = static_cast<int>(std::clamp<std::ptrdiff_t>(n - i, 0, pack::width - 1));
  for (int j = 0; j < rest; ++j) {
    const float v = x[i + j];
    nan |= std::isnan(v) ? 1 : 0;
    r.least = v < r.least ? v : r.least, r.most = v > r.most ? v : r.most;
  }
  if (nan != 0) r.kind = values::some_nan;
  return r;
}

struct quantization {
  float scale;        // > 0
  std::int32_t zero;  // 0 .. 255
};

// A division takes longer than all the rest: x times 1 / scale is less than 2^-12 away from the
// rounded quotient for numbers below 512, so that only numbers near a tie need the quotient itself.
struct quotients {
  static constexpr float bound = 512;  // beyond it the byte is saturated whatever zero is
  simd::pack<float> scale, inverse;
  bool inexact;  // 1 / scale has lost precision: always divide

  explicit quotients(float s)
      : scale(simd::pack<float>::broadcast(s)),
        inverse(simd::pack<float>::broadcast(1 / s)),
        inexact(!(s > 0x1p-120F && s < 0x1p120F)) {}

  // rne(x / scale) within +-bound; x is not NaN.
  DEEPSEEK_INLINE simd::pack<float> rounded(simd::pack<float> x) const {
    const auto near = within(x * inverse), nearest = simd::round(near);
    const auto off = simd::abs(near - nearest);
    const auto tie = simd::pack<float>::broadcast(0.5F - 0x1p-12F);
    if (!inexact && !simd::some_above(off, tie)) return nearest;
    return simd::round(within(x / scale));
  }

 private:
  static DEEPSEEK_INLINE simd::pack<float> within(simd::pack<float> x) {
    using pack = simd::pack<float>;
    return simd::max(pack::broadcast(-bound), simd::min(pack::broadcast(bound), x));
  }
};

// out has at least n bytes; callers that need whole groups of four fill up the rest with anything.
inline values quantize_row(const float* x, std::ptrdiff_t n, quantization q, std::uint8_t* out) {
  using pack = simd::pack<float>;
  constexpr int width = pack::width;
  const pack zero = pack::broadcast(static_cast<float>(q.zero));
  const pack least = pack::zero(), most = pack::broadcast(255.0F);
  const quotients by(q.scale);
  simd::vector<std::int32_t> unordered{};
  for (std::ptrdiff_t i = 0; i < n; i += width) {
    pack v = pack::load_up_to(x + i, n - i);
    const simd::vector<std::int32_t> nan = v.v != v.v;
    unordered |= nan;
    v = by.rounded({nan ? least.v : v.v}) + zero;
    v = simd::max(least, simd::min(most, v));
    const auto words = __builtin_convertvector(v.v, simd::vector<std::int32_t>);
    const auto bytes = __builtin_convertvector(words, simd::vector<std::uint8_t, width>);
    if (n - i >= width) {
      __builtin_memcpy(out + i, &bytes, width);
    } else {
      __builtin_memcpy(out + i, &bytes, static_cast<std::size_t>(n - i));
    }
  }
  return some_lane(unordered) ? values::some_nan : values::numbers;
}

// Signed: q = clamp(round(x / scale), -127, 127) of finite numbers, ties to even.
inline void quantize_signed_row(const float* x, std::ptrdiff_t n, float scale, std::int8_t* out) {
  using pack = simd::pack<float>;
  constexpr int width = pack::width;
  const pack least = pack::broadcast(-127.0F), most = pack::broadcast(127.0F);
  const quotients by(scale);
  for (std::ptrdiff_t i = 0; i < n; i += width) {
    const pack q = by.rounded(pack::load_up_to(x + i, n - i));
    const pack v = simd::max(least, simd::min(most, q));
    const auto words = __builtin_convertvector(v.v, simd::vector<std::int32_t>);
    const auto bytes = __builtin_convertvector(words, simd::vector<std::int8_t, width>);
    if (n - i >= width) {
      __builtin_memcpy(out + i, &bytes, width);
    } else {
      __builtin_memcpy(out + i, &bytes, static_cast<std::size_t>(n - i));
    }
  }
}

// Exact below 2^24.
inline float sum_of_bytes(const std::int8_t* x, std::ptrdiff_t n) {
  std::int32_t sum = 0;
  for (std::ptrdiff_t i = 0; i < n; ++i) sum += x[i];
  return static_cast<float>(sum);
}

// Of each 8 bytes the even ones first, then the odd ones; n is a multiple of 8.
inline void deal_bytes(std::int8_t* x, std::ptrdiff_t n) {
  using bytes = simd::vector<std::int8_t, 16>;
  std::ptrdiff_t i = 0;
  for (; i + 16 <= n; i += 16) {
    bytes b;
    __builtin_memcpy(&b, x + i, 16);
    b = __builtin_shufflevector(b, b, 0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    __builtin_memcpy(x + i, &b, 16);
  }
  if (i < n) {
    std::int8_t b[8];
    __builtin_memcpy(b, x + i, 8);
    for (int j = 0; j < 8; ++j) x[i + j] = b[j < 4 ? 2 * j : 2 * j - 7];
  }
}

}  // namespace deepseek::kernels
