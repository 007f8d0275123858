// SPDX-License-Identifier: Apache-2.0
// e4m3 by its table of values and a search for the nearest; blocks of weights and rows of
// activations with their scales, in float as the formulas say.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace oracle {

// Of a code below 0x7f, from its definition.
inline double e4m3_value(int code) {
  const int exponent = code / 8, fraction = code % 8;
  return exponent == 0 ? fraction * std::ldexp(1.0, -9)
                       : (1 + fraction / 8.0) * std::ldexp(1.0, exponent - 7);
}

// The nearest of the 127 finite magnitudes, the even code of two, the largest beyond.
inline std::uint8_t e4m3_code(double x) {
  if (std::isnan(x)) return std::signbit(x) ? 0xff : 0x7f;
  static const std::vector<double> values = [] {
    std::vector<double> of_codes;
    for (int code = 0; code < 0x7f; ++code) of_codes.push_back(e4m3_value(code));
    return of_codes;
  }();
  const double size = std::fabs(x);
  std::size_t best = 0;
  for (std::size_t code = 1; code < values.size(); ++code) {
    const double now = std::fabs(values[code] - size), old = std::fabs(values[best] - size);
    if (now < old || (now == old && code % 2 == 0)) best = code;
  }
  return static_cast<std::uint8_t>(best + (std::signbit(x) ? 0x80U : 0U));
}

inline double e4m3_number(std::uint8_t code) {
  if (code % 128 == 127) return std::nan("");
  return code < 128 ? e4m3_value(code) : -e4m3_value(code - 128);
}

// amax -> scale; by powers of two: the smallest 2^n >= scale.
inline float fp8_scale(float amax, bool powers_of_two) {
  const float scale = std::max(amax, 1e-4F) / 448.0F;
  if (!powers_of_two) return scale;
  int n = -160;
  while (std::ldexp(1.0, n) < static_cast<double>(scale)) ++n;
  return static_cast<float>(std::ldexp(1.0, n));
}

struct fp8_matrix {
  std::size_t rows = 0, columns = 0, block_rows = 1;  // a block is block_rows x 128
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;

  std::size_t across() const { return (columns + 127) / 128; }
  double scale(std::size_t i, std::size_t j) const {
    return static_cast<double>(scales[i / block_rows * across() + j / 128]);
  }
  // As a number; the product with the scale is rounded once to float.
  double value(std::size_t i, std::size_t j) const {
    return static_cast<double>(
        static_cast<float>(e4m3_number(codes[i * columns + j]) * scale(i, j)));
  }
};

// block_rows: 128 for weights, 1 for activations.
inline fp8_matrix quantize_fp8(const std::vector<float>& w, std::size_t columns,
                               std::size_t block_rows, bool powers_of_two = false) {
  fp8_matrix q{columns == 0 ? 0 : w.size() / columns, columns, block_rows, {}, {}};
  for (std::size_t i = 0; i < q.rows; i += block_rows) {
    for (std::size_t j = 0; j < columns; j += 128) {
      float amax = 0;
      for (std::size_t r = i; r < std::min(q.rows, i + block_rows); ++r) {
        for (std::size_t c = j; c < std::min(columns, j + 128); ++c) {
          amax = std::max(amax, std::fabs(w[r * columns + c]));
        }
      }
      q.scales.push_back(fp8_scale(amax, powers_of_two));
    }
  }
  for (std::size_t at = 0; at < w.size(); ++at) {
    const auto scale = static_cast<float>(q.scale(at / columns, at % columns));
    const float quotient = w[at] / scale;
    q.codes.push_back(e4m3_code(static_cast<double>(quotient)));
  }
  return q;
}

}  // namespace oracle
