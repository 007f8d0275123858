// SPDX-License-Identifier: Apache-2.0
// noisy_logits on the reference backend: plain loops; see ops/noisy_logits.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/noisy_logits.hpp"

namespace deepseek {

// f(t, e, eps) for every element of an array [T, E].
template <class V, class F>
void for_each_noise(const V& like, const noise_spec& spec, const F& f) {
  const stream_key key = routing_stream(spec.draw);
  std::uint64_t at = 0;
  for (index_t t = 0; t < like.extent(0); ++t) {
    for (index_t e = 0; e < like.extent(1); ++e) {
      f(t, e, normal(key, at++));
    }
  }
}

template <class Z, class R, class H>
void noisy_logits_impl(const reference&, const noisy_inputs<Z, R>& in, const H& h,
                       const noise_spec& spec) {
  using T = typename H::value_type;
  using A = accumulate_t<T>;
  for_each_noise(h, spec, [&](index_t t, index_t e, float eps) {
    A deviation = static_cast<A>(spec.deviation);
    if constexpr (!std::is_same_v<R, none>) {
      deviation = math::softplus(convert_to<A>(in.deviation(t, e)));
    }
    h(t, e) = convert_to<T>(convert_to<A>(in.logits(t, e)) + static_cast<A>(eps) * deviation);
  });
}

template <class R, class DH, class DR>
void noisy_logits_backward_impl(const reference&, const R& r, const DH& dh, const DR& dr,
                                const noise_spec& spec) {
  using T = typename DR::value_type;
  using A = accumulate_t<T>;
  for_each_noise(dr, spec, [&](index_t t, index_t e, float eps) {
    dr(t, e) = convert_to<T>(convert_to<A>(dh(t, e)) * static_cast<A>(eps) *
                             math::sigmoid(convert_to<A>(r(t, e))));
  });
}

}  // namespace deepseek
