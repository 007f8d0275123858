// SPDX-License-Identifier: Apache-2.0
// Tokens and router weights whose logits are far apart, so that no step of a difference changes a
// choice: token t is mostly unit vector t mod D, the router's rows are a Latin square.
#pragma once

#include "layers/layer_trial.hpp"

#include <cmath>

namespace layer_test {

template <class T, ds::index_t D>
rows_of<T, D> unit_like(ds::index_t tokens) {
  rows_of<T, D> x(tokens);
  const auto dim = static_cast<std::size_t>(D);
  for (std::size_t i = 0; i < x.values().size(); ++i) {
    x.values()[i] = static_cast<T>(0.05 * std::sin(static_cast<double>(3 * i)) +
                                   (i % dim == i / dim % dim ? 1 : 0));
  }
  return x;
}

// The router's linear map; its noise, if it has one, is small.
struct sharp_router {
  template <class P>
  void operator()(P& p) const {
    auto w = p.gate.weight.view();
    using Real = typename decltype(w)::value_type;
    for (ds::index_t e = 0; e < w.extent(0); ++e) {
      for (ds::index_t d = 0; d < w.extent(1); ++d) {
        w(e, d) = static_cast<Real>(0.5 * static_cast<double>((e + d) % w.extent(0)));
      }
    }
    if constexpr (requires { p.gate.noise; }) {
      for (ds::index_t i = 0; i < w.size(); ++i) {
        p.gate.noise.data()[i] = static_cast<Real>(-3 + 0.1 * std::cos(static_cast<double>(i)));
      }
    }
  }
};

// What a run in training reports.
template <class Net, class B, class X, class F>
double reported(const B& b, const X& x, options run, const F& prepare) {
  trial<Net, double> t;
  prepare(t.p);
  ds::run_report report;
  run.report = &report;
  t.forward(b, x, run);
  return report.auxiliary_loss;
}

}  // namespace layer_test
