// SPDX-License-Identifier: Apache-2.0
// make_weight(format, plain weight, observed range, out): int8 codes, scales, column sums and the
// range of the input (formulas: quant/int8.hpp), on the host, once.
// plain [out, in], or [experts, out, in] in a stack. Computed in accumulate_t of its elements.
// Errors: nonfinite (a weight is NaN or infinite; named), invalid_argument (never calibrated).
#pragma once

#include "deepseek/quant/int8.hpp"

namespace deepseek {

// Codes of one output channel; returns their sum.
template <class A, class Row>
std::int32_t make_int8_channel(const Row& from, float& scale, const auto& put) {
  A largest = 0;
  for (index_t k = 0; k < from.extent(0); ++k) {
    largest = std::max(largest, std::abs(static_cast<A>(from(k))));
  }
  scale = static_cast<float>(largest / A(127));
  if (!(scale > 0)) scale = 1;
  std::int32_t sum = 0;
  for (index_t k = 0; k < from.extent(0); ++k) {
    const A code = std::nearbyint(static_cast<A>(from(k)) / static_cast<A>(scale));
    const auto q = static_cast<std::int8_t>(std::clamp(code, A(-127), A(127)));
    put(k, q);
    sum += q;
  }
  return sum;
}

template <class W>
void require_finite_weight(const W& w, index_t expert, const char* format) {
  for (index_t n = 0; n < w.extent(0); ++n) {
    for (index_t k = 0; k < w.extent(1); ++k) {
      const double value = static_cast<double>(w(n, k));
      require(std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max()),
              error_code::nonfinite, format, ": weight[", expert, ", ", n, ", ", k,
              "] (expert, output, input) is ", value,
              "; quantize a model whose weights are finite floats");
    }
  }
}

template <class F, class T, class Out>
void make_observed_range(const observed_range& seen, Out& out) {
  require(seen.calls > 0, error_code::invalid_argument, F::name,
          ": this layer was never calibrated, 0 calls observed; run observe(b, x, calibration) on "
          "typical inputs first, or use w8a8_per_token");
  using A = accumulate_t<T>;
  const value_limits limits = seen.by(F::rule);
  const int8_range r = int8_range_of(static_cast<A>(limits.low), static_cast<A>(limits.high));
  out.x_scale.data()[0] = r.scale;
  out.x_zero.data()[0] = r.zero;
}

// One expert of a stack from its plain [out, in] alone; a weight that is no stack is expert 0.
template <Int8Format F, class Plain, class Out>
void make_expert_weight(const F&, const Plain& plain, index_t expert, Out& out) {
  static_assert(std::is_same_v<typename Out::space, host>,
                "deepseek::quantize: weights are quantized on the host; quantize there and copy");
  constexpr int8_layout at = Out::layout;
  require_finite_weight(plain, expert, F::name);
  std::int8_t* const to = out.q.data() + expert * at.size();
  std::fill_n(to, at.size(), std::int8_t{0});
  for (index_t n = 0; n < at.n; ++n) {
    out.sum.data()[expert * at.n + n] =
        make_int8_channel<accumulate_t<typename Plain::value_type>>(
            slice(plain, n), out.scale.data()[expert * at.n + n],
            [&](index_t k, std::int8_t q) { to[at.at(n, k)] = q; });
  }
}

template <Int8Format F, class Plain, class Out>
void make_weight(const F& format, const Plain& plain, const observed_range& seen, Out& out) {
  using T = typename Plain::value_type;
  constexpr int8_layout at = Out::layout;
  const view<const T, host, dyn, dyn, dyn> w(plain.data(), {Out::experts, at.n, at.k});
  if constexpr (F::range == activation_range::observed) make_observed_range<F, T>(seen, out);
  for (index_t e = 0; e < Out::experts; ++e) make_expert_weight(format, slice(w, e), e, out);
}

}  // namespace deepseek
