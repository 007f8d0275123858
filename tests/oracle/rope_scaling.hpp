// SPDX-License-Identifier: Apache-2.0
// Tables of scaled rotary frequencies, one function a rule, by wavelengths and whole tables.
//   yarn: corr(n) = d ln(L0 / (2 pi n)) / (2 ln base), the ramp from floor(corr(fast)) (at least 0)
//   to ceil(corr(slow)) (at most d - 1), equal ends pushed apart by 0.001.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace oracle {

using frequency_table = std::vector<double>;

inline frequency_table rope_table(double base, std::size_t d) {
  frequency_table f;
  for (std::size_t i = 0; i < d / 2; ++i) {
    f.push_back(std::exp(-std::log(base) * 2 * static_cast<double>(i) / static_cast<double>(d)));
  }
  return f;
}

inline frequency_table linear_table(double base, std::size_t d, double s) {
  frequency_table f = rope_table(base, d);
  for (double& x : f) x *= 1 / s;
  return f;
}

inline frequency_table ntk_table(double base, std::size_t d, double s, double ratio) {
  const double n = static_cast<double>(d);
  return rope_table(ratio <= 1 ? base : base * std::pow(s * ratio - s + 1, n / (n - 2)), d);
}

struct llama3_rule {
  double s, low, high, original;
};
inline frequency_table llama3_table(double base, std::size_t d, const llama3_rule& r) {
  frequency_table f = rope_table(base, d);
  for (double& x : f) {
    const double wavelength = 2 * 3.14159265358979323846 / x;
    if (wavelength > r.original / r.low) {
      x /= r.s;
    } else if (wavelength >= r.original / r.high) {
      const double smooth = (r.original / wavelength - r.low) / (r.high - r.low);
      x = (1 - smooth) * x / r.s + smooth * x;
    }
  }
  return f;
}

struct yarn_rule {
  double s, fast, slow, original;
};
inline double yarn_corr(double base, std::size_t d, double original, double turns) {
  return static_cast<double>(d) / 2 * std::log(original / (2 * 3.14159265358979323846 * turns)) /
         std::log(base);
}
inline frequency_table yarn_table(double base, std::size_t d, const yarn_rule& r) {
  double low = std::max(std::floor(yarn_corr(base, d, r.original, r.fast)), 0.0);
  double high =
      std::min(std::ceil(yarn_corr(base, d, r.original, r.slow)), static_cast<double>(d) - 1);
  if (low == high) high += 0.001;
  frequency_table f = rope_table(base, d);
  for (std::size_t i = 0; i < f.size(); ++i) {
    const double keep = 1 - std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    f[i] = f[i] / r.s * (1 - keep) + f[i] * keep;
  }
  return f;
}

}  // namespace oracle
