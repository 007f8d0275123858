// SPDX-License-Identifier: Apache-2.0
// Masks: how many weights go and which, by magnitude, activity, n of m and units; they survive
// training; the cubic schedule.
#include "deepseek/train/pruning.hpp"
#include "deepseek/deepseek.hpp"

#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

namespace ds = deepseek;
using code = ds::error_code;

namespace {

struct net : ds::chain<ds::embedding<8, 12>, ds::residual<ds::swiglu<12, 16>>, ds::rms_norm<12>,
                       ds::called<"head", ds::linear<12, 8>>> {};
using model = ds::model<net, double, ds::cpu>;
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

const std::int32_t text[] = {0, 1, 2, 3, 4, 5, 6, 7, 0, 2, 4, 6, 1, 3, 5, 7};
const std::int32_t next[] = {1, 2, 3, 4, 5, 6, 7, 0, 2, 4, 6, 1, 3, -100, 7, 0};
constexpr ds::index_t linear_weights = 3 * 12 * 16 + 12 * 8;

model make(const ds::cpu& b) {
  return model(b, ds::normal_init{.stddev = 0.3, .seed = 5});
}
// The linear weights, those that are zero, and the sizes |w| of the rest, sorted.
struct census {
  ds::index_t all = 0, zeros = 0;
  std::vector<double> left;
};
census count(const model& m) {
  census c;
  ds::visit(
      [&](const ds::tensor_name& at, const auto& t) {
        for (ds::index_t i = 0; i < t.size() && at.path != "norm.weight"; ++i) {
          if (at.path == "embed.weight") {
            CHECK(t.data()[i] != 0);
            continue;
          }
          ++c.all;
          c.zeros += t.data()[i] == 0 ? 1 : 0;
          if (t.data()[i] != 0) c.left.push_back(std::fabs(t.data()[i]));
        }
      },
      m.parameters());
  std::ranges::sort(c.left);
  return c;
}

}  // namespace

TEST_CASE("magnitude_masks: the smallest of all, of a tensor, of a row") {
  const ds::cpu b;
  auto m = make(b);
  const auto before = count(m);
  CHECK(before.all == linear_weights);
  const auto masks = ds::magnitude_masks(m.parameters(), 0.3);
  CHECK(masks.weights() == linear_weights);
  const auto gone = static_cast<ds::index_t>(0.3 * linear_weights);
  CHECK(masks.kept() == linear_weights - gone);
  CHECK(masks.sparsity() == doctest::Approx(0.3).epsilon(0.01));
  CHECK(masks.all().size() == 4);
  masks.apply(b, m.parameters());
  const auto after = count(m);
  CHECK(after.zeros == gone);
  CHECK(after.left ==
        std::vector<double>(before.left.begin() + gone, before.left.end()));  // the largest stay
  auto by_tensor = make(b);
  ds::magnitude_masks(by_tensor.parameters(), 0.25, ds::pruning_scope::tensor)
      .apply(b, by_tensor.parameters());
  auto by_row = make(b);
  const auto rows = ds::magnitude_masks(by_row.parameters(), 0.25, ds::pruning_scope::row);
  for (const auto& [path, mask] : rows.all()) {
    const std::size_t width = path.find("w2") != std::string::npos ? 16 : 12;
    for (std::size_t i = 0; i < mask.size(); i += width) {
      CHECK(std::count(mask.begin() + static_cast<long>(i),
                       mask.begin() + static_cast<long>(i + width),
                       0) == static_cast<long>(width / 4));
    }
  }
  ds::index_t tensors = 0;
  ds::visit(
      [&](const ds::tensor_name& at, const auto& t) {
        if (at.path == "embed.weight" || at.path == "norm.weight") return;
        ++tensors;
        CHECK(std::count(t.data(), t.data() + t.size(), 0.0) == t.size() / 4);
      },
      by_tensor.parameters());
  CHECK(tensors == 4);
  CHECK(ds::magnitude_masks(m.parameters(), 0).kept() == linear_weights);
  CHECK(ds::magnitude_masks(m.parameters(), 1).kept() == 0);
}

TEST_CASE("ties: of equal weights the first go") {
  const ds::cpu b;
  auto m = make(b);
  ds::visit([](const ds::tensor_name&, auto& t) { std::fill_n(t.data(), t.size(), -0.5); },
            m.parameters());
  const auto masks = ds::magnitude_masks(m.parameters(), 0.5, ds::pruning_scope::tensor);
  for (const auto& [path, mask] : masks.all()) {
    for (std::size_t i = 0; i < mask.size(); ++i) CHECK(mask[i] == (i < mask.size() / 2 ? 0 : 1));
  }
}

TEST_CASE("n_of_m_masks and activity_masks") {
  const ds::cpu b;
  auto m = make(b);
  const auto four = ds::n_of_m_masks(b, m.parameters());
  CHECK(four.sparsity() == 0.5);
  for (const auto& [path, mask] : four.all()) {
    for (std::size_t i = 0; i < mask.size(); i += 4) {
      CHECK(mask[i] + mask[i + 1] + mask[i + 2] + mask[i + 3] == 2);
    }
  }
  ds::activity_of<net, double> seen;
  CHECK_ERROR(code::invalid_argument, "has seen no rows",
              ds::activity_masks(m.parameters(), seen, 0.5));
  // An input column that is always zero loses its weights first, whatever their size.
  auto& ffn = m.parameters().get<1>().body;
  for (ds::index_t d = 0; d < 12; ++d) {
    ffn.w1.weight.view()(3, d) = 0;
    ffn.w2.weight.view()(d, 3) = 100;
  }
  ds::observe_activity(b, m, ids(text, {16}), seen);
  const auto masks = ds::activity_masks(m.parameters(), seen, 0.5);
  CHECK(masks.sparsity() == 0.5);
  const auto& w2 = masks.all().at("ffn.w2.weight");
  for (std::size_t d = 0; d < 12; ++d) CHECK(w2[d * 16 + 3] == 0);
}

TEST_CASE("unit_masks: rows of L1, and a share of none") {
  const ds::cpu b;
  auto m = make(b);
  const auto rows = ds::unit_masks(m.parameters(), ds::unit_kind::rows, 0.5);
  const auto& head = rows.all().at("head.weight");
  const auto w = m.parameters().get<3>().weight.view();
  std::vector<std::pair<double, std::size_t>> sums;
  for (ds::index_t o = 0; o < 8; ++o) {
    double sum = 0;
    for (ds::index_t i = 0; i < 12; ++i) sum += std::fabs(w(o, i));
    sums.emplace_back(sum, static_cast<std::size_t>(o));
  }
  std::ranges::sort(sums);
  for (std::size_t k = 0; k < 8; ++k) {
    for (std::size_t i = 0; i < 12; ++i) {
      CHECK(head[sums[k].second * 12 + i] == (k < 4 ? 0 : 1));
    }
  }
  CHECK(ds::unit_masks(m.parameters(), ds::unit_kind::neurons, 0.05).sparsity() == 0);
  CHECK(ds::unit_masks(m.parameters(), ds::unit_kind::neurons, 0.25).sparsity() ==
        doctest::Approx(0.25));
  CHECK(ds::unit_masks(m.parameters(), ds::unit_kind::heads, 0.5).all().empty());
  CHECK_ERROR(code::invalid_argument, "share is 1.5",
              ds::unit_masks(m.parameters(), ds::unit_kind::rows, 1.5));
  CHECK_ERROR(code::invalid_argument, "share is -0.1", ds::magnitude_masks(m.parameters(), -0.1));
}

TEST_CASE("masks survive training and it still learns") {
  const ds::cpu b;
  auto m = make(b);
  const auto masks = ds::magnitude_masks(m.parameters(), 0.5);
  masks.apply(b, m.parameters());
  ds::trainer trainer(b, m, ds::adamw{}, ds::constant_rate{.peak = 1e-2});
  trainer.after_step([&](auto& p) { masks.apply(b, p); });
  double first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    const auto r = *trainer.micro_step(ids(text, {16}), ids(next, {16}));
    if (step == 0) first = r.loss;
    last = r.loss;
    CHECK(count(m).zeros == linear_weights - masks.kept());
  }
  CHECK(last < 0.5 * first);
  // Chosen again at the same share, the same weights are zero: what is zero stays smallest.
  CHECK(ds::magnitude_masks(m.parameters(), 0.5).all() == masks.all());
}

TEST_CASE("masks of another model, weights that are no numbers") {
  const ds::cpu b;
  auto m = make(b);
  ds::weight_masks masks;
  masks.at("head.weight", 96);
  CHECK_ERROR(code::size_mismatch, "head.weight has 95", masks.at("head.weight", 95));
  masks.at("absent", 3);
  CHECK_ERROR(code::missing_tensor, "2 masks, 1 of their tensors", masks.apply(b, m.parameters()));
  masks.only([](const std::string& path) { return path != "absent"; });
  masks.apply(b, m.parameters());
  ds::weight_masks other;
  other.at("head.weight", 7);
  CHECK_ERROR(code::size_mismatch, "its mask 7", other.apply(b, m.parameters()));
  m.parameters().get<3>().weight.data()[0] = std::numeric_limits<double>::quiet_NaN();
  CHECK_ERROR(code::nonfinite, "not a number", ds::magnitude_masks(m.parameters(), 0.5));
  CHECK_ERROR(code::nonfinite, "score is", ds::unit_masks(m.parameters(), ds::unit_kind::rows, .5));
}

TEST_CASE("cubic_sparsity: ends, middle, steps") {
  const ds::cubic_sparsity s{
      .initial = 0.1, .final = 0.9, .begin = 100, .steps = 1000, .every = 10};
  CHECK(s(0) == 0.1);
  CHECK(s(99) == 0.1);
  CHECK(s(100) == doctest::Approx(0.1));
  CHECK(s(600) == doctest::Approx(0.9 - 0.8 / 8));
  CHECK(s(609) == s(600));
  CHECK(s(1100) == 0.9);
  CHECK(s(5000) == 0.9);
  CHECK(s.changes(100));
  CHECK(!s.changes(101));
  CHECK(s.changes(1100));
  CHECK(!s.changes(1110));
  for (ds::index_t t = 0; t < 1200; ++t) CHECK(s(t) <= s(t + 1) + 1e-15);
  CHECK_ERROR(code::config, "every 0", ds::cubic_sparsity{.every = 0}(1));
}
