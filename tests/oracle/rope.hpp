// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding of x[tokens, heads, dim], over the whole (even) dim.
//   angle of pair i at position p: p base^(-2i/dim); (a, b) -> (a cos - b sin, a sin + b cos)
//   interleaved: pair i is (x[2i], x[2i+1]); half: (x[i], x[i + dim/2]). direction -1 rotates back
//   (the gradient). `frequencies`, where given, stand for base^(-2i/dim); cos and sin are
//   multiplied by `amplitude`.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace oracle {

enum class pairing { interleaved, half };

struct rope_shape {
  std::size_t heads = 1, dim = 0;
  pairing layout = pairing::interleaved;
  double base = 10000;
  double direction = 1;
  std::vector<double> frequencies = {};
  double amplitude = 1;
};

inline std::vector<double> rope(std::vector<double> x, const std::vector<std::int64_t>& positions,
                                const rope_shape& s) {
  for (std::size_t t = 0; t < positions.size(); ++t) {
    for (std::size_t h = 0; h < s.heads; ++h) {
      for (std::size_t i = 0; i < s.dim / 2; ++i) {
        const std::size_t row = (t * s.heads + h) * s.dim;
        const bool neighbours = s.layout == pairing::interleaved;
        double& a = x.at(row + (neighbours ? 2 * i : i));
        double& b = x.at(row + (neighbours ? 2 * i + 1 : i + s.dim / 2));
        const double power = -2 * static_cast<double>(i) / static_cast<double>(s.dim);
        const double frequency =
            s.frequencies.empty() ? std::pow(s.base, power) : s.frequencies.at(i);
        const double angle = s.direction * static_cast<double>(positions[t]) * frequency;
        const double cosine = s.amplitude * std::cos(angle), sine = s.amplitude * std::sin(angle);
        const double old_a = a, old_b = b;
        a = old_a * cosine - old_b * sine;
        b = old_a * sine + old_b * cosine;
      }
    }
  }
  return x;
}

}  // namespace oracle
