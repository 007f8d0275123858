// SPDX-License-Identifier: Apache-2.0
// Latent attention with its weights in other formats: Wkv_b stays a matrix, in bf16, that the
// absorbed form splits by heads; results are those of the plain layer on the rounded weights.
#include "deepseek/layers/latent_attention.hpp"

#include "deepseek/layers/quantize.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/quant/int8.hpp"

#include "deepseek/backend/cpu/cpu.hpp"
#include "support/poison.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

namespace ds = deepseek;
using form = ds::latent_form;

namespace {

inline constexpr ds::mla_config sizes{
    .dim = 24, .heads = 3, .q_rank = 16, .kv_rank = 20, .nope_dim = 8, .rope_dim = 4, .v_dim = 6};
using net = ds::latent_attention<sizes, ds::causal>;
using plain_model = ds::model<net, float, ds::cpu>;

template <class M>
std::vector<float> run(const ds::cpu& b, const M& m, form f) {
  ds::tensor<float, ds::host, 9, 24> x;
  ds::initialize_tensor(ds::normal_init{.stddev = 1, .seed = 5}, "x", x);
  const auto y = m(b, x, {.latent = f});
  return {y.data(), y.data() + y.size()};
}
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += std::pow(double(a[i]) - double(b[i]), 2);
    size += std::pow(double(b[i]), 2);
  }
  return std::sqrt(error / size);
}

}  // namespace

TEST_CASE(
    "latent_attention in bf16 weights is the plain layer on the rounded weights, bit by bit") {
  const ds::cpu b{{.threads = 2}};
  plain_model m(b, ds::scaled_init{.gain = 1, .seed = 7});
  const auto small = ds::quantize<ds::bf16_weights>(b, m);
  ds::visit(
      [](const ds::tensor_name& at, auto& t) {
        if (at.path.find("norm") != std::string::npos) return;
        for (ds::index_t i = 0; i < t.size(); ++i) {
          t.data()[i] = static_cast<float>(ds::bf16(t.data()[i]));
        }
      },
      m.parameters());
  for (const form f : {form::naive, form::absorbed}) {
    CHECK(support::same_bits(run(b, small, f), run(b, m, f)));
  }
  CHECK(distance(run(b, small, form::absorbed), run(b, small, form::naive)) < 1e-6);
}

TEST_CASE("latent_attention in int8: Wkv_b in bf16, both forms agree, close to the plain layer") {
  const ds::cpu b;
  const plain_model m(b, ds::scaled_init{.gain = 1, .seed = 7});
  const auto small = ds::quantize<ds::w8a8_per_token>(b, m);
  std::map<std::string, bool> bf16_tensor;
  ds::visit(
      [&](const ds::tensor_name& at, const auto& t) {
        using T = typename std::remove_cvref_t<decltype(t)>::value_type;
        bf16_tensor[at.path] = std::is_same_v<T, ds::bf16>;
      },
      small.parameters());
  CHECK(bf16_tensor.at("wkv_b.weight"));
  CHECK(bf16_tensor.count("wkv_a.weight.q") == 1);
  CHECK(bf16_tensor.count("wq_b.weight.q") == 1);
  CHECK(!bf16_tensor.at("kv_norm.weight"));
  // Another last bit of o may move a code of the product after it: half a step of 1/255 of a range.
  CHECK(distance(run(b, small, form::absorbed), run(b, small, form::naive)) < 0.01);
  // Four products in int8, 0.6 % each (see layers/quantize), one in bf16; times 2.5.
  const double error = distance(run(b, small, form::by_cost), run(b, m, form::by_cost));
  CHECK(error < 0.03);
  CHECK(error > 1e-4);
}
