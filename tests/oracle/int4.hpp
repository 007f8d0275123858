// SPDX-License-Identifier: Apache-2.0
// 4-bit groups: s = (high - low) / 15 rounded to bf16 (0 -> 1), z = clamp(rne(-low / s), 0, 15),
// q = clamp(rne(w / s) + z, 0, 15), weight (q - z) s; zero is inside every range. Quotients in
// float.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <vector>

namespace oracle {

// To 8 significant bits, ties to even; x is a finite float.
inline float to_bf16(float x) {
  int exponent = 0;
  const double fraction = std::frexp(static_cast<double>(x), &exponent);
  const int lowest = std::max(exponent - 8, -133);
  return static_cast<float>(
      std::ldexp(std::nearbyint(std::ldexp(fraction, exponent - lowest)), lowest));
}

struct int4_matrix {
  std::size_t columns = 0, group = 32;
  std::vector<int> codes;
  std::vector<float> scales;  // [rows, groups]
  std::vector<int> zeros;

  std::size_t across() const { return (columns + group - 1) / group; }
  double value(std::size_t i, std::size_t j) const {
    const std::size_t at = i * across() + j / group;
    return (codes[i * columns + j] - zeros[at]) * static_cast<double>(scales[at]);
  }
};

inline int4_matrix quantize_int4(const std::vector<float>& w, std::size_t columns,
                                 std::size_t group) {
  int4_matrix q{columns, group, std::vector<int>(w.size()), {}, {}};
  for (std::size_t row = 0; columns > 0 && row < w.size(); row += columns) {
    for (std::size_t j = 0; j < columns; j += group) {
      float low = 0, high = 0;
      const std::size_t end = std::min(columns, j + group);
      for (std::size_t c = j; c < end; ++c) {
        low = std::min(low, w[row + c]);
        high = std::max(high, w[row + c]);
      }
      float scale = to_bf16(high / 15.0F - low / 15.0F);
      float zero = 0;
      if (scale > 0) {
        zero = std::clamp(std::nearbyint(-low / scale), 0.0F, 15.0F);
      } else {
        scale = 1;
      }
      q.scales.push_back(scale);
      q.zeros.push_back(static_cast<int>(zero));
      for (std::size_t c = j; c < end; ++c) {
        const float code = std::nearbyint(w[row + c] / scale) + zero;
        q.codes[row + c] = static_cast<int>(std::clamp(code, 0.0F, 15.0F));
      }
    }
  }
  return q;
}

}  // namespace oracle
