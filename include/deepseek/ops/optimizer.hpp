// SPDX-License-Identifier: Apache-2.0
// One optimizer step of one tensor, element by element, in place; G = gradient_factor * g.
//   adamw: p = p (1 - lr wd);  m = b1 m + (1 - b1) G;  v = b2 v + (1 - b2) G^2;
//          p = p - lr (m / c1) / (sqrt(v / c2) + eps),  c1 = 1 - b1^t, c2 = 1 - b2^t
//   sgd:   p = p (1 - lr wd);  buf = mu buf + G;  p = p - lr buf, nesterov: p - lr (G + mu buf)
//   lion:  p = p (1 - lr wd);  p = p - lr sign(b1 m + (1 - b1) G);  m = b2 m + (1 - b2) G
//   amf:   p = p (1 - lr wd);  m, v as adamw;  buf = mu buf + lr (m / c1) / (sqrt(v / c2) + eps);
//          p = p - buf (its steady step is lr / (1 - mu)).  As printed: c1 = c2 = 1, wd = 0.
// p, g, m, v, buf: one shape, any strides, floating types that may differ; arithmetic in
// accumulate_t of p, each result rounded once. sign(0) = 0; a NaN stays. No sum: any threads. A G
// whose square overflows (float: 1.8e19) makes v infinite: its element then stands still, for good
// (trainer refuses such a step).
// Errors: shape_mismatch, invalid_argument (an lr, beta, eps ... out of its range).
// Source: Loshchilov, Hutter 2019, alg. 2; Sutskever 2013; Chen et al. 2023, alg. 2 (Lion).
#pragma once

#include "deepseek/ops/argument.hpp"

#include <cmath>

namespace deepseek {

template <class M, class V>
struct moments {
  M m;
  V v;
};
template <class M, class V>
moments(M&&, V&&) -> moments<argument_t<M>, argument_t<V>>;

template <class M, class V, class Buffer>
struct amf_moments {
  M m;
  V v;
  Buffer buffer;
};
template <class M, class V, class Buffer>
amf_moments(M&&, V&&, Buffer&&) -> amf_moments<argument_t<M>, argument_t<V>, argument_t<Buffer>>;

struct adamw_step {
  double lr = 1e-3;  // >= 0
  double beta1 = 0.9, beta2 = 0.95;
  double eps = 1e-8;                                  // > 0
  double weight_decay = 0;                            // >= 0, decoupled
  double bias_correction1 = 1, bias_correction2 = 1;  // 1 - beta^t, in (0, 1]
  double gradient_factor = 1;                         // clipping and loss scale
};

enum class sgd_momentum { heavy_ball, nesterov };
struct sgd_step {
  double lr = 1e-2;
  double momentum = 0.9;  // in [0, 1)
  double weight_decay = 0;
  double gradient_factor = 1;
  sgd_momentum how = sgd_momentum::heavy_ball;
};

struct lion_step {
  double lr = 3e-5;
  double beta1 = 0.9, beta2 = 0.99;
  double weight_decay = 0;
  double gradient_factor = 1;
};

// As printed, weight_decay and the bias corrections are not applied.
enum class amf_form { printed, corrected };
struct amf_step {
  double lr = 1e-4;
  double beta1 = 0.9, beta2 = 0.999;
  double momentum = 0.9;
  double eps = 1e-8;
  double weight_decay = 0;
  double bias_correction1 = 1, bias_correction2 = 1;
  double gradient_factor = 1;
  amf_form form = amf_form::printed;
};

namespace detail {

enum class step_range { finite, nonnegative, positive, below_one, unit };  // unit: (0, 1]

inline void require_step(const char* what, double value, step_range range) {
  constexpr const char* text[] = {"finite", "finite and >= 0", "finite and > 0", "in [0, 1)",
                                  "in (0, 1]"};
  bool holds = std::isfinite(value);
  if (range == step_range::nonnegative) holds = holds && value >= 0;
  if (range == step_range::positive) holds = holds && value > 0;
  if (range == step_range::below_one) holds = holds && value >= 0 && value < 1;
  if (range == step_range::unit) holds = holds && value > 0 && value <= 1;
  require(holds, error_code::invalid_argument, what, " is ", value, "; pass a number that is ",
          text[static_cast<int>(range)]);
}
inline void check_step(const adamw_step& s) {
  require_step("adamw_update: lr", s.lr, step_range::nonnegative);
  require_step("adamw_update: beta1", s.beta1, step_range::below_one);
  require_step("adamw_update: beta2", s.beta2, step_range::below_one);
  require_step("adamw_update: eps", s.eps, step_range::positive);
  require_step("adamw_update: weight_decay", s.weight_decay, step_range::nonnegative);
  require_step("adamw_update: bias_correction1", s.bias_correction1, step_range::unit);
  require_step("adamw_update: bias_correction2", s.bias_correction2, step_range::unit);
  require_step("adamw_update: gradient_factor", s.gradient_factor, step_range::finite);
}
inline void check_step(const sgd_step& s) {
  require_step("sgd_update: lr", s.lr, step_range::nonnegative);
  require_step("sgd_update: momentum", s.momentum, step_range::below_one);
  require_step("sgd_update: weight_decay", s.weight_decay, step_range::nonnegative);
  require_step("sgd_update: gradient_factor", s.gradient_factor, step_range::finite);
}
inline void check_step(const lion_step& s) {
  require_step("lion_update: lr", s.lr, step_range::nonnegative);
  require_step("lion_update: beta1", s.beta1, step_range::below_one);
  require_step("lion_update: beta2", s.beta2, step_range::below_one);
  require_step("lion_update: weight_decay", s.weight_decay, step_range::nonnegative);
  require_step("lion_update: gradient_factor", s.gradient_factor, step_range::finite);
}
inline void check_step(const amf_step& s) {
  require_step("amf_update: lr", s.lr, step_range::nonnegative);
  require_step("amf_update: beta1", s.beta1, step_range::below_one);
  require_step("amf_update: beta2", s.beta2, step_range::below_one);
  require_step("amf_update: momentum", s.momentum, step_range::below_one);
  require_step("amf_update: eps", s.eps, step_range::positive);
  require_step("amf_update: weight_decay", s.weight_decay, step_range::nonnegative);
  require_step("amf_update: bias_correction1", s.bias_correction1, step_range::unit);
  require_step("amf_update: bias_correction2", s.bias_correction2, step_range::unit);
  require_step("amf_update: gradient_factor", s.gradient_factor, step_range::finite);
}

// Every state view has p's shape and memory; `op` begins the messages.
template <class B, class P, class... State>
void check_update(const B& b, const char* op, const P& p, const State&... state) {
  check_spaces(b, p, state...);
  const auto check = [&](const auto& v) {
    require_same_shape(v, p, op);
    require_data(v, op);
  };
  require_data(p, op);
  (check(state), ...);
}

}  // namespace detail

struct adamw_update_op {
  static constexpr std::string_view name = "adamw_update";

  template <class B, class P, class G, class M, class V>
  void operator()(const B& b, P&& p_in, const G& g_in, const moments<M, V>& state,
                  const adamw_step& step) const {
    const auto p = as_view(p_in);
    const auto g = as_const(as_view(g_in));
    const auto m = as_view(state.m);
    const auto v = as_view(state.v);
    detail::check_step(step);
    detail::check_update(b, "adamw_update: g, m or v", p, g, m, v);
    if (!p.empty())
      adamw_update_impl(b, p, g, moments<decltype(as_view(m)), decltype(as_view(v))>{m, v}, step);
  }
};

struct sgd_update_op {
  static constexpr std::string_view name = "sgd_update";

  template <class B, class P, class G, class Buffer>
  void operator()(const B& b, P&& p_in, const G& g_in, Buffer&& buffer_in,
                  const sgd_step& step) const {
    const auto p = as_view(p_in);
    const auto g = as_const(as_view(g_in));
    const auto buffer = as_view(buffer_in);
    detail::check_step(step);
    detail::check_update(b, "sgd_update: g or buffer", p, g, buffer);
    if (!p.empty()) sgd_update_impl(b, p, g, buffer, step);
  }
};

struct lion_update_op {
  static constexpr std::string_view name = "lion_update";

  template <class B, class P, class G, class M>
  void operator()(const B& b, P&& p_in, const G& g_in, M&& m_in, const lion_step& step) const {
    const auto p = as_view(p_in);
    const auto g = as_const(as_view(g_in));
    const auto m = as_view(m_in);
    detail::check_step(step);
    detail::check_update(b, "lion_update: g or m", p, g, m);
    if (!p.empty()) lion_update_impl(b, p, g, m, step);
  }
};

struct amf_update_op {
  static constexpr std::string_view name = "amf_update";

  template <class B, class P, class G, class M, class V, class Buffer>
  void operator()(const B& b, P&& p_in, const G& g_in, const amf_moments<M, V, Buffer>& state,
                  const amf_step& step) const {
    const auto p = as_view(p_in);
    const auto g = as_const(as_view(g_in));
    const auto m = as_view(state.m);
    const auto v = as_view(state.v);
    const auto buffer = as_view(state.buffer);
    detail::check_step(step);
    detail::check_update(b, "amf_update: g, m, v or buffer", p, g, m, v, buffer);
    using bundle =
        amf_moments<decltype(as_view(m)), decltype(as_view(v)), decltype(as_view(buffer))>;
    if (!p.empty()) amf_update_impl(b, p, g, bundle{m, v, buffer}, step);
  }
};

namespace ops {
inline constexpr adamw_update_op adamw_update{};
inline constexpr sgd_update_op sgd_update{};
inline constexpr lion_update_op lion_update{};
inline constexpr amf_update_op amf_update{};
}  // namespace ops

}  // namespace deepseek
