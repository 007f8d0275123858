// SPDX-License-Identifier: Apache-2.0
// The int8 linear layer: weights symmetric per output channel, activations uint8 asymmetric per
// tensor.
//   weights: s_n = max|w_n|/127 (0 -> 1), q = clamp(rne(w/s), -127, 127)
//   activations: lo = min(0, min), hi = max(0, max), s = (hi-lo)/255 (0 -> 1), z =
//   clamp(rne(-lo/s), 0, 255),
//                q = clamp(rne(x/s) + z, 0, 255)
//   y = s s_n (sum qx qw - z sum qw) + bias
// Real is the type in which scales and quotients are computed: float for codes bit-equal to a float
// quantizer.
#pragma once

#include "oracle/gemm.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace oracle {

template <class Real>
struct int8_weights {
  std::vector<std::int8_t> codes;  // [out, in]
  std::vector<Real> scales;        // [out]
};

template <class Real>
int8_weights<Real> quantize_weights(const std::vector<Real>& w, std::size_t in) {
  int8_weights<Real> q;
  for (std::size_t row = 0; row < w.size(); row += in) {
    Real largest = 0;
    for (std::size_t i = 0; i < in; ++i) largest = std::max(largest, std::fabs(w[row + i]));
    const Real scale = largest == 0 ? Real(1) : largest / Real(127);
    q.scales.push_back(scale);
    for (std::size_t i = 0; i < in; ++i) {
      const Real code = std::nearbyint(w[row + i] / scale);
      q.codes.push_back(static_cast<std::int8_t>(std::clamp(code, Real(-127), Real(127))));
    }
  }
  return q;
}

template <class Real>
struct uint8_range {
  Real scale = 1;
  int zero = 0;
};

template <class Real>
uint8_range<Real> range_of(const std::vector<Real>& x) {
  Real low = 0, high = 0;
  for (Real e : x) {
    low = std::min(low, e);
    high = std::max(high, e);
  }
  if (low == high) return {};
  const Real scale = (high - low) / Real(255);
  return {scale, static_cast<int>(std::clamp(std::nearbyint(-low / scale), Real(0), Real(255)))};
}

template <class Real>
std::vector<std::uint8_t> quantize_activations(const std::vector<Real>& x,
                                               const uint8_range<Real>& range) {
  std::vector<std::uint8_t> codes;
  for (Real e : x) {
    const Real code = std::nearbyint(e / range.scale) + static_cast<Real>(range.zero);
    codes.push_back(static_cast<std::uint8_t>(std::clamp(code, Real(0), Real(255))));
  }
  return codes;
}

// sum_k qx qw, exact; [rows, out].
inline std::vector<std::int64_t> integer_products(const std::vector<std::uint8_t>& x,
                                                  const std::vector<std::int8_t>& w,
                                                  const linear_shape& s) {
  std::vector<std::int64_t> y(s.rows * s.out);
  for (std::size_t t = 0; t < s.rows; ++t) {
    for (std::size_t o = 0; o < s.out; ++o) {
      for (std::size_t i = 0; i < s.in; ++i) {
        y[t * s.out + o] += std::int64_t{x.at(t * s.in + i)} * w.at(o * s.in + i);
      }
    }
  }
  return y;
}

template <class Real>
std::vector<double> int8_linear(const std::vector<std::uint8_t>& x, const uint8_range<Real>& range,
                                const int8_weights<Real>& w, const std::vector<double>& bias,
                                const linear_shape& s) {
  const std::vector<std::int64_t> products = integer_products(x, w.codes, s);
  std::vector<double> y;
  for (std::size_t t = 0; t < s.rows; ++t) {
    for (std::size_t o = 0; o < s.out; ++o) {
      std::int64_t sum = 0;
      for (std::size_t i = 0; i < s.in; ++i) sum += w.codes[o * s.in + i];
      const std::int64_t corrected = products[t * s.out + o] - range.zero * sum;
      const double scale = static_cast<double>(range.scale) * static_cast<double>(w.scales[o]);
      y.push_back(scale * static_cast<double>(corrected) + (bias.empty() ? 0 : bias.at(o)));
    }
  }
  return y;
}

}  // namespace oracle
