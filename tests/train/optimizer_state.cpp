// SPDX-License-Identifier: Apache-2.0
// optimizer: what decays among stacked parameters, buffers that stay, going on from a saved state,
// errors before anything moves.
#include "deepseek/train/optimizer.hpp"

#include "deepseek/backend/cpu/optimizer.hpp"
#include "deepseek/backend/reference/optimizer.hpp"

#include "support/compare.hpp"
#include "support/report.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <map>
#include <vector>

namespace ds = deepseek;

namespace {

struct toy {
  ds::tensor<double, ds::host, 5, 7> weight;
  ds::tensor<double, ds::host, 5> bias;
  ds::tensor<double, ds::host, 2, 3> stacked_bias;  // experts side by side: still no matrix
  ds::tensor<double, ds::host, 4, 2> load;
  static constexpr auto fields() {
    return std::tuple{ds::named("weight", &toy::weight),
                      ds::named("bias", &toy::bias, ds::first_value::zero),
                      ds::named("experts.bias", &toy::stacked_bias, ds::first_value::zero),
                      ds::buffer("load", &toy::load)};
  }
};

void fill(toy& p, const char* stream, double scale = 1) {
  support::numbers from{std::string(stream)};
  ds::visit(
      [&](const ds::tensor_name&, auto& t) {
        for (ds::index_t i = 0; i < t.size(); ++i) t.data()[i] = scale * from.normal();
      },
      p);
}

struct parameter {
  std::string path;
  double value;
};
std::vector<parameter> all(const toy& p) {
  std::vector<parameter> out;
  ds::visit(
      [&](const ds::tensor_name& at, const auto& t) {
        for (ds::index_t i = 0; i < t.size(); ++i) out.push_back({at.path, t.data()[i]});
      },
      p);
  return out;
}

}  // namespace

TEST_CASE("optimizer: only matrices decay, not the biases of experts side by side") {
  const ds::cpu b;
  for (ds::decays which : {ds::decays::matrices, ds::decays::everything}) {
    toy p, zero;
    fill(p, "parameters");
    const auto before = all(p);
    ds::optimizer o(ds::sgd{.weight_decay = 0.5}, p, which);
    o.step(b, p, zero, 0.1);
    const auto now = all(p);
    for (std::size_t i = 0; i < now.size(); ++i) {
      const bool decays = before[i].path == "weight" ||
                          (which == ds::decays::everything && before[i].path != "load");
      CHECK(now[i].value ==
            doctest::Approx(before[i].value * (decays ? 0.95 : 1.0)).epsilon(1e-15));
      if (!decays) CHECK(now[i].value == before[i].value);
    }
  }
}

TEST_CASE("optimizer: buffers stay, the state has names, a saved state goes on") {
  const ds::cpu b;
  toy p, g, q;
  fill(p, "parameters");
  const auto load = p.load;
  const ds::adamw rule;
  ds::optimizer<ds::adamw, toy> o(rule, p), resumed(rule, q);
  for (int t = 0; t < 3; ++t) {
    fill(g, "g");
    o.step(b, p, g, 0.01);
  }
  CHECK(std::equal(load.data(), load.data() + load.size(), p.load.data()));
  std::map<std::string, std::vector<double>> saved;
  o.visit_state(
      [&](const std::string& name, auto& t) { saved[name].assign(t.data(), t.data() + t.size()); });
  CHECK(saved.size() == 6);
  for (const char* name : {"0.weight", "1.weight", "0.experts.bias", "1.bias"}) {
    CHECK_MESSAGE(saved.count(name) == 1, name);
  }
  CHECK(saved["1.weight"][0] > 0);
  q = p;
  resumed.visit_state([&](const std::string& name, auto& t) {
    std::copy(saved[name].begin(), saved[name].end(), t.data());
  });
  resumed.set_steps(o.steps());
  for (int t = 0; t < 3; ++t) {
    fill(g, "more");
    o.step(b, p, g, 0.01);
    resumed.step(b, q, g, 0.01);
  }
  const auto x = all(p), y = all(q);
  bool equal = true;
  for (std::size_t i = 0; i < x.size(); ++i) equal = equal && x[i].value == y[i].value;
  support::expect_true("optimizer", "resumed", equal, "other bits than without a break");
  CHECK(resumed.steps() == 6);
}

TEST_CASE("optimizer: errors before anything moves") {
  const ds::cpu b;
  toy p, g;
  fill(p, "parameters");
  const auto before = all(p);
  const auto unchanged = [&] {
    const auto now = all(p);
    bool equal = true;
    for (std::size_t i = 0; i < now.size(); ++i) equal = equal && now[i].value == before[i].value;
    return equal;
  };
  ds::optimizer<ds::adamw, toy> o(ds::adamw{.beta1 = 1}, p), good(ds::adamw{}, p);
  CHECK_ERROR(ds::error_code::invalid_argument, "beta1 is 1", o.step(b, p, g, 0.1));
  CHECK(o.steps() == 0);
  CHECK_ERROR(ds::error_code::invalid_argument, "lr is -1", good.step(b, p, g, -1));
  CHECK_ERROR(ds::error_code::invalid_argument, "gradient_factor is inf",
              good.step(b, p, g, 0.1, HUGE_VAL));
  CHECK(good.steps() == 0);
  CHECK(unchanged());
}
