// SPDX-License-Identifier: Apache-2.0
// Optimizers over a whole parameter struct: 30 steps against the oracle, what decays, what is left
// alone, what is saved.
#include "deepseek/train/optimizer.hpp"

#include <doctest/doctest.h>

#include <set>

#include "deepseek/backend/cpu/cpu.hpp"

#include "oracle/optimizer.hpp"
#include "support/compare.hpp"
#include "support/report.hpp"

namespace ds = deepseek;

namespace {

template <class T>
struct weights {
  struct layer {};
  ds::tensor<T, ds::host, 3, 4> matrix;
  ds::tensor<T, ds::host, 5> norm;
  ds::tensor<float, ds::host, 2> load;
  static constexpr auto fields() {
    return std::tuple{ds::named("matrix", &weights::matrix),
                      ds::named("norm.weight", &weights::norm, ds::first_value::one),
                      ds::buffer("load", &weights::load)};
  }
};
using params = weights<double>;

double gradient(int step, int i) {
  return std::sin(1.7 * step + i) + 0.01 * i;
}

void set_gradient(params& g, int step) {
  for (int i = 0; i < 12; ++i) g.matrix.data()[i] = gradient(step, i);
  for (int i = 0; i < 5; ++i) g.norm.data()[i] = gradient(step, 12 + i);
  g.load.data()[0] = 5;
}

// Thirty steps of a rule beside `one_step(state, gradient, t, decays)` on plain numbers.
template <class Rule, class Step>
void against_oracle(const char* name, const Rule& rule, ds::decays which, const Step& one_step) {
  const ds::cpu b{{.threads = 2}};
  params p, g;
  for (int i = 0; i < 12; ++i) p.matrix.data()[i] = 0.3 * i - 1;
  for (int i = 0; i < 5; ++i) p.norm.data()[i] = 1 + 0.1 * i;
  p.load.data()[1] = 0.25f;
  std::vector<oracle::optimizer_state> expected(17);
  for (int i = 0; i < 17; ++i) {
    expected[static_cast<std::size_t>(i)].p = i < 12 ? 0.3 * i - 1 : 1 + 0.1 * (i - 12);
  }
  ds::optimizer run(rule, p, which);
  for (int t = 1; t <= 30; ++t) {
    set_gradient(g, t);
    run.step(b, p, g, 1e-2, 0.5);
    for (int i = 0; i < 17; ++i) {
      const bool decays = i < 12 || which == ds::decays::everything;
      one_step(expected[static_cast<std::size_t>(i)], 0.5 * gradient(t, i), t, decays);
    }
  }
  double worst = 0;
  for (int i = 0; i < 17; ++i) {
    const double got = i < 12 ? p.matrix.data()[i] : p.norm.data()[i - 12];
    worst = std::max(worst, std::fabs(got - expected[static_cast<std::size_t>(i)].p));
  }
  support::expect_true("optimizer", name, worst <= 1e-14, "parameters differ from the oracle");
  CHECK(run.steps() == 30);
  CHECK(p.load.data()[0] == 0);  // buffers are not the optimizer's
  CHECK(p.load.data()[1] == 0.25f);
}

oracle::optimizer_rule rule_of(double b1, double b2, double decay) {
  return {.lr = 1e-2, .beta1 = b1, .beta2 = b2, .eps = 1e-8, .decay = decay, .momentum = 0.9};
}

}  // namespace

TEST_CASE("thirty steps of every rule") {
  using state = oracle::optimizer_state;
  for (const ds::decays which : {ds::decays::matrices, ds::decays::everything}) {
    against_oracle("adamw", ds::adamw{.weight_decay = 0.1}, which,
                   [](state& s, double g, int t, bool decays) {
                     oracle::adamw(s, g, t, rule_of(0.9, 0.95, decays ? 0.1 : 0));
                   });
    against_oracle("lion", ds::lion{}, which, [](state& s, double g, int, bool decays) {
      oracle::lion(s, g, rule_of(0.9, 0.99, decays ? 0.01 : 0));
    });
    against_oracle("sgd nesterov", ds::sgd{.weight_decay = 0.2, .how = ds::sgd_momentum::nesterov},
                   which, [](state& s, double g, int, bool decays) {
                     oracle::sgd(s, g, rule_of(0, 0, decays ? 0.2 : 0),
                                 oracle::momentum_form::nesterov);
                   });
    against_oracle("amf corrected", ds::amf{.weight_decay = 0.1}, which,
                   [](state& s, double g, int t, bool decays) {
                     oracle::amf(s, g, t, rule_of(0.9, 0.999, decays ? 0.1 : 0),
                                 oracle::amf_form::corrected);
                   });
    against_oracle("amf printed", ds::amf{.form = ds::amf_form::printed}, which,
                   [](state& s, double g, int t, bool) {
                     oracle::amf(s, g, t, rule_of(0.9, 0.999, 0), oracle::amf_form::printed);
                   });
  }
}

TEST_CASE("the state names every trained tensor once per moment") {
  const params p;
  ds::optimizer run(ds::adamw{}, p);
  std::set<std::string> names;
  run.visit_state([&](const std::string& name, auto&) { names.insert(name); });
  CHECK(names == std::set<std::string>{"0.matrix", "0.norm.weight", "1.matrix", "1.norm.weight"});
  run.set_steps(7);
  CHECK(run.steps() == 7);
}
