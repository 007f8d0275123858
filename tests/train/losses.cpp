// SPDX-License-Identifier: Apache-2.0
// A trainer that distils, contrastive_loss with its learned temperature, and weights of tasks.
#include "deepseek/train/losses.hpp"
#include "deepseek/train/contrastive.hpp"
#include "deepseek/train/multi_task.hpp"

#include "deepseek/deepseek.hpp"

#include "support/gradient.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <cmath>

namespace ds = deepseek;
using reals = std::vector<double>;
using matrix = ds::view<double, ds::host, ds::dyn, ds::dyn>;
using vector = ds::view<double, ds::host, ds::dyn>;

namespace {

struct net : ds::chain<ds::embedding<6, 5>, ds::called<"head", ds::linear<5, 6>>> {};
using model = ds::model<net, double, ds::cpu>;
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
const std::int32_t text[] = {0, 1, 2, 3, 4, 5}, next[] = {3, 1, -100, 5, 0, 2};

reals drawn(std::size_t n, const char* stream) {
  support::numbers from{std::string(stream)};
  return support::draw(support::values::normal, n, from);
}

}  // namespace

TEST_CASE("distilled_loss: with hard = 1 it is cross entropy, with hard = 0 it meets the teacher") {
  const ds::cpu b;
  const ds::normal_init init{.stddev = 0.5, .seed = 2};
  const model teacher(b, ds::normal_init{.stddev = 1.5, .seed = 8});
  const auto scores = teacher(b, ids(text, {6}));
  const ds::distillation_targets targets{scores, ids(next, {6})};
  model plain(b, init), hard(b, init), soft(b, init);
  ds::trainer one(b, plain, ds::adamw{}, ds::constant_rate{.peak = 0.02}, {.accumulate = 2});
  ds::trainer two(b, hard, ds::adamw{}, ds::constant_rate{.peak = 0.02}, {.accumulate = 2},
                  ds::distilled_loss{.temperature = 2, .hard = 1});
  ds::trainer three(b, soft, ds::adamw{.weight_decay = 0}, ds::constant_rate{.peak = 0.02}, {},
                    ds::distilled_loss{.temperature = 2, .hard = 0});
  ds::train_result r, last;
  for (int step = 0; step < 400; ++step) {
    const auto a = one.micro_step(ids(text, {6}), ids(next, {6}));
    const auto c = two.micro_step(ids(text, {6}), targets);
    CHECK(a.has_value() == c.has_value());
    if (a) CHECK(std::fabs(a->loss - c->loss) < 1e-12);
    last = *three.micro_step(ids(text, {6}), ds::distillation_targets{scores, ds::none{}});
    if (step == 0) r = last;
  }
  CHECK(r.loss > 0.2);
  CHECK(last.loss < 0.01 * r.loss);
  CHECK(last.tokens == 6);
  // The student answers as the teacher does.
  const auto got = soft(b, ids(text, {6}));
  for (ds::index_t i = 0; i < 6; ++i) {
    ds::index_t x = 0, y = 0;
    for (ds::index_t v = 1; v < 6; ++v) {
      if (got.view()(i, v) > got.view()(i, x)) x = v;
      if (scores.view()(i, v) > scores.view()(i, y)) y = v;
    }
    CHECK(x == y);
  }
}

TEST_CASE("contrastive_loss: gradients of both sides and of the temperature") {
  for (const int threads : {1, 2}) {
    const ds::cpu b{{.threads = threads}};
    reals x = drawn(20, "x"), y = drawn(20, "y"), t = {0.3};
    reals dx(20), dy(20), dt = {1};
    const auto value = [&](const reals& all) {
      reals xs(all.begin(), all.begin() + 20), ys(all.begin() + 20, all.begin() + 40),
          ts(all.end() - 1, all.end()), g1(20), g2(20), g3(1);
      return 2 * ds::contrastive_loss(
                     b,
                     ds::contrastive_inputs{matrix(xs.data(), {5, 4}), matrix(ys.data(), {5, 4}),
                                            vector(ts.data(), {1})},
                     ds::contrastive_gradients{matrix(g1.data(), {5, 4}), matrix(g2.data(), {5, 4}),
                                               vector(g3.data(), {1})});
    };
    ds::contrastive_loss(
        b,
        ds::contrastive_inputs{matrix(x.data(), {5, 4}), matrix(y.data(), {5, 4}),
                               vector(t.data(), {1})},
        ds::contrastive_gradients{matrix(dx.data(), {5, 4}), matrix(dy.data(), {5, 4}),
                                  vector(dt.data(), {1})},
        2);
    reals at = x, g = dx;
    at.insert(at.end(), y.begin(), y.end());
    at.push_back(t[0]);
    g.insert(g.end(), dy.begin(), dy.end());
    g.push_back(dt[0] - 1);  // it was added to
    support::expect_gradient("contrastive_gradient", "contrastive_loss",
                             support::check_gradient(value, at, g));
    static const reals once = g;
    CHECK(support::same_bits(g, once));
    CHECK_ERROR(ds::error_code::shape_mismatch, "contrastive_loss: y[4, 5]",
                ds::contrastive_loss(
                    b,
                    ds::contrastive_inputs{matrix(x.data(), {5, 4}), matrix(y.data(), {4, 5}),
                                           vector(t.data(), {1})},
                    ds::contrastive_gradients{matrix(dx.data(), {5, 4}), matrix(dy.data(), {5, 4}),
                                              vector(dt.data(), {1})}));
    CHECK_ERROR(ds::error_code::shape_mismatch, "log_scale has 2",
                ds::contrastive_loss(
                    b,
                    ds::contrastive_inputs{matrix(x.data(), {5, 4}), matrix(y.data(), {5, 4}),
                                           vector(x.data(), {2})},
                    ds::contrastive_gradients{matrix(dx.data(), {5, 4}), matrix(dy.data(), {5, 4}),
                                              vector(dt.data(), {1})}));
  }
}

TEST_CASE("contrastive_loss: pairs find each other, the temperature stays below its limit") {
  const ds::cpu b;
  reals x = drawn(32, "left"), y = drawn(32, "right"), t = {ds::first_log_scale};
  CHECK(t[0] == doctest::Approx(2.6592600369));
  double first = 0, last = 0;
  for (int step = 0; step < 300; ++step) {
    reals dx(32), dy(32), dt(1);
    last = ds::contrastive_loss(
        b,
        ds::contrastive_inputs{matrix(x.data(), {8, 4}), matrix(y.data(), {8, 4}),
                               vector(t.data(), {1})},
        ds::contrastive_gradients{matrix(dx.data(), {8, 4}), matrix(dy.data(), {8, 4}),
                                  vector(dt.data(), {1})});
    if (step == 0) first = last;
    for (std::size_t i = 0; i < 32; ++i) x[i] -= 0.1 * dx[i], y[i] -= 0.1 * dy[i];
    t[0] -= dt[0];
    ds::tensor<double, ds::host, 1> log_scale;
    log_scale.data()[0] = t[0];
    ds::clamp_log_scale(log_scale);
    t[0] = log_scale.data()[0];
    CHECK(t[0] <= ds::largest_log_scale);
  }
  CHECK(first > 1);
  CHECK(last < 0.2 * first);
}

TEST_CASE("weights of tasks: fixed, and learned until each weighted loss is one half") {
  const ds::cpu b;
  const ds::fixed_task_weights fixed({0.25, 2});
  const auto f = fixed(b, {4, 3});
  CHECK(f.total == 7);
  CHECK(f.weights == reals{0.25, 2});
  ds::uncertainty_weights learned({ds::task_loss::likelihood, ds::task_loss::squared_error}, 0.1);
  auto w = learned(b, {4, 3});
  CHECK(w.weights == reals{1, 0.5});
  CHECK(w.total == 5.5);
  for (int step = 0; step < 500; ++step) w = learned(b, {4, 3});
  CHECK(w.weights[0] * 4 == doctest::Approx(0.5).epsilon(1e-6));
  CHECK(w.weights[1] * 3 == doctest::Approx(0.5).epsilon(1e-6));
  CHECK(learned.log_variances()[0] == doctest::Approx(std::log(8.0)).epsilon(1e-6));
  CHECK_ERROR(ds::error_code::invalid_argument, "1 losses for 2 tasks", learned(b, {1}));
  const double nan = std::nan("");
  CHECK_ERROR(ds::error_code::nonfinite, "loss 1 is nan", fixed(b, {4, nan}));
  CHECK_ERROR(ds::error_code::nonfinite, "loss 0 is inf", learned(b, {HUGE_VAL, 1}));
  CHECK_ERROR(ds::error_code::invalid_argument, "a weight is nan",
              ds::fixed_task_weights({1, nan}));
  CHECK_ERROR(ds::error_code::invalid_argument, "lr is -1",
              ds::uncertainty_weights({ds::task_loss::likelihood}, -1));
  CHECK_ERROR(ds::error_code::invalid_argument, "3 losses for 2 tasks", fixed(b, {1, 2, 3}));
}

TEST_CASE("a reward head: one number a row, trained on ranked answers") {
  struct reward_net : ds::chain<ds::embedding<6, 4>, ds::called<"reward", ds::linear<4, 1>>> {};
  const ds::cpu b;
  ds::model<reward_net, double, ds::cpu> m(b, ds::normal_init{.stddev = 0.3, .seed = 4});
  using parameters = ds::model<reward_net, double, ds::cpu>::parameters_type;
  ds::optimizer<ds::adamw, parameters> step(ds::adamw{.weight_decay = 0}, m.parameters());
  // Three answers of two tokens; the last row of each counts; ranked 1, 2, 0.
  const std::int32_t rows[] = {3, 5, 1},
                     ranked[] = {rows[1], rows[2], rows[1], rows[0], rows[2], rows[0]};
  const ds::view<const std::int32_t, ds::host, ds::dyn, ds::dyn> pairs(ranked, {3, 2});
  const ds::view<const std::int32_t, ds::host, ds::dyn> tokens(text, {6});
  auto tape = m.tape(b);
  double first = 0;
  ds::preference_result last;
  for (int i = 0; i < 200; ++i) {
    const auto y = m.forward(b, tokens, tape);
    const vector rewards(y.data(), {6});
    last = ds::ops::preference(b, rewards, pairs);
    if (i == 0) first = last.mean;
    ds::ops::preference_gradient(b, rewards, pairs, rewards);
    CHECK((rewards(0) == 0 && rewards(2) == 0 && rewards(4) == 0));
    auto g = std::make_unique<parameters>();
    m.backward(b, tokens, tape, y, *g);
    step.step(b, m.parameters(), *g, 0.02);
  }
  CHECK(last.accuracy == 1);
  CHECK(last.mean < 0.2 * first);
  const auto y = m(b, tokens);
  CHECK(y.data()[5] > y.data()[1]);
  CHECK(y.data()[1] > y.data()[3]);
}
