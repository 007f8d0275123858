// SPDX-License-Identifier: Apache-2.0
// noisy_logits: h = z + eps d, eps ~ N(0, 1), and d = softplus(r) element by element, or one
// deviation for all where no r is given. z, r, h [T, E]; r: a view, or none{}; h may be z.
// Bits: eps of element e is normal(stream, e) of (seed, step, site, random_use::routing), e in
// row-major order: the same on every backend and when it is run again.
// Backward: dr = dh eps sigmoid(r), written; the gradient of z is dh.
// Types: accumulate_t of h, rounded once. Errors: invalid_argument (deviation not finite or < 0),
// shape_mismatch. Cost: one log, sine and cosine for two elements.
// Source: Shazeer et al. 2017 (sparsely-gated mixture of experts), equation 4.
#pragma once

#include "deepseek/ops/jitter.hpp"

namespace deepseek {

struct noise_spec {
  double deviation = 0;  // of the noise where no r is given, >= 0
  routing_draw draw = {};
};

template <class Z, class R>
struct noisy_inputs {
  Z logits;     // z [T, E]
  R deviation;  // r [T, E], or none{}
};
template <class Z, class R>
noisy_inputs(Z&&, R&&) -> noisy_inputs<argument_t<Z>, argument_t<R>>;

struct noisy_logits_op {
  static constexpr std::string_view name = "noisy_logits";

  template <class B, class Z, class R, class H>
  void operator()(const B& b, const noisy_inputs<Z, R>& in, H&& h_in,
                  const noise_spec& spec) const {
    const auto z = as_const(as_view(in.logits));
    const auto r = const_or_none(in.deviation);
    const auto h = as_view(h_in);
    check_spaces(b, z, r, h);
    static_assert(z.rank == 2, "deepseek::noisy_logits: wrong rank; pass logits[T, E], h[T, E]");
    require_same_shape(z, h, "noisy_logits: logits");
    require_data(z, "noisy_logits: logits");
    require_data(h, "noisy_logits: h");
    if constexpr (!std::is_same_v<std::remove_cvref_t<R>, none>) {
      require_same_shape(r, h, "noisy_logits: deviation");
      require_data(r, "noisy_logits: deviation");
    }
    require(std::isfinite(spec.deviation) && spec.deviation >= 0, error_code::invalid_argument,
            "noisy_logits: deviation is ", spec.deviation, "; pass a finite number >= 0");
    if (!h.empty()) noisy_logits_impl(b, noisy_inputs{z, r}, h, spec);
  }
};

struct noisy_logits_backward_op {
  static constexpr std::string_view name = "noisy_logits_backward";

  template <class B, class R, class DH, class DR>
  void operator()(const B& b, const R& r_in, const DH& dh_in, DR&& dr_in,
                  const noise_spec& spec) const {
    const auto r = as_const(as_view(r_in));
    const auto dh = as_const(as_view(dh_in));
    const auto dr = as_view(dr_in);
    check_spaces(b, r, dh, dr);
    require_same_shape(dh, r, "noisy_logits_backward: dh");
    require_same_shape(dr, r, "noisy_logits_backward: dr");
    require_data(r, "noisy_logits_backward: r");
    require_data(dh, "noisy_logits_backward: dh");
    require_data(dr, "noisy_logits_backward: dr");
    if (!dr.empty()) noisy_logits_backward_impl(b, r, dh, dr, spec);
  }
};

namespace ops {
inline constexpr noisy_logits_op noisy_logits{};
inline constexpr noisy_logits_backward_op noisy_logits_backward{};
}  // namespace ops

}  // namespace deepseek
