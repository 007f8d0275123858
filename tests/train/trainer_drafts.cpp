// SPDX-License-Identifier: Apache-2.0
// Training a net with drafts: the reported losses against sums written out here, the gradient of
// loss + weight x draft loss against differences, micro-batches, and that it learns both.
#include "deepseek/deepseek.hpp"

#include <doctest/doctest.h>

#include "support/compare.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 8, .heads = 2};
using block = ds::transformer_block<ds::multi_head_attention<heads, ds::causal>, ds::swiglu<8, 12>>;
struct net : ds::with_mtp<ds::embedding<9, 8>, block, ds::mtp_layer<block>,
                          ds::called<"head", ds::linear<8, 9>>> {};
using model = ds::model<net, double, ds::cpu>;
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

const std::int32_t text[] = {0, 1, 2, 3, 4, 5, 6, 7, 0, 2, 4};
const std::int32_t next[] = {1, 2, 3, -100, 5, 6, 7, 0, 2, 4, 6};
const std::int32_t further[] = {2, 3, -100, -100, 6, 7, 0, 2, 4, 6, -100};  // one more, by sequence
const std::int32_t offsets[] = {0, 4, 11};
const ids tokens(text, {11}), targets(next, {11}), starts(offsets, {3});

model make(const ds::cpu& b) {
  return model(b, ds::normal_init{.stddev = 0.4, .seed = 5});
}
std::vector<double> values(const model& m) {
  std::vector<double> all;
  ds::visit([&](const ds::tensor_name&,
                const auto& t) { all.insert(all.end(), t.data(), t.data() + t.size()); },
            m.parameters());
  return all;
}
void set(model& m, const std::vector<double>& to) {
  std::size_t i = 0;
  ds::visit(
      [&](const ds::tensor_name&, auto& t) {
        for (ds::index_t k = 0; k < t.size(); ++k) t.data()[k] = to[i++];
      },
      m.parameters());
}

// Sum over counted rows of log sum e^x - x[target].
double loss_sum(const ds::view<double, ds::host, ds::dyn, 9>& logits, const std::int32_t* wanted) {
  double sum = 0;
  for (ds::index_t i = 0; i < logits.extent(0); ++i) {
    if (wanted[i] == -100) continue;
    double total = 0;
    for (ds::index_t v = 0; v < 9; ++v) total += std::exp(logits(i, v));
    sum += std::log(total) - logits(i, wanted[i]);
  }
  return sum;
}
std::pair<double, double> losses(const ds::cpu& b, const model& m) {
  auto tape = m.tape(b);
  const auto y = m.forward(b, tokens, tape, {.how = ds::mode::training, .sequences = starts});
  return {loss_sum(y.logits, next) / 10, loss_sum(y.drafts, further) / 10};
}

}  // namespace

TEST_CASE("the losses, and the gradient of their weighted sum") {
  const ds::cpu b{{.threads = 2}};
  for (const double weight : {0.3, 0.0}) {
    auto m = make(b);
    const auto before = values(m);
    const auto [loss, drafts] = losses(b, m);
    ds::trainer t(b, m, ds::sgd{.momentum = 0, .weight_decay = 0}, ds::constant_rate{.peak = 1},
                  {.clip = 0, .draft_weight = weight});
    const auto r = t.micro_step(tokens, targets, starts);
    REQUIRE(r.has_value());
    CHECK(r->tokens == 10);
    CHECK(r->loss == doctest::Approx(loss).epsilon(1e-12));
    CHECK(r->draft_loss == doctest::Approx(drafts).epsilon(1e-12));
    const auto after = values(m);  // before - gradient
    model probe = make(b);
    const auto at = [&](std::size_t i, double step) {
      auto x = before;
      x[i] += step;
      set(probe, x);
      const auto [l, d] = losses(b, probe);
      return l + weight * d;
    };
    double worst = 0, largest = 0;
    for (std::size_t i = 0; i < before.size(); i += 7) {
      const double h = 1e-3;
      const double slope = (8 * (at(i, h) - at(i, -h)) - (at(i, 2 * h) - at(i, -2 * h))) / (12 * h);
      worst = std::max(worst, std::fabs(before[i] - after[i] - slope));
      largest = std::max(largest, std::fabs(slope));
    }
    CHECK(largest > 0.01);
    CHECK(worst < 1e-7 * (1 + largest));
  }
}

TEST_CASE("two micro-batches are one batch") {
  const ds::cpu b{{.threads = 2}};
  auto whole = make(b), parts = make(b);
  ds::trainer one(b, whole, ds::sgd{}, ds::constant_rate{.peak = 0.1}, {.clip = 0});
  ds::trainer two(b, parts, ds::sgd{}, ds::constant_rate{.peak = 0.1},
                  {.accumulate = 2, .clip = 0});
  const auto r = one.micro_step(tokens, targets, starts);
  two.micro_step(ids(text, {4}), ids(next, {4}));
  const auto s = two.micro_step(ids(text + 4, {7}), ids(next + 4, {7}));
  REQUIRE((r.has_value() && s.has_value()));
  CHECK(s->draft_loss == doctest::Approx(r->draft_loss).epsilon(1e-13));
  const auto a = values(whole), c = values(parts);
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::fabs(a[i] - c[i]));
  CHECK(worst < 1e-14);
}

TEST_CASE("it learns the next token and the one after it") {
  const ds::cpu b{{.threads = 2}};
  auto m = make(b);
  ds::trainer t(b, m, ds::adamw{.weight_decay = 0},
                ds::warmup_cosine{.peak = 0.02, .warmup = 5, .total = 150});
  CHECK_ERROR(ds::error_code::invalid_argument, "draft_weight is -1", t.set_draft_weight(-1));
  ds::train_result last;
  const std::int32_t cycle[] = {3, 1, 4, 1, 5, 2, 6, 8, 3}, after[] = {1, 4, 1, 5, 2, 6, 8, 3, 1};
  for (int step = 0; step < 150; ++step) {
    last = *t.micro_step(ids(cycle, {9}), ids(after, {9}));
    if (step == 0) CHECK(last.draft_loss > 1.5);
  }
  CHECK(last.loss < 0.05);
  CHECK(last.draft_loss < 0.05);
}
