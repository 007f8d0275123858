// SPDX-License-Identifier: Apache-2.0
// make_expert_weight of the int8 formats (quant/make_weight.hpp): codes, scales, column sums and
// the range of the input (formulas: quant/int8.hpp). Computed in accumulate_t of the matrix's
// elements. Errors: nonfinite (a weight is NaN or infinite; named), invalid_argument (never
// calibrated).
#pragma once

#include "deepseek/quant/int8.hpp"
#include "deepseek/quant/int8_codes.hpp"

namespace deepseek {

// T: the element type of the model.
template <class F, class T>
int8_range observed_input_range(const observed_range& seen) {
  require(seen.calls > 0, error_code::invalid_argument, F::name,
          ": this layer was never calibrated, 0 calls observed; run observe(b, x, calibration) on "
          "typical inputs first, or use w8a8_per_token");
  using A = accumulate_t<T>;
  const value_limits limits = F::rule::limits(seen);
  return int8_range_of(static_cast<A>(limits.low), static_cast<A>(limits.high));
}

// Weights that were trained for F bring the range of their inputs (quant/fake.hpp).
template <class M, class F>
concept BringsRange = std::same_as<typename M::format, F>;

template <Int8Format F, class M, class Out>
void make_expert_weight(const F&, const M& w, const observed_range& seen, Out& out,
                        index_t expert) {
  using T = typename M::value_type;
  static_assert(std::is_same_v<typename Out::space, host>,
                "deepseek::quantize: weights are quantized on the host; quantize there and copy");
  constexpr int8_layout at = Out::layout;
  require_weight_shape(F::name, w, {Out::experts, at.n, at.k}, expert);
  require_finite_matrix(F::name, w, expert);
  if constexpr (F::range == activation_range::observed && !BringsRange<M, F>) {
    const int8_range r = observed_input_range<F, T>(seen);
    out.x_scale.data()[0] = r.scale;
    out.x_zero.data()[0] = r.zero;
  }
  std::int8_t* const to = out.q.data() + expert * at.size();
  std::fill_n(to, at.size(), std::int8_t(0));
  for (index_t n = 0; n < at.n; ++n) {
    const index_t row = expert * at.n + n;
    out.sum.data()[row] = make_int8_channel<accumulate_t<T>>(
        w, n, out.scale.data()[row], [&](index_t k, std::int8_t q) { to[at.at(n, k)] = q; });
  }
}

}  // namespace deepseek
