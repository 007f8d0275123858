// SPDX-License-Identifier: Apache-2.0
// One entry for each complete window of m tokens of one sequence, channel by channel:
//   y = sum_j softmax_j(gate_j + ape_{j mod m}) kv_j
// kv, gate [tokens, width], ape [m, width], width = dim, or 2 dim where windows overlap: then the
// window before takes part with its columns 0 .. dim - 1, the window itself with dim .. 2 dim - 1.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace oracle {

struct compress_shape {
  std::size_t ratio = 1, dim = 1;
  bool overlapped = false;
};

inline std::vector<double> compress(const std::vector<double>& kv, const std::vector<double>& gate,
                                    const std::vector<double>& ape, const compress_shape& s) {
  const std::size_t width = (s.overlapped ? 2 : 1) * s.dim, tokens = kv.size() / width;
  std::vector<double> y;
  for (std::size_t begin = 0; begin + s.ratio <= tokens; begin += s.ratio) {
    for (std::size_t c = 0; c < s.dim; ++c) {
      double above = 0, below = 0;
      const auto add = [&](std::size_t token, std::size_t column) {
        const double z = gate[token * width + column] + ape[token % s.ratio * width + column];
        above += std::exp(z) * kv[token * width + column];
        below += std::exp(z);
      };
      for (std::size_t j = 0; j < s.ratio; ++j) {
        if (s.overlapped && begin > 0) add(begin - s.ratio + j, c);
        add(begin + j, s.overlapped ? s.dim + c : c);
      }
      y.push_back(above / below);
    }
  }
  return y;
}

}  // namespace oracle
