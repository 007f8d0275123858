// SPDX-License-Identifier: Apache-2.0
// First values: mean and deviation, norms 1, biases and buffers 0, seeds, and that a layer more
// changes no other.
#include "deepseek/layers/initialize.hpp"
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/mlp.hpp"
#include "deepseek/layers/moe.hpp"
#include "deepseek/layers/norm.hpp"
#include "deepseek/layers/residual.hpp"

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <vector>

namespace ds = deepseek;

namespace {

inline constexpr ds::moe_config experts{.dim = 32, .hidden = 24, .routed = 3};
template <class... More>
using net = ds::chain<ds::embedding<90, 32>, ds::called<"attn_norm", ds::layer_norm<32>>,
                      ds::mlp<32, 48>, ds::called<"sparse", ds::moe<experts>>, More...>;
// Whatever they are called: a norm starts at 1, a matrix called norm is drawn.
using renamed = net<ds::called<"final", ds::rms_norm<32>>, ds::called<"last", ds::layer_norm<32>>,
                    ds::called<"like_norm", ds::linear<32, 32>>>;
using more = net<ds::called<"extra", ds::linear<32, 32>>, ds::rms_norm<32>>;

template <class Net, class Init>
std::map<std::string, std::vector<double>> values(const Init& init) {
  auto p = std::make_unique<ds::parameters<Net, float, ds::host>>();
  ds::initialize(init, *p);
  std::map<std::string, std::vector<double>> all;
  ds::visit(
      [&](const ds::tensor_name& at, const auto& t) {
        auto& v = all[at.path];
        for (ds::index_t i = 0; i < t.size(); ++i) v.push_back(static_cast<double>(t.data()[i]));
      },
      *p);
  return all;
}

// Mean within 5 deviations of itself, variance and fourth moment likewise.
void check_normal(const std::vector<double>& x, double stddev) {
  const double n = static_cast<double>(x.size());
  double mean = 0, square = 0, fourth = 0;
  for (double e : x) {
    mean += e / stddev / n;
    square += e * e / stddev / stddev / n;
    fourth += e * e * e * e / (stddev * stddev * stddev * stddev) / n;
  }
  CHECK(std::fabs(mean) < 5 / std::sqrt(n));
  CHECK(std::fabs(square - 1) < 5 * std::sqrt(2 / n));
  CHECK(std::fabs(fourth - 3) < 5 * std::sqrt(96 / n));
}

}  // namespace

TEST_CASE("initialize: statistics, norms, biases, buffers") {
  const auto v = values<net<>>(ds::normal_init{.stddev = 0.05, .seed = 1});
  for (const char* path : {"embed.weight", "ffn.w1.weight", "sparse.experts.w2.weight"}) {
    INFO(path);
    check_normal(v.at(path), 0.05);
  }
  for (double w : v.at("attn_norm.weight")) CHECK(w == 1);
  for (const char* path : {"attn_norm.bias", "ffn.w1.bias", "ffn.w2.bias", "sparse.gate.load"}) {
    for (double w : v.at(path)) CHECK(w == 0);
  }
  const auto s = values<net<>>(ds::scaled_init{.gain = 2, .seed = 1});
  check_normal(s.at("ffn.w1.weight"), 2 / std::sqrt(32));
  check_normal(s.at("ffn.w2.weight"), 2 / std::sqrt(48));
  check_normal(s.at("sparse.experts.w2.weight"), 2 / std::sqrt(24));
}

TEST_CASE("initialize: a tensor depends on its path and the seed alone") {
  const auto v = values<net<>>(ds::normal_init{.seed = 1});
  const auto with = values<more>(ds::normal_init{.seed = 1});
  const auto other = values<net<>>(ds::normal_init{.seed = 2});
  for (const auto& [path, x] : v) {
    CHECK(with.at(path) == x);
    if (path.ends_with("norm.weight") || path.ends_with("bias") || path.ends_with("load")) continue;
    CHECK(other.at(path) != x);
  }
  CHECK(with.size() == v.size() + 2);
  CHECK(v.at("sparse.experts.w1.weight") != v.at("sparse.experts.w3.weight"));
}

TEST_CASE("initialize: first values belong to the layer, not to its name") {
  const auto v = values<renamed>(ds::normal_init{.stddev = 0.05, .seed = 1});
  for (double w : v.at("final.weight")) CHECK(w == 1);
  for (double w : v.at("last.weight")) CHECK(w == 1);
  for (double w : v.at("last.bias")) CHECK(w == 0);
  check_normal(v.at("like_norm.weight"), 0.05);
}
