// SPDX-License-Identifier: Apache-2.0
// trainer: groups of micro-batches with different numbers of counted tokens, groups without any,
// clipping that does nothing, going on after a loss that was not finite, errors of the data.
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/linear.hpp"
#include "deepseek/layers/mlp.hpp"
#include "deepseek/layers/norm.hpp"
#include "deepseek/layers/residual.hpp"
#include "deepseek/train/trainer.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "support/compare.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <vector>

namespace ds = deepseek;

namespace {

struct net
    : ds::chain<ds::embedding<13, 8>, ds::residual<ds::chain<ds::rms_norm<8>, ds::swiglu<8, 12>>>,
                ds::called<"head", ds::linear<8, 13>>> {};
template <class T>
using model = ds::model<net, T, ds::cpu>;
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

// The next of 13 numbers in a fixed cycle; every fifth target of the first 20 is not counted.
struct task {
  std::vector<std::int32_t> tokens, targets;
  explicit task(int n, int ignored = 0) {
    for (int i = 0; i < n; ++i) {
      tokens.push_back((7 * i * i + 3 * i) % 13);
      targets.push_back(i < ignored ? -100 : (5 * tokens.back() + 2) % 13);
    }
  }
  ids x(ds::index_t first, ds::index_t n) const { return {tokens.data() + first, {n}}; }
  ids y(ds::index_t first, ds::index_t n) const { return {targets.data() + first, {n}}; }
};

template <class M>
std::vector<double> values(const M& m) {
  std::vector<double> all;
  ds::visit(
      [&](const ds::tensor_name&, const auto& t) {
        for (ds::index_t i = 0; i < t.size(); ++i) all.push_back(static_cast<double>(t.data()[i]));
      },
      m.parameters());
  return all;
}

template <class T>
model<T> make(const ds::cpu& b) {
  return model<T>(b, ds::normal_init{.stddev = 0.4, .seed = 3});
}

constexpr ds::sgd plain_sgd{.momentum = 0, .weight_decay = 0};
constexpr ds::constant_rate rate{.peak = 0.1};

// The parameters after one group of `parts` micro-batches of 40 tokens in all; and its result.
struct outcome {
  std::vector<double> values;
  ds::train_result result;
};
outcome one_group(const task& data, const std::vector<ds::index_t>& parts, double clip) {
  const ds::cpu b;
  auto m = make<double>(b);
  ds::trainer t(b, m, plain_sgd, rate,
                {.accumulate = static_cast<ds::index_t>(parts.size()), .clip = clip});
  std::optional<ds::train_result> r;
  ds::index_t at = 0;
  for (ds::index_t n : parts) {
    CHECK(!r);
    r = t.micro_step(data.x(at, n), data.y(at, n));
    at += n;
  }
  REQUIRE(r);
  return {values(m), *r};
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) squares += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(squares);
}

}  // namespace

TEST_CASE("trainer: a group of micro-batches is one big batch, whatever their sizes") {
  for (int ignored : {0, 15}) {  // micro-batches with different numbers of counted tokens
    const task data(40, ignored);
    const outcome whole = one_group(data, {40}, 0);
    CHECK(whole.result.tokens == 40 - ignored);
    CHECK(whole.result.step == 1);
    for (const auto& parts :
         {std::vector<ds::index_t>{10, 10, 10, 10}, std::vector<ds::index_t>{3, 17, 1, 19}}) {
      const outcome split = one_group(data, parts, 0);
      support::expect_true("trainer", support::text("ignored", ignored, "first", parts[0]),
                           distance(split.values, whole.values) <= 1e-14,
                           "the parameters differ from those of one batch");
      CHECK(split.result.loss == doctest::Approx(whole.result.loss).epsilon(1e-13));
      CHECK(split.result.norm == doctest::Approx(whole.result.norm).epsilon(1e-12));
      CHECK(split.result.tokens == whole.result.tokens);
    }
  }
}

TEST_CASE("trainer: a partial group is divided by its own tokens; an empty one does nothing") {
  const task data(40);
  const ds::cpu b;
  auto m = make<double>(b);
  ds::trainer t(b, m, plain_sgd, rate, {.accumulate = 4, .clip = 0});
  CHECK(!t.flush());
  CHECK(!t.micro_step(data.x(0, 10), data.y(0, 10)));
  CHECK(!t.micro_step(data.x(10, 10), data.y(10, 10)));
  const auto r = t.flush();
  REQUIRE(r);
  CHECK(r->tokens == 20);
  CHECK(r->lr == 0.1);
  CHECK(distance(values(m), one_group(data, {20}, 0).values) <= 1e-14);
  CHECK(!t.flush());
  for (double g : [&] {
         std::vector<double> all;
         ds::visit([&](const ds::tensor_name&, const auto& x) { all.push_back(x.data()[0]); },
                   t.gradients());
         return all;
       }()) {
    CHECK(g == 0);
  }
}

TEST_CASE("trainer: a group without a counted token changes nothing") {
  const task data(8, 8);
  const ds::cpu b;
  auto m = make<double>(b);
  const auto before = values(m);
  ds::trainer t(b, m, ds::adamw{}, rate);
  const auto r = t.micro_step(data.x(0, 8), data.y(0, 8));
  REQUIRE(r);
  CHECK(r->tokens == 0);
  CHECK(r->loss == 0);
  CHECK(r->step == 0);
  CHECK(values(m) == before);
}

TEST_CASE("trainer: clipping by the global norm") {
  const task data(40);
  const ds::cpu b;
  const auto start = values(make<double>(b));
  const outcome free = one_group(data, {40}, 0);
  const double norm = free.result.norm;
  CHECK(norm == doctest::Approx(distance(free.values, start) / 0.1).epsilon(1e-10));
  const outcome wide = one_group(data, {40}, 2 * norm), tight = one_group(data, {40}, norm / 4);
  CHECK(distance(wide.values, free.values) == 0);
  CHECK(tight.result.norm == doctest::Approx(norm).epsilon(1e-13));
  const double factor = norm / 4 / (norm + 1e-6);
  CHECK(distance(tight.values, start) ==
        doctest::Approx(factor * distance(free.values, start)).epsilon(1e-10));
}

TEST_CASE("trainer: what is not finite is an error and moves nothing") {
  const task data(40);
  const ds::cpu b;
  auto m = make<float>(b);
  ds::trainer t(b, m, ds::adamw{}, rate, {.accumulate = 2});
  t.micro_step(data.x(0, 20), data.y(0, 20));
  t.micro_step(data.x(20, 20), data.y(20, 20));
  std::vector<float> state;
  const auto collect = [&] {
    state.clear();
    t.optimizer().visit_state([&](const std::string&, auto& s) {
      state.insert(state.end(), s.data(), s.data() + s.size());
    });
    return state;
  };
  const auto moments = collect();
  float* table = nullptr;
  ds::visit(
      [&](const ds::tensor_name& at, auto& w) {
        if (at.path == "embed.weight") table = w.data();
      },
      m.parameters());
  float& broken = *table;
  const float kept = broken;
  broken = NAN;
  const auto before = values(m);
  CHECK_ERROR(ds::error_code::nonfinite, "trainer: the loss is", "step 1",
              t.micro_step(data.x(0, 20), data.y(0, 20)));
  const auto after = values(m);
  CHECK(std::equal(before.begin(), before.end(), after.begin(),
                   [](double x, double y) { return x == y || (std::isnan(x) && std::isnan(y)); }));
  CHECK(collect() == moments);
  broken = kept;
  CHECK(!t.micro_step(data.x(0, 20), data.y(0, 20)));
  CHECK(t.micro_step(data.x(20, 20), data.y(20, 20))->step == 2);
}

TEST_CASE("trainer: errors") {
  const ds::cpu b;
  auto m = make<float>(b);
  const auto with = [&](ds::trainer_config c) { ds::trainer t(b, m, ds::adamw{}, rate, c); };
  CHECK_ERROR(ds::error_code::invalid_argument, "accumulate is 0", with({.accumulate = 0}));
  CHECK_ERROR(ds::error_code::invalid_argument, "clip is -1", with({.clip = -1}));
  const task data(8);
  ds::trainer t(b, m, ds::adamw{}, rate);
  const std::int32_t far[] = {13};
  CHECK_ERROR(ds::error_code::index_range, "13", t.micro_step(data.x(0, 1), ids(far, {1})));
  CHECK_ERROR(ds::error_code::shape_mismatch, "targets[3]",
              t.micro_step(data.x(0, 2), data.y(0, 3)));
}
