// SPDX-License-Identifier: Apache-2.0
// prune into smaller types: neurons, heads, experts, rows; what is removed is what masks would
// hide, bit for bit in the logits; activity decides by what was observed.
#include "deepseek/deepseek.hpp"
#include "deepseek/train/pruning.hpp"

#include "support/compare.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config four{
    .dim = 8, .heads = 4, .kv_heads = 2, .projection_bias = ds::bias::present};
inline constexpr ds::attention_config two{
    .dim = 8, .heads = 2, .kv_heads = 1, .head_dim = 2, .projection_bias = ds::bias::present};
inline constexpr ds::moe_config experts{
    .dim = 8, .hidden = 6, .routed = 4, .shared = 1, .active = 2};
inline constexpr ds::moe_config fewer{.dim = 8, .hidden = 6, .routed = 3, .shared = 1, .active = 2};
inline constexpr ds::moe_config thinner{
    .dim = 8, .hidden = 4, .routed = 4, .shared = 1, .active = 2};

template <ds::attention_config A, ds::moe_config E, ds::index_t H, class Shared>
struct net_of
    : ds::chain<
          ds::embedding<11, 8>,
          ds::transformer_block<ds::multi_head_attention<A, ds::causal>,
                                ds::checkpointed<ds::mlp<8, H, ds::activation::gelu>>>,
          ds::called<"sparse",
                     ds::residual<ds::moe<E, ds::sigmoid_top_k, ds::default_expert<E>, Shared>>>,
          ds::called<"head", ds::linear<8, 11>>> {};
using net = net_of<four, experts, 12, ds::swiglu<8, 6>>;
using narrow = net_of<four, experts, 9, ds::swiglu<8, 6>>;
using headless = net_of<two, experts, 12, ds::swiglu<8, 6>>;
using few = net_of<four, fewer, 12, ds::swiglu<8, 6>>;
using thin = net_of<four, thinner, 12, ds::swiglu<8, 4>>;
using model = ds::model<net, float, ds::cpu>;

const std::int32_t tokens[] = {1, 5, 2, 9, 10, 0, 5, 3, 3, 8, 7};
const ds::view<const std::int32_t, ds::host, ds::dyn> ids(tokens, {11});

model make(const ds::cpu& b) {
  model m(b, ds::normal_init{.stddev = 0.5, .seed = 9});
  ds::visit(
      [](const ds::tensor_name& at, auto& t) {
        for (ds::index_t i = 0; i < t.size() && at.path.ends_with("bias"); ++i) {
          t.data()[i] = static_cast<float>(std::sin(1.0 + static_cast<double>(i)));
        }
      },
      m.parameters());
  return m;
}
template <class M>
std::vector<float> logits(const ds::cpu& b, const M& m) {
  const auto y = m(b, ids);
  return {y.data(), y.data() + y.size()};
}
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return worst;
}
// Masks the share of units, and compares with the smaller model.
template <class Smaller, class... Seen>
void expect_equal(const ds::cpu& b, model& m, ds::unit_kind kind, double share,
                  const Seen&... seen) {
  const auto full = logits(b, m);
  const auto small = ds::prune<Smaller>(b, m, seen...);
  auto masks = ds::unit_masks(m.parameters(), kind, share, seen...);
  masks.only([](const std::string& path) { return path.find("experts") == std::string::npos; });
  masks.apply(b, m.parameters());
  const auto hidden = logits(b, m);
  CHECK(distance(full, hidden) > 1e-3);
  CHECK(distance(logits(b, small), hidden) < 1e-6);
  CHECK(ds::parameter_count(small.parameters()) < ds::parameter_count(m.parameters()));
}

}  // namespace

TEST_CASE("prune: a smaller type computes what masks compute") {
  const ds::cpu b{{.threads = 2}};
  auto m = make(b);
  expect_equal<narrow>(b, m, ds::unit_kind::neurons, 0.25);
}

TEST_CASE("prune: heads go with their key-value head") {
  const ds::cpu b;
  auto m = make(b);
  expect_equal<headless>(b, m, ds::unit_kind::heads, 0.5);
}

TEST_CASE("prune: neurons of stacked experts and of the shared one, each expert by itself") {
  const ds::cpu b;
  auto m = make(b);
  // Only the experts: neurons of the mlp would be masked, too.
  const auto small = ds::prune<thin>(b, m);
  const auto& big = m.parameters().get<2>().body.experts;
  const auto& less = small.parameters().get<2>().body.experts;
  for (ds::index_t e = 0; e < 4; ++e) {
    std::vector<std::pair<double, ds::index_t>> score;
    for (ds::index_t j = 0; j < 6; ++j) {
      double sum = 0;
      for (ds::index_t d = 0; d < 8; ++d) {
        sum += std::fabs(static_cast<double>(big.w1.weight.view()(e, j, d))) +
               std::fabs(static_cast<double>(big.w3.weight.view()(e, j, d))) +
               std::fabs(static_cast<double>(big.w2.weight.view()(e, d, j)));
      }
      score.emplace_back(-sum, j);
    }
    std::ranges::sort(score);
    score.resize(4);
    std::vector<ds::index_t> kept;
    for (const auto& s : score) kept.push_back(s.second);
    std::ranges::sort(kept);
    for (ds::index_t j = 0; j < 4; ++j) {
      for (ds::index_t d = 0; d < 8; ++d) {
        const ds::index_t from = kept[static_cast<std::size_t>(j)];
        CHECK(less.w1.weight.view()(e, j, d) == big.w1.weight.view()(e, from, d));
        CHECK(less.w3.weight.view()(e, j, d) == big.w3.weight.view()(e, from, d));
        CHECK(less.w2.weight.view()(e, d, j) == big.w2.weight.view()(e, d, from));
      }
    }
  }
  CHECK(distance(logits(b, small), logits(b, m)) > 1e-3);
}

TEST_CASE("prune: an expert that is never chosen is missed by nobody") {
  const ds::cpu b;
  auto m = make(b);
  auto& moe = m.parameters().get<2>().body;
  // Expert 2 is weak, and its bias keeps it from being chosen.
  for (auto* t : {&moe.experts.w1.weight, &moe.experts.w3.weight}) {
    for (ds::index_t i = 0; i < 48; ++i) t->data()[2 * 48 + i] *= 0.01f;
  }
  for (ds::index_t i = 0; i < 48; ++i) moe.experts.w2.weight.data()[2 * 48 + i] *= 0.01f;
  moe.gate.choice.bias.data()[2] = -100;
  moe.gate.choice.bias.data()[3] = 0.25f;
  const auto small = ds::prune<few>(b, m);
  const auto& gate = small.parameters().get<2>().body.gate;
  CHECK(gate.choice.bias.data()[2] == 0.25f);
  for (ds::index_t d = 0; d < 8; ++d) {
    CHECK(gate.weight.view()(2, d) == moe.gate.weight.view()(3, d));
  }
  CHECK(support::same_bits(logits(b, small), logits(b, m)));
}

TEST_CASE("prune: by activity") {
  const ds::cpu b;
  auto m = make(b);
  ds::activity_of<net> seen;
  CHECK_ERROR(ds::error_code::invalid_argument, "has seen no rows", ds::prune<narrow>(b, m, seen));
  auto& ffn = m.parameters().get<1>().get<1>().body.get<1>();
  // Neuron 4: large weights going in, a bias that keeps it off; by its weights it would stay.
  for (ds::index_t d = 0; d < 8; ++d) ffn.w1.weight.view()(4, d) *= 3;
  ffn.w1.bias.data()[4] = -60;
  ds::observe_activity(b, m, ids, seen);
  ds::observe_activity(b, m, ids, seen);
  const auto& columns = seen.get<1>().get<1>().body.get<1>().own.w2.own;
  CHECK(columns.rows == std::vector<ds::index_t>{22});
  CHECK(columns.columns() == 12);
  CHECK(columns.absolute[4] == 0);
  const auto by_weight = ds::prune<narrow>(b, m), by_activity = ds::prune<narrow>(b, m, seen);
  const auto holds = [&](const auto& pruned) {
    const auto& w = pruned.parameters().template get<1>().template get<1>().body.template get<1>();
    for (ds::index_t j = 0; j < 9; ++j) {
      if (w.w1.bias.data()[j] == -60) return true;
    }
    return false;
  };
  CHECK(holds(by_weight));
  CHECK(!holds(by_activity));
  expect_equal<headless>(b, m, ds::unit_kind::heads, 0.5, seen);
  // Experts saw only their rows.
  const auto& routed = seen.get<2>().body.experts.w2.own;
  CHECK(routed.rows.size() == 4);
  CHECK(std::accumulate(routed.rows.begin(), routed.rows.end(), ds::index_t{0}) == 44);
}

TEST_CASE("prune: weights that are no numbers are refused") {
  const ds::cpu b;
  auto m = make(b);
  m.parameters().get<1>().get<1>().body.get<1>().w1.weight.data()[0] =
      std::numeric_limits<float>::quiet_NaN();
  CHECK_ERROR(ds::error_code::nonfinite, "score is", ds::prune<narrow>(b, m));
}
