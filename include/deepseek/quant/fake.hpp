// SPDX-License-Identifier: Apache-2.0
// fake<F>: weights that are trained in the model's type but count as what the format F will hold of
// them (ops/fake_quantize.hpp), with a learned step for each group that has a scale in F:
//   w ~ clamp(rne(w / s), least, most) s, s = exp(log_step) as F stores it.
// F: int8_channels, int4_symmetric<G>, w8a8 and its like (these round inputs as well, with one step
// for the layer, and the zero point that a calibration found). Made from a plain model with the
// steps that F would take; turned into F with the steps that were learned: the same codes.
// Stored as weight (the plain values), weight.log_step, and for inputs weight.x_log_step and
// weight.x_zero. Errors: nonfinite (a step that is not a positive number), those of F.
// Source: Esser et al. 2020 (LSQ); Jacob et al. 2018, section 3.
#pragma once

#include "deepseek/quant/int4_groups.hpp"
#include "deepseek/quant/int8_channels.hpp"
#include "deepseek/quant/int8_weight.hpp"

namespace deepseek {

// Codes least .. most, of which `zero` stands for 0; one step for `group` neighbours of a row,
// rounded to the type in which a format stores it (f64: not rounded).
struct fake_grid {
  std::int32_t least = -127, most = 127, zero = 0;
  index_t group = 1;
  dtype stored = dtype::f32;

  DEEPSEEK_HOST_DEVICE constexpr index_t groups_of(index_t width) const {
    return (width + group - 1) / group;
  }

  template <class A>
  DEEPSEEK_HOST_DEVICE A step(A log_step) const {
    const A s = std::exp(log_step);
    switch (stored) {
      case dtype::bf16:
        return static_cast<A>(static_cast<float>(bf16(s)));
      case dtype::f16:
        return static_cast<A>(static_cast<float>(f16(s)));
      case dtype::f64:
        return s;
      default:
        return static_cast<A>(static_cast<float>(s));
    }
  }
  // Of x / step, before it is cut off; NaN stays NaN.
  template <class A>
  DEEPSEEK_HOST_DEVICE A code(A scaled) const {
    return std::nearbyint(scaled) + static_cast<A>(zero);
  }
  template <class A>
  DEEPSEEK_HOST_DEVICE A clamped(A code) const {
    const A low = static_cast<A>(least), high = static_cast<A>(most);
    return code < low ? low : high < code ? high : code;
  }
};

// Where the weights of a format stand: its grid for rows of width I, and whether inputs are
// rounded.
template <class F>
struct fake_form {
  static constexpr bool exists = false, rounds_inputs = false;
};
template <>
struct fake_form<int8_channels> {
  static constexpr bool exists = true, rounds_inputs = false;
  static constexpr fake_grid grid(index_t width) { return {-127, 127, 0, width, dtype::f32}; }
  static float step_of(float largest) { return largest / 127; }
};
template <index_t G, class Scale>
struct fake_form<int4_symmetric<G, Scale>> {
  static constexpr bool exists = true, rounds_inputs = false;
  static constexpr fake_grid grid(index_t) { return {-8, 7, 0, G, dtype_of<Scale>}; }
  static float step_of(float largest) { return int4_scale_of<Scale>(largest / 7); }
};
template <Int8Format F>
requires(F::range == activation_range::observed) struct fake_form<F> : fake_form<int8_channels> {
  static constexpr bool rounds_inputs = true;
};

inline constexpr fake_grid fake_input_grid(index_t width, std::int32_t zero) {
  return {0, 255, zero, width, dtype::f32};
}

inline void require_fake_step(double step, const char* object) {
  require(
      step > 0 && std::isfinite(step), error_code::nonfinite, object, ": a step is ", step,
      "; steps are exp(log_step), positive numbers: make the model with fake_quantize, or lower "
      "the learning rate");
}

// The weights of one expert as the codes that F will hold, and as numbers.
template <class F, class T>
struct fake_matrix {
  using value_type = T;
  using format = F;
  using A = accumulate_t<T>;
  static constexpr bool holds_int8 = !Int4Format<F>;
  view<const T, host, dyn, dyn> value, log_step;

  index_t extent(int i) const { return value.extent(i); }
  fake_grid grid() const { return fake_form<F>::grid(extent(1)); }
  A step(index_t n, index_t k = 0) const {
    return grid().step(static_cast<A>(log_step(n, k / grid().group)));
  }
  A clamped(index_t n, index_t k) const {
    return grid().clamped(grid().code(static_cast<A>(value(n, k)) / step(n, k)));
  }
  A operator()(index_t n, index_t k) const { return clamped(n, k) * step(n, k); }

  // In the order of F: 4 bits count from -8.
  std::int32_t code(index_t n, index_t k) const {
    const auto q = static_cast<std::int32_t>(clamped(n, k));
    return Int4Format<F> ? q + int4_group::middle : q;
  }
  int4_group group(index_t n, index_t k) const requires Int4Format<F> {
    return {static_cast<float>(step(n, k)), int4_group::middle};
  }
};

template <class F, class T, class S, index_t O, index_t I>
struct fake_weight {
  using format = F;
  static constexpr fake_grid grid = fake_form<F>::grid(I);
  static constexpr index_t experts = stack_of<S>::count, out = O, in = I;
  static constexpr index_t groups = grid.groups_of(I);
  using space = typename stack_of<S>::space;
  static constexpr bool is_stack = !std::is_same_v<space, S>;
  tensor<T, S, O, I> value;
  tensor<T, S, O * groups> log_step;

  // Rows of all experts one after the other.
  auto values() const { return rows_of<const T, I>(value); }
  auto values() { return rows_of<T, I>(value); }
  auto log_steps() const { return rows_of<const T, groups>(log_step); }
  auto log_steps() { return rows_of<T, groups>(log_step); }
  fake_matrix<F, T> expert(index_t e) const {
    return {rows(values(), e * O, O), rows(log_steps(), e * O, O)};
  }
  static constexpr auto fields() {
    return std::tuple{named("", &fake_weight::value),
                      named("log_step", &fake_weight::log_step, first_value::zero)};
  }

 private:
  template <class E, index_t Width>
  static view<E, space, dyn, dyn> rows_of(auto& t) {
    return {t.data(), {experts * O, Width}};
  }
};

template <class F, class T, class S, index_t O, index_t I>
struct fake_weight_and_input : fake_weight<F, T, S, O, I> {
  using base = fake_weight<F, T, S, O, I>;
  using typename base::space;
  tensor<T, space, 1> x_log_step;
  tensor<std::int32_t, space, 1> x_zero;

  // One step for all rows.
  auto x_log_steps(index_t rows) const {
    return view<const T, space, dyn, dyn>(x_log_step.data(), {rows, 1}, {0, 1});
  }
  auto x_log_steps(index_t rows) {
    return view<T, space, dyn, dyn>(x_log_step.data(), {rows, 1}, {0, 1});
  }
  int8_range input_range() const {
    using A = accumulate_t<T>;
    const fake_grid at = fake_input_grid(I, x_zero.data()[0]);
    return {static_cast<float>(at.step(static_cast<A>(x_log_step.data()[0]))), at.zero};
  }
  static constexpr auto fields() {
    return std::tuple_cat(
        base::fields(),
        std::tuple{named("x_log_step", &fake_weight_and_input::x_log_step, first_value::zero),
                   buffer("x_zero", &fake_weight_and_input::x_zero)});
  }
};

template <class F>
struct fake {
  static_assert(
      fake_form<F>::exists,
      "deepseek::fake: this format has no learned steps (its codes are not equally spaced "
      "about a fixed zero); use int8_channels, int4_symmetric<32> or w8a8");
  static constexpr const char* name = "fake";
  static constexpr bool is_trained = true;
  template <class T, class S, index_t O, index_t I>
  using weight =
      std::conditional_t<fake_form<F>::rounds_inputs, fake_weight_and_input<F, T, S, O, I>,
                         fake_weight<F, T, S, O, I>>;
};

template <class F>
inline constexpr bool needs_calibration<fake<F>> = fake_form<F>::rounds_inputs;

template <class W>
inline constexpr bool is_fake_weight = false;
template <class F, class T, class S, index_t O, index_t I>
inline constexpr bool is_fake_weight<fake_weight<F, T, S, O, I>> = true;
template <class F, class T, class S, index_t O, index_t I>
inline constexpr bool is_fake_weight<fake_weight_and_input<F, T, S, O, I>> = true;

// From plain weights: the steps that F takes.
template <class F, class M, class Out>
void make_expert_weight(const fake<F>&, const M& w, const observed_range& seen, Out& out,
                        index_t expert) {
  static_assert(std::is_same_v<typename Out::space, host>,
                "deepseek::make_weight: weights are made on the host; make them there and copy");
  require_weight_shape(F::name, w, {Out::experts, Out::out, Out::in}, expert);
  require_finite_matrix(F::name, w, expert);
  using T = std::remove_cvref_t<decltype(out.value.data()[0])>;
  if constexpr (fake_form<F>::rounds_inputs) {
    const int8_range r = observed_input_range<F, T>(seen);
    out.x_log_step.data()[0] = static_cast<T>(std::log(r.scale));
    out.x_zero.data()[0] = r.zero;
  }
  const auto values = rows(out.values(), expert * Out::out, Out::out);
  const auto log_steps = rows(out.log_steps(), expert * Out::out, Out::out);
  for (index_t n = 0; n < Out::out; ++n) {
    for (index_t g = 0; g < Out::groups; ++g) {
      float largest = 0;
      for (index_t k = g * Out::grid.group; k < std::min(Out::in, (g + 1) * Out::grid.group); ++k) {
        values(n, k) = static_cast<T>(w(n, k));
        largest = std::max(largest, std::abs(static_cast<float>(w(n, k))));
      }
      const float step = fake_form<F>::step_of(largest);
      log_steps(n, g) = static_cast<T>(step > 0 ? std::log(step) : 0.0F);
    }
  }
}

// Into F with the learned steps, or into any format as the numbers that the weights count as.
template <class F, class W, class Out>
requires is_fake_weight<W>
void make_weight(const F& format, const W& weights, const observed_range& seen, Out& out) {
  for (index_t e = 0; e < W::experts; ++e) {
    const auto w = weights.expert(e);
    for (index_t n = 0; n < w.log_step.extent(0); ++n) {
      for (index_t g = 0; g < w.log_step.extent(1); ++g) {
        require_fake_step(static_cast<double>(w.step(n, g * W::grid.group)), F::name);
      }
    }
    require_finite_matrix(F::name, w, e);
  }
  if constexpr (std::is_same_v<F, typename W::format> && fake_form<F>::rounds_inputs) {
    const int8_range r = weights.input_range();
    require_fake_step(static_cast<double>(r.scale), F::name);
    out.x_scale.data()[0] = r.scale;
    out.x_zero.data()[0] = r.zero;
  }
  for (index_t e = 0; e < W::experts; ++e) {
    make_expert_weight(format, weights.expert(e), seen, out, e);
  }
}

}  // namespace deepseek
