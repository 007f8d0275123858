// SPDX-License-Identifier: Apache-2.0
// smoothed<F, A>: outliers of the inputs' channels move into the weights before F stores them:
//   s_j = max|X_j|^a / max_n|W[n, j]|^(1 - a), a = A / 100 (1 where either is zero)
//   y = (x / s) (W diag(s))^T: the same product, with inputs of nearly equal channels
// max|X_j| from a calibration. 1 / s is stored as input_scale [in] and multiplies the inputs in
// each call; a stack of experts shares one, with the largest weight of all. F: any format; of those
// that take their range from a calibration the ones by its extremes (w8a8): they scale exactly.
// Errors: invalid_argument (never calibrated, or with another width), nonfinite.
// Source: Xiao et al. 2023 (SmoothQuant), equation 4.
#pragma once

#include "deepseek/quant/int8_weight.hpp"

namespace deepseek {

// W diag(s) of one expert.
template <class M>
struct smoothed_matrix {
  using value_type = typename M::value_type;
  using A = accumulate_t<value_type>;
  const M& weights;
  const float* input_scale;  // 1 / s

  index_t extent(int i) const { return weights.extent(i); }
  A operator()(index_t n, index_t k) const {
    return static_cast<A>(weights(n, k)) / static_cast<A>(input_scale[k]);
  }
};

template <class Inner, class Space, index_t I>
struct smoothed_weight {
  using inner_type = Inner;
  using space = Space;
  Inner inner;
  tensor<float, Space, I> input_scale;

  static constexpr auto fields() {
    return std::tuple{named("", &smoothed_weight::inner),
                      buffer("input_scale", &smoothed_weight::input_scale)};
  }
};

template <class F>
inline constexpr bool scales_with_inputs = !needs_calibration<F>;
template <Int8Format F>
requires(F::range == activation_range::observed) inline constexpr bool scales_with_inputs<F> =
    std::is_same_v<typename F::rule, min_max>;

template <class F = w8a8, index_t A = 50>
struct smoothed {
  static_assert(A >= 0 && A <= 100,
                "deepseek::smoothed: the share is not between 0 and 100 percent; write "
                "smoothed<w8a8, 50>");
  static_assert(scales_with_inputs<F>,
                "deepseek::smoothed: the rule of this format does not follow when channels are "
                "scaled (only extremes do); use w8a8, w8a8_per_token or a weight-only format");
  static constexpr const char* name = "smoothed";
  template <class T, class S, index_t O, index_t I>
  using weight =
      smoothed_weight<typename F::template weight<T, S, O, I>, typename stack_of<S>::space, I>;
};
template <class F, index_t A>
inline constexpr bool needs_calibration<smoothed<F, A>> = true;
template <class F, index_t A>
inline constexpr bool keeps_rows_apart<smoothed<F, A>> = keeps_rows_apart<F>;

// The scale of one channel; largest: of |X_j| and |W_j|.
inline float smoothing_scale(double of_inputs, double of_weights, double share) {
  if (!(of_inputs > 0 && of_weights > 0)) return 1;
  const double s = std::pow(of_inputs, share) / std::pow(of_weights, 1 - share);
  const auto inverse = static_cast<float>(1 / s);
  return inverse > 0 && std::isfinite(inverse) ? inverse : 1.0F;
}

// The extremes of the inputs after they were scaled.
inline observed_range smoothed_range(const observed_range& seen, const float* input_scale) {
  observed_range out;
  out.calls = seen.calls;
  for (std::size_t j = 0; j < seen.channels.size(); ++j) {
    const double scale = static_cast<double>(input_scale[j]);
    out.extreme.include(seen.channels[j].low * scale);
    out.extreme.include(seen.channels[j].high * scale);
  }
  return out;
}

// expert(e) -> matrix, for experts 0 .. count - 1.
template <class F, index_t A, class Out>
void make_smoothed(index_t count, const auto& expert, const observed_range& seen, Out& out) {
  const index_t width = out.input_scale.size();
  require(seen.calls > 0 && static_cast<index_t>(seen.channels.size()) == width,
          error_code::invalid_argument, "smoothed: this layer was never calibrated, ", seen.calls,
          " calls with ", seen.channels.size(), " channels observed, expected ", width,
          "; run observe(b, x, calibration) on typical inputs first");
  for (index_t e = 0; e < count; ++e) require_finite_matrix(F::name, expert(e), e);
  for (index_t j = 0; j < width; ++j) {
    const value_limits& x = seen.channels[static_cast<std::size_t>(j)];
    double largest = 0;
    for (index_t e = 0; e < count; ++e) {
      for (index_t n = 0; n < expert(e).extent(0); ++n) {
        largest = std::max(largest, std::abs(static_cast<double>(expert(e)(n, j))));
      }
    }
    out.input_scale.data()[j] =
        smoothing_scale(std::max(-x.low, x.high), largest, static_cast<double>(A) / 100);
  }
  const observed_range range = smoothed_range(seen, out.input_scale.data());
  for (index_t e = 0; e < count; ++e) {
    const auto w = expert(e);
    make_expert_weight(F{},
                       smoothed_matrix<std::remove_cvref_t<decltype(w)>>{w, out.input_scale.data()},
                       range, out.inner, e);
  }
}

template <class F, index_t A, class Plain, class Out>
void make_weight(const smoothed<F, A>&, const Plain& weights, const observed_range& seen,
                 Out& out) {
  static_assert(std::is_same_v<typename Out::space, host>,
                "deepseek::make_weight: weights are made on the host; make them there and copy");
  const auto w = as_const(as_view(weights));
  if constexpr (decltype(w)::rank == 2) {
    make_smoothed<F, A>(
        1, [&](index_t) { return w; }, seen, out);
  } else {
    make_smoothed<F, A>(
        w.extent(0), [&](index_t e) { return slice(w, e); }, seen, out);
  }
}
// One matrix alone, for a layer outside a stack: the experts of a stack share their scales.
template <class F, index_t A, class M, class Out>
void make_expert_weight(const smoothed<F, A>&, const M& w, const observed_range& seen, Out& out,
                        index_t) {
  require(Out::inner_type::experts == 1, error_code::unsupported, "smoothed: one expert of ",
          Out::inner_type::experts,
          " alone; supported is make_weight with all experts, whose input scales are shared");
  make_smoothed<F, A>(
      1, [&](index_t) { return w; }, seen, out);
}

}  // namespace deepseek
