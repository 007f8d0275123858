// SPDX-License-Identifier: Apache-2.0
// What load_loss takes of one token (formulas in ops/load_loss.hpp), in double; shared by reference
// and cuda.
#pragma once

#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/core/team.hpp"
#include "deepseek/core/view.hpp"
#include "deepseek/ops/load_loss.hpp"

#include <cmath>

namespace deepseek {

// Expert e of a token: where its threshold stands, and how far it is above it.
struct load_chance {
  index_t threshold = 0;  // the expert whose noisy logit is the K-th of the others
  double deviation = 0, distance = 0;

  DEEPSEEK_HOST_DEVICE double value() const {
    return 0.5 * std::erfc(-distance * 0.70710678118654752440);
  }
  DEEPSEEK_HOST_DEVICE double density() const {
    return 0.39894228040143267794 * std::exp(-0.5 * distance * distance);
  }
};

// kth and next: the experts with the K-th and the K+1-th largest of a row h.
struct load_thresholds {
  index_t kth = 0, next = 0;
};
template <class Team, class H>
DEEPSEEK_HOST_DEVICE load_thresholds find_thresholds(const Team& team, const H& h, index_t active) {
  load_thresholds out;
  for (index_t e = team.rank(); e < h.extent(0); e += team.size()) {
    const double v = convert_to<double>(h(e));
    index_t before = 0;  // how many are larger
    for (index_t j = 0; j < h.extent(0); ++j) {
      const double other = convert_to<double>(h(j));
      before += other > v || (other == v && j < e) ? 1 : 0;
    }
    if (before == active - 1) out.kth = e;
    if (before == active) out.next = e;
  }
  return {team.max(out.kth), team.max(out.next)};
}

template <class In>
DEEPSEEK_HOST_DEVICE load_chance chance_of(const In& in, index_t t, index_t e,
                                           const load_thresholds& at) {
  const double v = convert_to<double>(in.noisy(t, e));
  const double lowest = convert_to<double>(in.noisy(t, at.kth));
  const bool chosen = v > lowest || (v == lowest && e <= at.kth);
  load_chance c;
  c.threshold = chosen ? at.next : at.kth;
  c.deviation = math::softplus(convert_to<double>(in.deviation(t, e)));
  const double above =
      convert_to<double>(in.logits(t, e)) - convert_to<double>(in.noisy(t, c.threshold));
  c.distance = above / std::fmax(c.deviation, 1e-300);
  return c;
}

// The gradient of the distance's numerator; outer: of the expert's load.
DEEPSEEK_HOST_DEVICE inline double chance_slope(const load_chance& c, double outer) {
  const double density = c.density();
  return c.deviation > 0 && density != 0 ? outer * density / c.deviation : 0;
}

template <class V>
DEEPSEEK_HOST_DEVICE void add_to(const V& v, index_t t, index_t e, double d) {
  v(t, e) = convert_to<typename V::value_type>(convert_to<double>(v(t, e)) + d);
}

}  // namespace deepseek
