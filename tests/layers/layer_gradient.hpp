// SPDX-License-Identifier: Apache-2.0
// Any layer against 4-point differences in double: its loss is a fixed weighted sum of its outputs
// plus what it reports as auxiliary loss, over its trained parameters and (real) inputs.
#pragma once

#include "deepseek/layers/model.hpp"
#include "support/gradient.hpp"

#include <memory>
#include <type_traits>
#include <vector>

namespace layer_test {

namespace ds = deepseek;

template <class B, class Net, class X>
class harness {
 public:
  using parameters = ds::parameters<Net, double, ds::host>;
  static constexpr bool real_input = std::is_same_v<typename X::value_type, double>;

  harness(const B& b, X x, ds::run_options<ds::host> run) : b_(b), x_(x), run_(run) {
    ds::initialize(ds::normal_init{.stddev = 0.4, .seed = 5}, *p_);
    // Norm weights away from one, biases away from zero: every factor must matter.
    ds::visit(
        [&](const ds::tensor_name& at, auto& t) {
          if constexpr (std::is_same_v<typename std::remove_cvref_t<decltype(t)>::value_type,
                                       double>) {
            if (at.role == ds::field_role::state) return;
            for (ds::index_t i = 0; i < t.size(); ++i)
              t.data()[i] += 0.1 * std::sin(1.0 + static_cast<double>(i));
          }
        },
        *p_);
  }

  parameters& weights() { return *p_; }

  // Trained parameters, then the input if it is real.
  std::vector<double> gather() const {
    std::vector<double> all;
    each_trained(*p_, [&](auto& t) { all.insert(all.end(), t.data(), t.data() + t.size()); });
    if constexpr (real_input) all.insert(all.end(), x_.data(), x_.data() + x_.size());
    return all;
  }
  double loss(const std::vector<double>& at) {
    scatter(at);
    ds::keep<ds::nothing, Net, double, ds::host> kept;
    ds::arena<ds::host> tape;
    return run(tape, kept);
  }
  std::vector<double> gradient() {
    ds::keep<ds::for_backward, Net, double, ds::host> kept;
    ds::arena<ds::host> tape;
    run(tape, kept);
    auto g = std::make_unique<parameters>();
    ds::tensor<double, ds::host, ds::dyn, ds::dyn> dx(
        {x_.extent(0), real_input ? x_.extent(X::rank - 1) : 1});
    const auto dy = ds::as_const(
        ds::view<double, ds::host, ds::dyn, Net::out>(weights_.data(), {rows_, Net::out}));
    const ds::call<B> c{b_, run_, b_.workspace(), tape, 7, {}};
    if constexpr (real_input) {
      ds::run_backward<Net>(c, *p_, ds::as_const(x_), dy, dx.view(), kept, *g);
    } else {
      ds::run_backward<Net>(c, *p_, ds::as_const(x_), dy, ds::none{}, kept, *g);
    }
    std::vector<double> all;
    each_trained(*g, [&](auto& t) { all.insert(all.end(), t.data(), t.data() + t.size()); });
    if constexpr (real_input) all.insert(all.end(), dx.data(), dx.data() + dx.size());
    return all;
  }

 private:
  template <class P, class F>
  static void each_trained(P& p, const F& f) {
    ds::visit(
        [&](const ds::tensor_name& at, auto& t) {
          if constexpr (std::is_same_v<typename std::remove_cvref_t<decltype(t)>::value_type,
                                       double>) {
            if (at.role == ds::field_role::trained) f(t);
          }
        },
        p);
  }
  void scatter(const std::vector<double>& at) {
    std::size_t i = 0;
    each_trained(*p_, [&](auto& t) {
      for (ds::index_t j = 0; j < t.size(); ++j) t.data()[j] = at[i++];
    });
    if constexpr (real_input) {
      for (ds::index_t j = 0; j < x_.size(); ++j) const_cast<double*>(x_.data())[j] = at[i++];
    }
  }
  template <class K>
  double run(ds::arena<ds::host>& tape, K& kept) {
    rows_ = x_.extent(0);
    std::vector<double> y(static_cast<std::size_t>(rows_ * Net::out));
    ds::run_report report;
    auto options = run_;
    options.report = &report;
    const ds::scope freed(b_.workspace());
    const ds::call<B> c{b_, options, b_.workspace(), tape, 7, {}};
    ds::run_forward<Net>(c, *p_, ds::as_const(x_),
                         ds::view<double, ds::host, ds::dyn, Net::out>(y.data(), {rows_, Net::out}),
                         kept);
    weights_ = support::loss_weights(y.size());
    return support::weighted_sum(weights_, y) + report.auxiliary_loss;
  }

  const B& b_;
  X x_;
  ds::run_options<ds::host> run_;
  ds::index_t rows_ = 0;
  std::vector<double> weights_;
  std::unique_ptr<parameters> p_ = std::make_unique<parameters>();
};

// Every derivative when there are few, else eight random directions. `prepare` may change the
// parameters first: a gate needs weights for which no choice flips within a step.
template <class Net, class B, class X, class F>
void expect_layer_gradient(const B& b, const char* name, X x, ds::run_options<ds::host> run,
                           const F& prepare) {
  harness<B, Net, X> h(b, x, run);
  prepare(h.weights());
  const auto at = h.gather();
  const auto g = h.gradient();
  const auto loss = [&](const std::vector<double>& p) { return h.loss(p); };
  const auto result = at.size() <= 400 ? support::check_gradient(loss, at, g)
                                       : support::check_directions(loss, at, g);
  support::expect_gradient(name, name, result);
  h.loss(at);
  support::expect_gradient(name, "again", support::check_directions(loss, at, h.gradient(), 2));
}
template <class Net, class B, class X>
void expect_layer_gradient(const B& b, const char* name, X x,
                           ds::run_options<ds::host> run = {.how = ds::mode::training, .seed = 3}) {
  expect_layer_gradient<Net>(b, name, x, run, [](auto&) {});
}

}  // namespace layer_test
