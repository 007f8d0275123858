// SPDX-License-Identifier: Apache-2.0
// Quantized compositions on the reference in float, double and bf16: tied, biased, residual,
// checkpointed, and a stack of experts against the same experts one by one.
#include "deepseek/deepseek.hpp"

#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <cstring>

namespace ds = deepseek;

namespace {

struct net : ds::tied<ds::embedding<19, 12>,
                      ds::chain<ds::residual<ds::checkpointed<ds::mlp<12, 20>>>,
                                ds::called<"up", ds::linear<12, 12, ds::plain, ds::bias::present>>,
                                ds::layer_norm<12>, ds::tied_head<19, 12>>> {};
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
const std::int32_t tokens[] = {1, 18, 7, 0, 9};
const ids text(tokens, {5});

inline constexpr ds::moe_config experts{.dim = 6, .hidden = 10, .routed = 3, .active = 2};

}  // namespace

TEST_CASE_TEMPLATE("tied, biased and checkpointed layers on the reference", T, float, double,
                   ds::bf16) {
  const ds::reference b;
  const ds::model<net, T, ds::reference> m(b, ds::scaled_init{.gain = 1, .seed = 2});
  auto seen = m.calibration();
  m.observe(b, text, seen);
  const auto small = ds::quantize<ds::w8a8>(b, m, seen);
  const auto y = small(b, text), r = m(b, text);
  double error = 0, size = 0;
  for (ds::index_t i = 0; i < r.size(); ++i) {
    const double a = static_cast<double>(y.data()[i]), c = static_cast<double>(r.data()[i]);
    error += (a - c) * (a - c);
    size += c * c;
  }
  // Three products, 0.6 % each (see layers/quantize), times 2.5.
  CHECK(std::sqrt(error / size) < 0.026);
  CHECK(error > 0);
  CHECK(small.parameters().embed.weight.size() == 19 * 12);
}

TEST_CASE(
    "the float model gives the same bits on the cpu as on the reference where only linears "
    "differ") {
  const ds::reference r;
  const ds::cpu c{{.threads = 2}};
  using one = ds::chain<ds::linear<40, 70, ds::plain, ds::bias::present>>;
  const ds::model<one, float, ds::reference> on_reference(r, ds::scaled_init{.seed = 4});
  const ds::model<one, float, ds::cpu> on_cpu(c, ds::scaled_init{.seed = 4});
  ds::tensor<float, ds::host, 9, 40> x;
  ds::initialize_tensor(ds::normal_init{.stddev = 1, .seed = 5}, "x", x);
  const auto a = ds::quantize<ds::w8a8_dynamic>(r, on_reference)(r, x);
  const auto b = ds::quantize<ds::w8a8_dynamic>(c, on_cpu)(c, x);
  if (!ds::simd::has_fma) return support::skip("this processor's registers have no fma");
  CHECK(std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0);
}

TEST_CASE_TEMPLATE("experts side by side equal the experts one by one", Format, ds::w8a8,
                   ds::w8a8_per_token) {
  const ds::cpu b;
  using expert = ds::swiglu<6, 10>;
  using net_of_experts = ds::moe<experts, ds::softmax_top_k<>>;
  const ds::model<net_of_experts, float, ds::cpu> m(b, ds::scaled_init{.gain = 1, .seed = 9});
  ds::tensor<float, ds::host, 7, 6> x;
  ds::initialize_tensor(ds::normal_init{.stddev = 1, .seed = 5}, "x", x);
  auto seen = m.calibration();
  m.observe(b, x, seen);
  const auto small = ds::quantize<Format>(b, m, seen);
  const auto& stack = small.parameters().experts;
  for (ds::index_t e = 0; e < 3; ++e) {
    ds::model<expert, float, ds::cpu> alone(b);
    const auto take = [&](auto& to, const auto& from) {
      std::memcpy(to.data(), from.data() + e * to.size(),
                  static_cast<std::size_t>(to.size()) * sizeof(float));
    };
    take(alone.parameters().w1.weight, m.parameters().experts.w1.weight);
    take(alone.parameters().w2.weight, m.parameters().experts.w2.weight);
    take(alone.parameters().w3.weight, m.parameters().experts.w3.weight);
    auto ranges = alone.calibration();
    alone.observe(b, x, ranges);
    auto one = ds::quantize<Format>(b, alone, ranges);
    const auto& w = one.parameters().w2.weight;
    const ds::index_t size = w.q.size();
    CHECK(std::memcmp(w.q.data(), stack.w2.weight.q.data() + e * size,
                      static_cast<std::size_t>(size)) == 0);
    CHECK(std::memcmp(w.sum.data(), stack.w2.weight.sum.data() + e * 6, 6 * sizeof(int)) == 0);
    CHECK(std::memcmp(w.scale.data(), stack.w2.weight.scale.data() + e * 6, 6 * sizeof(float)) ==
          0);
  }
  CHECK(small(b, x).size() == 42);
}
