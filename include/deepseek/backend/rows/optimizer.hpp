// SPDX-License-Identifier: Apache-2.0
// One element of each optimizer update, in place; see ops/optimizer.hpp for the formulas.
// V is a number or a register of numbers: the host backends and the GPU share these bodies.
// Needs + - * / on V, and by argument-dependent lookup or from here square_root(V), sign_of(V).
#pragma once

#include "deepseek/ops/optimizer.hpp"

#include <cmath>

namespace deepseek {

template <class A>
requires std::is_floating_point_v<A> DEEPSEEK_HOST_DEVICE A square_root(A x) {
  return std::sqrt(x);
}
// 1, -1, or x itself where it is zero or NaN.
template <class A>
requires std::is_floating_point_v<A> DEEPSEEK_HOST_DEVICE A sign_of(A x) {
  return x > 0 ? A(1) : x < 0 ? A(-1) : x;
}

// Exponential averages of the gradient and of its square.
template <class V>
struct moment_body {
  V beta1, rest1, beta2, rest2, correction1, correction2, eps;

  template <class Make, class Step>
  static moment_body of(const Make& make, const Step& s) {
    return {make(s.beta1),     make(1 - s.beta1),        make(s.beta2),
            make(1 - s.beta2), make(s.bias_correction1), make(s.bias_correction2),
            make(s.eps)};
  }
  // (m / c1) / (sqrt(v / c2) + eps) after both were moved on.
  DEEPSEEK_HOST_DEVICE V direction(V g, V& m, V& v) const {
    m = beta1 * m + rest1 * g;
    v = beta2 * v + rest2 * (g * g);
    return (m / correction1) / (square_root(v / correction2) + eps);
  }
};

template <class V>
struct adamw_body {
  V decay, lr, factor;
  moment_body<V> average;

  template <class Make>
  static adamw_body of(const Make& make, const adamw_step& s) {
    return {make(1 - s.lr * s.weight_decay), make(s.lr), make(s.gradient_factor),
            moment_body<V>::of(make, s)};
  }
  DEEPSEEK_HOST_DEVICE void operator()(V g, V& p, V& m, V& v) const {
    p = p * decay - lr * average.direction(factor * g, m, v);
  }
};

template <class V>
struct sgd_body {
  V decay, lr, momentum, factor;
  sgd_momentum how;

  template <class Make>
  static sgd_body of(const Make& make, const sgd_step& s) {
    return {make(1 - s.lr * s.weight_decay), make(s.lr), make(s.momentum), make(s.gradient_factor),
            s.how};
  }
  DEEPSEEK_HOST_DEVICE void operator()(V g, V& p, V& buffer) const {
    g = factor * g;
    buffer = momentum * buffer + g;
    p = p * decay - lr * (how == sgd_momentum::nesterov ? g + momentum * buffer : buffer);
  }
};

template <class V>
struct lion_body {
  V decay, lr, beta1, rest1, beta2, rest2, factor;

  template <class Make>
  static lion_body of(const Make& make, const lion_step& s) {
    return {make(1 - s.lr * s.weight_decay),
            make(s.lr),
            make(s.beta1),
            make(1 - s.beta1),
            make(s.beta2),
            make(1 - s.beta2),
            make(s.gradient_factor)};
  }
  DEEPSEEK_HOST_DEVICE void operator()(V g, V& p, V& m) const {
    g = factor * g;
    p = p * decay - lr * sign_of(beta1 * m + rest1 * g);
    m = beta2 * m + rest2 * g;
  }
};

template <class V>
struct amf_body {
  V decay, momentum, lr, factor;
  moment_body<V> average;

  template <class Make>
  static amf_body of(const Make& make, amf_step s) {
    if (s.form == amf_form::printed) {
      s.weight_decay = 0;
      s.bias_correction1 = s.bias_correction2 = 1;
    }
    return {make(1 - s.lr * s.weight_decay), make(s.momentum), make(s.lr), make(s.gradient_factor),
            moment_body<V>::of(make, s)};
  }
  DEEPSEEK_HOST_DEVICE void operator()(V g, V& p, V& m, V& v, V& buffer) const {
    buffer = momentum * buffer + lr * average.direction(factor * g, m, v);
    p = p * decay - buffer;
  }
};

}  // namespace deepseek
