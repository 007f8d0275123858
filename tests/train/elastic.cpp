// SPDX-License-Identifier: Apache-2.0
// Elastic weight consolidation: the Fisher information against its definition, drawn targets
// against the exact expectation, the penalty's gradient, a step of a trainer with it, and two
// tasks.
#include "deepseek/train/elastic.hpp"

#include "deepseek/deepseek.hpp"

#include "support/gradient.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <cmath>

namespace ds = deepseek;

namespace {

struct net : ds::chain<ds::embedding<5, 4>, ds::called<"head", ds::linear<4, 5>>> {};
using model = ds::model<net, double, ds::cpu>;
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
using reals = std::vector<double>;

model make(const ds::cpu& b) {
  return model(b, ds::normal_init{.stddev = 0.7, .seed = 5});
}
template <class P>
reals flat(const P& p) {
  reals all;
  ds::visit([&](const ds::tensor_name&,
                const auto& t) { all.insert(all.end(), t.data(), t.data() + t.size()); },
            p);
  return all;
}
template <class P>
void set(P& p, const reals& values) {
  std::size_t at = 0;
  ds::visit(
      [&](const ds::tensor_name&, auto& t) {
        for (ds::index_t i = 0; i < t.size(); ++i) t.data()[i] = values[at++];
      },
      p);
}
double log_likelihood(const ds::cpu& b, const model& m, ids tokens, ids targets) {
  const auto logits = m(b, tokens);
  ds::tensor<double, ds::host, ds::dyn> each({logits.extent(0)});
  const auto r = ds::ops::cross_entropy(b, logits, targets, each);
  return -r.mean * static_cast<double>(r.counted);
}

const std::int32_t first[] = {0, 1, 2, 3}, first_next[] = {1, 2, 3, -100};
const std::int32_t second[] = {4, 2, 4}, second_next[] = {2, 4, 1};

}  // namespace

TEST_CASE("the Fisher information is the mean square of the gradient of ln p of a sequence") {
  const ds::cpu b;
  auto m = make(b);
  ds::elastic_memory memory(b, m);
  CHECK_ERROR(ds::error_code::invalid_argument, "nothing was observed", memory.consolidate(m));
  memory.observe(b, m, ids(first, {4}), ids(first_next, {4}));
  memory.observe(b, m, ids(second, {3}), ids(second_next, {3}));
  CHECK(memory.observed() == 6);
  memory.consolidate(m);
  CHECK(memory.observed() == 0);
  CHECK(flat(memory.anchor()) == flat(m.parameters()));
  const reals at = flat(m.parameters());
  auto moved = make(b);
  const auto gradient = [&](ids tokens, ids targets) {
    return support::difference_gradient(
        [&](const reals& p) {
          set(moved.parameters(), p);
          return log_likelihood(b, moved, tokens, targets);
        },
        at);
  };
  const auto g1 = gradient(ids(first, {4}), ids(first_next, {4}));
  const auto g2 = gradient(ids(second, {3}), ids(second_next, {3}));
  const auto fisher = flat(memory.fisher());
  double largest = 0;
  for (std::size_t i = 0; i < at.size(); ++i) {
    CHECK(std::fabs(fisher[i] - (g1[i] * g1[i] + g2[i] * g2[i]) / 6) < 1e-9);
    largest = std::max(largest, fisher[i]);
  }
  CHECK(largest > 0.01);
}

TEST_CASE("drawn targets: the expectation under the model; the online form; errors") {
  const ds::cpu b;
  auto m = make(b);
  const std::int32_t one[] = {2};
  ds::elastic_memory memory(b, m, {.decay = 0.5, .seed = 3}), again(b, m, {.seed = 3});
  constexpr int draws = 20000;
  for (int i = 0; i < draws; ++i) memory.observe(b, m, ids(one, {1}));
  memory.consolidate(m);
  // Exact: sum over targets of p times the square of the gradient.
  const auto logits = m(b, ids(one, {1}));
  double total = 0;
  for (int v = 0; v < 5; ++v) total += std::exp(logits.data()[v]);
  reals exact(flat(m.parameters()).size());
  for (std::int32_t v = 0; v < 5; ++v) {
    ds::elastic_memory given(b, m);
    given.observe(b, m, ids(one, {1}), ids(&v, {1}));
    given.consolidate(m);
    const auto f = flat(given.fisher());
    for (std::size_t i = 0; i < f.size(); ++i)
      exact[i] += std::exp(logits.data()[v]) / total * f[i];
  }
  const auto got = flat(memory.fisher());
  double largest = 0;
  for (const double x : exact) largest = std::max(largest, x);
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(std::fabs(got[i] - exact[i]) < 0.04 * largest);
  for (int i = 0; i < 100; ++i) again.observe(b, m, ids(one, {1}));
  again.consolidate(m);
  ds::elastic_memory same(b, m, {.seed = 3});
  for (int i = 0; i < 100; ++i) same.observe(b, m, ids(one, {1}));
  same.consolidate(m);
  CHECK(flat(same.fisher()) == flat(again.fisher()));
  memory.observe(b, m, ids(first, {4}), ids(first_next, {4}));
  memory.consolidate(m);
  ds::elastic_memory alone(b, m);
  alone.observe(b, m, ids(first, {4}), ids(first_next, {4}));
  alone.consolidate(m);
  const auto joined = flat(memory.fisher()), newer = flat(alone.fisher());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CHECK(std::fabs(joined[i] - (0.5 * got[i] + newer[i])) < 1e-14);
  }
  CHECK_ERROR(ds::error_code::invalid_argument, "lambda is -1",
              ds::elastic_memory(b, m, {.lambda = -1}));
  CHECK_ERROR(ds::error_code::invalid_argument, "decay 2", ds::elastic_memory(b, m, {.decay = 2}));
}

TEST_CASE("the penalty's gradient, and a step of a trainer with it") {
  const ds::cpu b;
  auto m = make(b);
  ds::elastic_memory memory(b, m, {.lambda = 3});
  memory.observe(b, m, ids(first, {4}), ids(first_next, {4}));
  memory.consolidate(m);
  auto g = std::make_unique<model::parameters_type>();
  CHECK(memory.add_gradient(b, m.parameters(), *g, 1) == 0);
  reals at = flat(m.parameters());
  for (std::size_t i = 0; i < at.size(); ++i) at[i] += 0.1 * std::sin(static_cast<double>(i));
  set(m.parameters(), at);
  memory.add_gradient(b, m.parameters(), *g, 2);
  auto moved = make(b);
  const auto loss = [&](const reals& p) {
    set(moved.parameters(), p);
    auto unused = std::make_unique<model::parameters_type>();
    return 2 * memory.add_gradient(b, moved.parameters(), *unused, 0);
  };
  support::expect_gradient("elastic_gradient", "model",
                           support::check_gradient(loss, at, flat(*g)));
  // One step of gradient descent: w - lr (dloss / dw + dpenalty / dw).
  auto plain = make(b), held = make(b);
  set(plain.parameters(), at);
  set(held.parameters(), at);
  ds::trainer without(b, plain, ds::sgd{.momentum = 0}, ds::constant_rate{.peak = 0.1},
                      {.clip = 0});
  ds::trainer with(b, held, ds::sgd{.momentum = 0}, ds::constant_rate{.peak = 0.1}, {.clip = 0});
  with.with_penalty(memory.penalty(b));
  const auto r0 = *without.micro_step(ids(second, {3}), ids(second_next, {3}));
  const auto r = *with.micro_step(ids(second, {3}), ids(second_next, {3}));
  CHECK(r0.penalty == 0);
  CHECK(r.penalty == doctest::Approx(loss(at) / 2));
  CHECK(r.loss == r0.loss);
  const auto a = flat(plain.parameters()), c = flat(held.parameters()), pull = flat(*g);
  for (std::size_t i = 0; i < at.size(); ++i) {
    CHECK(std::fabs(c[i] - (a[i] - 0.1 * pull[i] / 2)) < 1e-14);
  }
}

TEST_CASE("two tasks: what was consolidated is forgotten less") {
  const ds::cpu b;
  const std::int32_t third[] = {3, 4}, third_next[] = {0, 0};  // other tokens, the same head
  const auto learn = [&](double lambda) {
    auto m = make(b);
    const auto train = [&](ids tokens, ids targets, const ds::elastic_memory<model>* memory) {
      const double rate = memory == nullptr ? 0.02 : 0.1;  // hard enough to forget
      ds::trainer t(b, m, ds::adamw{.weight_decay = 0}, ds::constant_rate{.peak = rate});
      if (memory != nullptr) t.with_penalty(memory->penalty(b));
      for (int i = 0; i < (memory == nullptr ? 150 : 300); ++i) t.micro_step(tokens, targets);
    };
    train(ids(first, {4}), ids(first_next, {4}), nullptr);
    ds::elastic_memory memory(b, m, {.lambda = lambda});
    for (int i = 0; i < 200; ++i) memory.observe(b, m, ids(first, {3}));
    memory.consolidate(m);
    train(ids(third, {2}), ids(third_next, {2}), &memory);
    return std::pair{-log_likelihood(b, m, ids(first, {4}), ids(first_next, {4})) / 3,
                     -log_likelihood(b, m, ids(third, {2}), ids(third_next, {2})) / 2};
  };
  const auto free = learn(0), held = learn(100);
  MESSAGE("old task ", free.first, " -> ", held.first, ", new ", free.second, " -> ", held.second);
  CHECK(free.first > 0.3);
  CHECK(held.first < 0.1 * free.first);
  CHECK(held.second < 0.01);
}
