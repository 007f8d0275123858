// SPDX-License-Identifier: Apache-2.0
// Rounding to a grid of equal steps and its gradients straight through, in double, written apart:
//   code = rne(x / s) + z;  y = (code cut to least .. most, - z) s
//   dx = dy where nothing was cut;  d log s = s sum dy (code - z - x / s, or the end - z)
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace oracle {

struct fake_case {
  int least, most, zero;
  std::size_t rows, columns, group;
  std::size_t groups() const { return (columns + group - 1) / group; }
};
struct fake_result {
  std::vector<double> y, dx, dlog_step;
};

// step [rows, groups], already rounded as it is stored.
inline fake_result fake_quantize(const fake_case& c, const std::vector<double>& x,
                                 const std::vector<double>& step, const std::vector<double>& dy) {
  fake_result out;
  out.dlog_step.resize(c.rows * c.groups());
  for (std::size_t r = 0; r < c.rows; ++r) {
    for (std::size_t j = 0; j < c.columns; ++j) {
      const std::size_t i = r * c.columns + j, at = r * c.groups() + j / c.group;
      const double v = x[i] / step[at], code = std::nearbyint(v) + c.zero;
      const double members = static_cast<double>(std::min(c.columns, (j / c.group + 1) * c.group) -
                                                 j / c.group * c.group);
      double slope = code - c.zero - v, seen = code - c.zero, through = 1;
      if (code < c.least || code > c.most) {
        seen = slope = (code < c.least ? c.least : c.most) - c.zero;
        through = 0;
      }
      out.y.push_back(seen * step[at]);
      out.dx.push_back(through * dy[i]);
      out.dlog_step[at] += dy[i] * slope * step[at] / std::sqrt(members * c.most);
    }
  }
  return out;
}

}  // namespace oracle
