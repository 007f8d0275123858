// SPDX-License-Identifier: Apache-2.0
// repeat_shared<3, L> is repeat<3, L> with three equal sets of parameters; its gradient is the sum
// of theirs. It decodes with a cache for each pass, and is quantized as one layer.
#include "deepseek/deepseek.hpp"

#include "layers/layer_trial.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

using layer = ds::residual<ds::chain<ds::mlp<6, 9, ds::activation::silu>, ds::dropout<6>>>;
using shared = ds::repeat_shared<3, layer>;
using apart = ds::repeat<3, layer>;

inline constexpr ds::attention_config heads{.dim = 8, .heads = 2};
struct net
    : ds::chain<ds::embedding<11, 8>,
                ds::repeat_shared<3, ds::residual<ds::multi_head_attention<heads, ds::causal>>>,
                ds::called<"head", ds::linear<8, 11>>> {};

}  // namespace

TEST_CASE("repeat_shared: equal layers, summed gradients, one set of names") {
  const ds::cpu b{{.threads = 2}};
  rows_of<double, 6> x(11);
  layer_test::trial<shared, double> one;
  layer_test::trial<apart, double> three;
  const auto values = layer_test::flat(one.p);
  std::size_t at = 0;
  ds::visit(
      [&](const ds::tensor_name&, auto& t) {
        for (ds::index_t i = 0; i < t.size(); ++i) t.data()[i] = values[at++ % values.size()];
      },
      three.p);
  CHECK(at == 3 * values.size());
  CHECK(support::same_bits(one.forward(b, x.view()), three.forward(b, x.view())));
  CHECK(support::same_bits(one.backward(b, x.view()), three.backward(b, x.view())));
  const auto sum = layer_test::flat(one.g), parts = layer_test::flat(three.g);
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < sum.size(); ++i) {
    const double want = parts[i] + parts[i + sum.size()] + parts[i + 2 * sum.size()];
    worst = std::max(worst, std::fabs(sum[i] - want));
    largest = std::max(largest, std::fabs(want));
  }
  CHECK(largest > 0.1);
  CHECK(worst < 1e-13 * largest);
  std::string names;
  ds::visit([&](const ds::tensor_name& n, const auto&) { names += n.path + " "; }, one.p);
  CHECK(names == "ffn.w1.weight ffn.w1.bias ffn.w2.weight ffn.w2.bias ");
}

TEST_CASE("repeat_shared: gradient by differences") {
  const ds::cpu b;
  rows_of<double, 6> x(4);
  layer_test::expect_layer_gradient<shared>(b, "repeat_shared", x.view());
}

TEST_CASE("repeat_shared: every pass has its own cache; one calibration for all") {
  const ds::cpu b;
  const ds::model<net, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.4, .seed = 3});
  const std::int32_t tokens[] = {1, 5, 2, 9, 10, 0, 5};
  const ds::view<const std::int32_t, ds::host, ds::dyn> ids(tokens, {7});
  const auto whole = m(b, ids);
  auto decoder = m.decoder(b, 7);
  for (ds::index_t i = 0; i < 7; ++i) {
    const auto y = m.decode(b, ds::rows(ids, i, 1), decoder);
    for (ds::index_t v = 0; v < 11; ++v) CHECK(y(0, v) == whole.view()(i, v));
  }
  auto seen = m.calibration();
  m.observe(b, ids, seen);
  const auto small = ds::quantize<ds::w8a8>(b, m, seen);
  const auto y = small(b, ids);
  double error = 0, size = 0;
  for (ds::index_t i = 0; i < y.size(); ++i) {
    error += std::pow(static_cast<double>(y.data()[i] - whole.data()[i]), 2);
    size += std::pow(static_cast<double>(whole.data()[i]), 2);
  }
  CHECK(error < 1e-3 * size);
  CHECK(error > 0);
}
