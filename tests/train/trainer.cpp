// SPDX-License-Identifier: Apache-2.0
// The trainer on a small net: accumulation, clipping, flushing, refusing what is not finite,
// learning, and the same bits for any number of threads.
#include "deepseek/deepseek.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>

#include "support/report.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;

namespace {

struct net : ds::chain<ds::embedding<8, 12>, ds::residual<ds::mlp<12, 16, ds::activation::gelu>>,
                       ds::rms_norm<12>, ds::linear<12, 8>> {};
using model = ds::model<net, double, ds::cpu>;
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

const std::int32_t text[] = {0, 1, 2, 3, 4, 5, 6, 7, 0, 2, 4, 6, 1, 3, 5, 7};
const std::int32_t next[] = {1, 2, 3, 4, 5, 6, 7, 0, 2, 4, 6, 1, 3, -100, 7, 0};

model make(const ds::cpu& b) {
  return model(b, ds::normal_init{.stddev = 0.3, .seed = 5});
}

std::vector<double> values(const model& m) {
  std::vector<double> all;
  ds::visit([&](const ds::tensor_name&,
                const auto& t) { all.insert(all.end(), t.data(), t.data() + t.size()); },
            m.parameters());
  return all;
}
double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::fabs(a[i] - b[i]));
  return worst;
}
ids part(const std::int32_t* from, ds::index_t first, ds::index_t n) {
  return {from + first, {n}};
}

}  // namespace

TEST_CASE("four micro-batches are one batch; a partial group is flushed") {
  const ds::cpu b{{.threads = 2}};
  auto whole = make(b), parts = make(b), rest = make(b);
  ds::trainer one(b, whole, ds::sgd{}, ds::constant_rate{.peak = 0.1}, {.clip = 0});
  ds::trainer four(b, parts, ds::sgd{}, ds::constant_rate{.peak = 0.1},
                   {.accumulate = 4, .clip = 0});
  ds::trainer many(b, rest, ds::sgd{}, ds::constant_rate{.peak = 0.1},
                   {.accumulate = 100, .clip = 0});
  const auto r = one.micro_step(part(text, 0, 16), part(next, 0, 16));
  REQUIRE(r.has_value());
  CHECK(r->tokens == 15);  // one target is ignored
  std::optional<ds::train_result> last;
  // Unequal parts: the mean is over tokens, not over batches.
  for (const auto& [first, n] : {std::pair<int, int>{0, 2}, {2, 7}, {9, 4}, {13, 3}}) {
    CHECK(!last.has_value());
    last = four.micro_step(part(text, first, n), part(next, first, n));
    CHECK(!many.micro_step(part(text, first, n), part(next, first, n)).has_value());
  }
  REQUIRE(last.has_value());
  CHECK(std::fabs(last->loss - r->loss) < 1e-13);
  CHECK(std::fabs(last->norm - r->norm) < 1e-13);
  CHECK(largest_difference(values(whole), values(parts)) < 1e-14);
  const auto flushed = many.flush();
  REQUIRE(flushed.has_value());
  CHECK(flushed->tokens == 15);
  CHECK(values(rest) == values(parts));
  CHECK(!many.flush().has_value());
}

TEST_CASE("clipping scales the whole gradient to the norm that was asked for") {
  const ds::cpu b;
  auto free = make(b), clipped = make(b);
  const auto start = values(free);
  ds::trainer a(b, free, ds::sgd{.momentum = 0}, ds::constant_rate{.peak = 1}, {.clip = 0});
  const auto r = a.micro_step(part(text, 0, 16), part(next, 0, 16));
  const double limit = r->norm / 5;
  ds::trainer c(b, clipped, ds::sgd{.momentum = 0}, ds::constant_rate{.peak = 1}, {.clip = limit});
  CHECK(c.micro_step(part(text, 0, 16), part(next, 0, 16))->norm == r->norm);
  const auto x = values(free), y = values(clipped);
  const double factor = limit / (r->norm + 1e-6);
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, std::fabs((y[i] - start[i]) - factor * (x[i] - start[i])));
  }
  CHECK(worst < 1e-14);
}

TEST_CASE("what is not finite is refused and nothing moves") {
  const ds::cpu b;
  auto m = make(b);
  m.parameters();
  ds::trainer t(b, m, ds::adamw{}, ds::constant_rate{});
  double* w = nullptr;
  ds::visit(
      [&](const ds::tensor_name& at, auto& p) {
        if (at.path == "embed.weight") w = p.data();
      },
      m.parameters());
  REQUIRE(w != nullptr);
  w[0] = std::numeric_limits<double>::quiet_NaN();
  const auto before = values(m);
  CHECK_ERROR(ds::error_code::nonfinite, "loss is", "step 0",
              t.micro_step(part(text, 0, 16), part(next, 0, 16)));
  const auto after = values(m);
  CHECK(std::memcmp(before.data(), after.data(), before.size() * sizeof(double)) == 0);
  CHECK(t.optimizer().steps() == 0);
  CHECK_ERROR(ds::error_code::invalid_argument, "accumulate is 0",
              ds::trainer(b, m, ds::adamw{}, ds::constant_rate{}, {.accumulate = 0}));
  CHECK_ERROR(ds::error_code::invalid_argument, "clip is -1",
              ds::trainer(b, m, ds::adamw{}, ds::constant_rate{}, {.clip = -1}));
}

TEST_CASE(
    "a gradient whose squares overflow is clipped exactly, or refused: it would stop weights") {
  const ds::cpu b;
  using single = ds::model<net, float, ds::cpu>;
  const auto huge = [](const auto&, auto& gradients, double) {
    ds::visit([](const ds::tensor_name&, auto& g) { std::fill_n(g.data(), g.size(), 1e20F); },
              gradients);
    return 0.0;
  };
  single m(b, ds::normal_init{.stddev = 0.3, .seed = 5});
  double weights = 0;
  ds::visit(
      [&](const ds::tensor_name&, const auto& t) { weights += static_cast<double>(t.size()); },
      m.parameters());
  ds::trainer clipped(b, m, ds::adamw{}, ds::constant_rate{.peak = 0.1}, {.clip = 1});
  clipped.with_penalty(huge);
  const auto r = clipped.micro_step(part(text, 0, 16), part(next, 0, 16));
  CHECK(r->norm == doctest::Approx(1e20 / 15 * std::sqrt(weights)));
  ds::trainer free(b, m, ds::adamw{}, ds::constant_rate{.peak = 0.1}, {.clip = 0});
  free.with_penalty(huge);
  CHECK_ERROR(ds::error_code::nonfinite, "gradient's norm is", "clipped to", "2^63",
              free.micro_step(part(text, 0, 16), part(next, 0, 16)));
  CHECK(free.optimizer().steps() == 0);
}

TEST_CASE("it learns, and threads do not matter") {
  std::vector<double> first;
  for (const int threads : {1, 2, 3}) {
    const ds::cpu b{{.threads = threads}};
    auto m = make(b);
    ds::trainer t(b, m, ds::adamw{.weight_decay = 0},
                  ds::warmup_cosine{.peak = 0.02, .warmup = 5, .total = 120});
    double start = 0, end = 0;
    for (int step = 0; step < 120; ++step) {
      const auto r = t.micro_step(part(text, 0, 8), part(next, 0, 8));
      if (step == 0) start = r->loss;
      end = r->loss;
    }
    CHECK(start > 1.5);
    CHECK(end < 0.05);
    if (first.empty()) first = values(m);
    CHECK(values(m) == first);
  }
}
