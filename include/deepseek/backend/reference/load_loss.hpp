// SPDX-License-Identifier: Apache-2.0
// load_loss on the reference backend: plain loops in double; see ops/load_loss.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/load_loss.hpp"
#include "deepseek/backend/rows/variation.hpp"

namespace deepseek {

// f(t, e, chance) for every element.
template <class Z, class R, class H, class F>
void for_each_chance(const load_views<Z, R, H>& in, index_t active, const F& f) {
  for (index_t t = 0; t < in.noisy.extent(0); ++t) {
    const load_thresholds at = find_thresholds(serial_team{}, slice(in.noisy, t), active);
    for (index_t e = 0; e < in.noisy.extent(1); ++e) f(t, e, chance_of(in, t, e, at));
  }
}

template <class In>
view<double, host, dyn> sum_load(const reference& b, const In& in, index_t active) {
  const view<double, host, dyn> load = b.workspace().template make<double, dyn>(in.noisy.extent(1));
  for (index_t e = 0; e < load.extent(0); ++e) load(e) = 0;
  for_each_chance(in, active,
                  [&](index_t, index_t e, const load_chance& c) { load(e) += c.value(); });
  return load;
}

template <class In>
double load_loss_impl(const reference& b, const In& in, index_t active, double alpha) {
  const scope freed(b.workspace());
  return alpha * variation(sum_load(b, in, active)).value();
}

template <class In, class Out>
void load_loss_backward_impl(const reference& b, const In& in, const Out& out, index_t active,
                             double alpha) {
  const scope freed(b.workspace());
  const auto load = sum_load(b, in, active);
  const variation v(load);
  for_each_chance(in, active, [&](index_t t, index_t e, const load_chance& c) {
    const double d = chance_slope(c, alpha * v.derivative(load(e)));
    if (d == 0) return;
    add_to(out.logits, t, e, d);
    add_to(out.noisy, t, c.threshold, -d);
    add_to(out.deviation, t, e,
           -d * c.distance * math::sigmoid(convert_to<double>(in.deviation(t, e))));
  });
}

}  // namespace deepseek
