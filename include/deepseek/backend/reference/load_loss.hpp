// SPDX-License-Identifier: Apache-2.0
// load_loss on the reference backend: plain loops in double; see ops/load_loss.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/variation.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/load_loss.hpp"

namespace deepseek {

// Expert e of a token in double: where its threshold stands, and how far it is above it.
struct load_chance {
  index_t threshold = 0;  // the expert whose noisy logit is the K-th of the others
  double deviation = 0, distance = 0;

  double value() const { return 0.5 * std::erfc(-distance * 0.70710678118654752440); }
  double density() const { return 0.39894228040143267794 * std::exp(-0.5 * distance * distance); }
};

// kth and next: the experts with the K-th and the K+1-th largest of h_t.
struct load_thresholds {
  index_t kth = 0, next = 0;
};
template <class H>
load_thresholds find_thresholds(const H& h, index_t t, index_t active) {
  load_thresholds out;
  for (index_t e = 0; e < h.extent(1); ++e) {
    const double v = convert_to<double>(h(t, e));
    index_t before = 0;  // how many are larger
    for (index_t j = 0; j < h.extent(1); ++j) {
      const double other = convert_to<double>(h(t, j));
      before += other > v || (other == v && j < e) ? 1 : 0;
    }
    if (before == active - 1) out.kth = e;
    if (before == active) out.next = e;
  }
  return out;
}

// f(t, e, chance) for every element.
template <class Z, class R, class H, class F>
void for_each_chance(const load_views<Z, R, H>& in, index_t active, const F& f) {
  for (index_t t = 0; t < in.noisy.extent(0); ++t) {
    const load_thresholds at = find_thresholds(in.noisy, t, active);
    const double lowest = convert_to<double>(in.noisy(t, at.kth));
    for (index_t e = 0; e < in.noisy.extent(1); ++e) {
      const double v = convert_to<double>(in.noisy(t, e));
      const bool chosen = v > lowest || (v == lowest && e <= at.kth);
      load_chance c{.threshold = chosen ? at.next : at.kth};
      c.deviation = math::softplus(convert_to<double>(in.deviation(t, e)));
      const double above =
          convert_to<double>(in.logits(t, e)) - convert_to<double>(in.noisy(t, c.threshold));
      c.distance = above / std::fmax(c.deviation, 1e-300);
      f(t, e, c);
    }
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

template <class V>
void add_to(const V& v, index_t t, index_t e, double d) {
  v(t, e) = convert_to<typename V::value_type>(convert_to<double>(v(t, e)) + d);
}

template <class In, class Out>
void load_loss_backward_impl(const reference& b, const In& in, const Out& out, index_t active,
                             double alpha) {
  const scope freed(b.workspace());
  const auto load = sum_load(b, in, active);
  const variation v(load);
  for_each_chance(in, active, [&](index_t t, index_t e, const load_chance& c) {
    if (!(c.deviation > 0) || c.density() == 0) return;
    const double d = alpha * v.derivative(load(e)) * c.density() / c.deviation;
    add_to(out.logits, t, e, d);
    add_to(out.noisy, t, c.threshold, -d);
    add_to(out.deviation, t, e,
           -d * c.distance * math::sigmoid(convert_to<double>(in.deviation(t, e))));
  });
}

}  // namespace deepseek
