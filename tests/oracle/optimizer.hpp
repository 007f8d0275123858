// SPDX-License-Identifier: Apache-2.0
// One step of each optimizer on one number; t counts from 1. Decay is decoupled: p <- p (1 - lr
// decay) first.
//   AdamW: m, v moving means of g, g^2; p -= lr (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + eps)
//   Lion: p -= lr sign(b1 m + (1-b1) g), then m <- b2 m + (1-b2) g
//   SGD: m <- mu m + g; p -= lr m, or with Nesterov p -= lr (g + mu m)
//   AMF, as printed: buf <- mu buf + lr m/(sqrt(v)+eps); p -= buf. Corrected: m and v divided as in
//   AdamW, decay.
#pragma once

#include <cmath>

namespace oracle {

struct optimizer_state {
  double p = 0, m = 0, v = 0, buffer = 0;
};

struct optimizer_rule {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, decay = 0, momentum = 0.9;
};

enum class momentum_form { plain, nesterov };
enum class amf_form { printed, corrected };

inline void adamw(optimizer_state& s, double g, int t, const optimizer_rule& r) {
  s.p *= 1 - r.lr * r.decay;
  s.m = r.beta1 * s.m + (1 - r.beta1) * g;
  s.v = r.beta2 * s.v + (1 - r.beta2) * g * g;
  const double mean = s.m / (1 - std::pow(r.beta1, t));
  const double square = s.v / (1 - std::pow(r.beta2, t));
  s.p -= r.lr * mean / (std::sqrt(square) + r.eps);
}

inline void lion(optimizer_state& s, double g, const optimizer_rule& r) {
  s.p *= 1 - r.lr * r.decay;
  const double direction = r.beta1 * s.m + (1 - r.beta1) * g;
  s.p -= direction > 0 ? r.lr : (direction < 0 ? -r.lr : 0);
  s.m = r.beta2 * s.m + (1 - r.beta2) * g;
}

inline void sgd(optimizer_state& s, double g, const optimizer_rule& r,
                momentum_form form = momentum_form::plain) {
  s.p *= 1 - r.lr * r.decay;
  s.m = r.momentum * s.m + g;
  s.p -= r.lr * (form == momentum_form::plain ? s.m : g + r.momentum * s.m);
}

inline void amf(optimizer_state& s, double g, int t, const optimizer_rule& r, amf_form form) {
  const bool corrected = form == amf_form::corrected;
  if (corrected) s.p *= 1 - r.lr * r.decay;
  s.m = r.beta1 * s.m + (1 - r.beta1) * g;
  s.v = r.beta2 * s.v + (1 - r.beta2) * g * g;
  const double mean = corrected ? s.m / (1 - std::pow(r.beta1, t)) : s.m;
  const double square = corrected ? s.v / (1 - std::pow(r.beta2, t)) : s.v;
  s.buffer = r.momentum * s.buffer + r.lr * mean / (std::sqrt(square) + r.eps);
  s.p -= s.buffer;
}

}  // namespace oracle
