// SPDX-License-Identifier: Apache-2.0
// The row body of rope (formula in ops/rope.hpp): one token, all its heads, shared by reference and
// cuda. The angle and its sine and cosine are computed once for each pair, in double.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/team.hpp"
#include "deepseek/core/view.hpp"
#include "deepseek/ops/rope.hpp"

#include <cmath>

namespace deepseek {

// Where the two elements of pair i lie in a head.
struct rope_pair {
  index_t a, b;
};
DEEPSEEK_HOST_DEVICE inline rope_pair rope_pair_at(const rope_spec& spec, index_t i) {
  if (spec.layout == rope_layout::half) return {spec.first + i, spec.first + i + spec.count / 2};
  return {spec.first + 2 * i, spec.first + 2 * i + 1};
}

DEEPSEEK_HOST_DEVICE inline double rope_frequency(const rope_spec& spec, index_t i) {
  const double turn = spec.turn == rope_turn::forward ? 1.0 : -1.0;
  return turn * scaled_frequency(spec.scaling, {spec.theta, spec.count, spec.length}, i);
}

// x[heads, dim] y[heads, dim]: the views of one token; y may be x.
template <class Team, class X, class Y>
DEEPSEEK_HOST_DEVICE void rope_row(const Team& team, const X& x, std::int32_t position, const Y& y,
                                   const rope_spec& spec) {
  using out = typename Y::value_type;
  using sum = accumulate_t<out>;
  const index_t heads = x.extent(0), dim = x.extent(1), pairs = spec.count / 2;
  const double amplitude = rope_amplitude(spec.scaling);
  for (index_t i = team.rank(); i < pairs; i += team.size()) {
    const double angle = static_cast<double>(position) * rope_frequency(spec, i);
    const sum c = static_cast<sum>(amplitude * std::cos(angle));
    const sum s = static_cast<sum>(amplitude * std::sin(angle));
    const rope_pair at = rope_pair_at(spec, i);
    for (index_t h = 0; h < heads; ++h) {
      const sum a = static_cast<sum>(x(h, at.a)), b = static_cast<sum>(x(h, at.b));
      y(h, at.a) = static_cast<out>(a * c - b * s);
      y(h, at.b) = static_cast<out>(a * s + b * c);
    }
  }
  for (index_t i = team.rank(); i < dim; i += team.size()) {
    if (i >= spec.first && i < spec.first + spec.count) continue;
    for (index_t h = 0; h < heads; ++h) y(h, i) = static_cast<out>(static_cast<sum>(x(h, i)));
  }
}

}  // namespace deepseek
