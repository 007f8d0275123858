// SPDX-License-Identifier: Apache-2.0
// e2m1 codes with a power of two for 32 neighbours of a row: the nearest of the 16 numbers, at a
// tie the one whose code is even; of the two powers around amax / 6 the one with the smaller
// squared error, the larger where both are equal.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace oracle {

inline constexpr double e2m1_numbers[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};

inline int nearest_e2m1(double x) {
  int best = 0;
  for (int code = 1; code < 8; ++code) {
    const double old = std::fabs(std::fabs(x) - e2m1_numbers[best]);
    const double now = std::fabs(std::fabs(x) - e2m1_numbers[code]);
    if (now < old || (now == old && code % 2 == 0)) best = code;
  }
  return best + (std::signbit(x) ? 8 : 0);
}
inline double e2m1_number(int code) {
  return (code >= 8 ? -1 : 1) * e2m1_numbers[code % 8];
}

struct mxfp4_matrix {
  std::size_t columns = 0;
  std::vector<int> codes;
  std::vector<int> powers;  // [rows, blocks]

  std::size_t across() const { return (columns + 31) / 32; }
  double value(std::size_t i, std::size_t j) const {
    return std::ldexp(e2m1_number(codes[i * columns + j]), powers[i * across() + j / 32]);
  }
};

inline mxfp4_matrix quantize_mxfp4(const std::vector<float>& w, std::size_t columns) {
  mxfp4_matrix q{columns, std::vector<int>(w.size()), {}};
  for (std::size_t row = 0; columns > 0 && row < w.size(); row += columns) {
    for (std::size_t j = 0; j < columns; j += 32) {
      const std::size_t end = std::min(columns, j + 32);
      double amax = 0;
      for (std::size_t c = j; c < end; ++c) {
        amax = std::max(amax, std::fabs(static_cast<double>(w[row + c])));
      }
      int power = 0;
      if (amax > 0) {
        power = std::max(-127, static_cast<int>(std::ceil(std::log2(amax / 6))));
        const auto error = [&](int p) {
          double sum = 0;
          for (std::size_t c = j; c < end; ++c) {
            const double x = static_cast<double>(w[row + c]);
            const double d = std::ldexp(e2m1_number(nearest_e2m1(std::ldexp(x, -p))), p) - x;
            sum += d * d;
          }
          return sum;
        };
        if (power > -127 && error(power - 1) < error(power)) --power;
      }
      q.powers.push_back(power);
      for (std::size_t c = j; c < end; ++c) {
        q.codes[row + c] = nearest_e2m1(std::ldexp(static_cast<double>(w[row + c]), -power));
      }
    }
  }
  return q;
}

}  // namespace oracle
