// SPDX-License-Identifier: Apache-2.0
// The codes of one output channel in signed 8-bit integers, symmetric about zero:
//   s = max |w| / 127 (0 -> 1), q = clamp(rne(w / s), -127, 127).
#pragma once

#include "deepseek/core/space.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>

namespace deepseek {

template <class A>
std::int8_t int8_weight_code(A w, float scale) {
  const A code = std::nearbyint(w / static_cast<A>(scale));
  return static_cast<std::int8_t>(std::clamp(code, A(-127), A(127)));
}

// Matrices that are such codes already: code(n, k) and one step(n) for a channel.
template <class M>
concept Int8Source = requires(const M& m, index_t i) {
  requires M::holds_int8;
  { m.code(i, i) } -> std::convertible_to<std::int32_t>;
  { m.step(i) } -> std::convertible_to<double>;
};

// Hands out put(k, code) and writes the scale; returns the sum of the codes. A: the type of the
// computation.
template <class A, class M>
std::int32_t make_int8_channel(const M& from, index_t n, float& scale, const auto& put) {
  std::int32_t sum = 0;
  const auto take = [&](index_t k, std::int8_t q) { put(k, q), sum += q; };
  if constexpr (Int8Source<M>) {
    scale = static_cast<float>(from.step(n));
    for (index_t k = 0; k < from.extent(1); ++k) {
      take(k, static_cast<std::int8_t>(from.code(n, k)));
    }
  } else {
    A largest = 0;
    for (index_t k = 0; k < from.extent(1); ++k) {
      largest = std::max(largest, std::abs(static_cast<A>(from(n, k))));
    }
    scale = static_cast<float>(largest / A(127));
    if (!(scale > 0)) scale = 1;
    for (index_t k = 0; k < from.extent(1); ++k) {
      take(k, int8_weight_code(static_cast<A>(from(n, k)), scale));
    }
  }
  return sum;
}

}  // namespace deepseek
