// SPDX-License-Identifier: Apache-2.0
// Fake quantization: a model that becomes the real one with equal numbers, gradients of a layer
// against plain products and masks, and a byte model that is trained with it on a text.
#include "deepseek/deepseek.hpp"

#include "support/compare.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <iterator>

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 32, .heads = 4};
inline constexpr ds::moe_config experts{.dim = 32, .hidden = 32, .routed = 2, .active = 2};
using block = ds::transformer_block<ds::multi_head_attention<heads, ds::causal>,
                                    ds::moe<experts, ds::softmax_top_k<ds::renormalize::yes>>>;
struct net : ds::chain<ds::embedding<256, 32>, ds::checkpointed<block>, ds::rms_norm<32>,
                       ds::called<"head", ds::linear<32, 256, ds::plain, ds::bias::present>>> {};
using plain_model = ds::model<net, float, ds::cpu>;
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

constexpr ds::index_t window = 128, windows = 4;

// Bytes of a text that does not change; the last tenth is never trained on.
struct text {
  std::vector<std::int32_t> bytes;
  text() {
    std::ifstream file("LICENSE", std::ios::binary);
    for (std::istreambuf_iterator<char> at(file), end; at != end; ++at) {
      bytes.push_back(static_cast<unsigned char>(*at));
    }
    REQUIRE(bytes.size() > 10000);
  }
  std::size_t held() const { return bytes.size() * 9 / 10; }
};

template <class Model>
void train(const ds::cpu& b, Model& m, const text& from, double peak, std::uint32_t steps) {
  ds::trainer trainer(b, m, ds::adamw{.weight_decay = 0.01},
                      ds::warmup_cosine{.peak = peak, .warmup = 10, .total = steps + 1});
  std::vector<std::int32_t> x, y;
  const std::int32_t starts[] = {0, 128, 256, 384, 512};
  for (std::uint32_t step = 0; step < steps; ++step) {
    x.clear(), y.clear();
    for (std::uint32_t w = 0; w < windows; ++w) {
      const ds::stream_key key{11, step, w, 0, ds::random_use::data};
      const std::size_t first = ds::random_word(key, 0) % (from.held() - window - 1);
      for (std::size_t i = first; i < first + window; ++i) {
        x.push_back(from.bytes[i]), y.push_back(from.bytes[i + 1]);
      }
    }
    trainer.micro_step(ids(x.data(), {windows * window}), ids(y.data(), {windows * window}),
                       ids(starts, {windows + 1}));
  }
}

template <class Model>
double bits_per_byte(const ds::cpu& b, const Model& m, const text& from) {
  const auto count = static_cast<ds::index_t>(from.bytes.size() - from.held() - 1) / window;
  std::vector<std::int32_t> starts;
  for (ds::index_t i = 0; i <= count; ++i) starts.push_back(static_cast<std::int32_t>(i * window));
  const ids x(from.bytes.data() + from.held(), {count * window});
  const ids y(from.bytes.data() + from.held() + 1, {count * window});
  const auto logits = m(b, x, {.sequences = ids(starts.data(), {count + 1})});
  ds::tensor<float, ds::host, ds::dyn> each({logits.extent(0)});
  return ds::ops::cross_entropy(b, logits, y, each).mean / std::log(2.0);
}

template <class Model>
auto calibrated(const ds::cpu& b, const Model& m, const text& from) {
  auto seen = m.calibration();
  for (ds::index_t i = 0; i < 8; ++i)
    m.observe(b, ids(from.bytes.data() + i * 700, {window}), seen);
  return seen;
}

template <class A, class B>
bool same_bits(const A& a, const B& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(),
                     static_cast<std::size_t>(a.size()) * sizeof(a.data()[0])) == 0;
}
template <class Y>
double relative_error(const Y& y, const Y& r) {
  double error = 0, size = 0;
  for (ds::index_t i = 0; i < r.size(); ++i) {
    const double want = static_cast<double>(r.data()[i]);
    const double d = static_cast<double>(y.data()[i]) - want;
    error += d * d, size += want * want;
  }
  return std::sqrt(error / size);
}

// Trained steps of all kinds away from where they started.
template <class M>
void move_steps(M& m) {
  ds::visit(
      [&](const ds::tensor_name& at, auto& t) {
        if (!at.path.ends_with("log_step")) return;
        for (ds::index_t i = 0; i < t.size(); ++i)
          t.data()[i] -= decltype(+t.data()[0])(0.1 + 0.01 * static_cast<double>(i % 7));
      },
      m.parameters());
}

}  // namespace

TEST_CASE_TEMPLATE("weights only: the real model has the bits of the fake one", F,
                   ds::int8_channels, ds::int4_symmetric<32>, ds::int4_symmetric<64, ds::f16>) {
  const ds::cpu b{{.threads = 2}};
  const plain_model m(b, ds::scaled_init{.seed = 1});
  auto fake = ds::fake_quantize<F>(b, m);
  const text from;
  const ids x(from.bytes.data(), {40});
  // Before training: what the format makes of the plain weights, up to the logarithm of its steps.
  CHECK(relative_error(fake(b, x), ds::quantize<F>(b, m)(b, x)) < 1e-3);
  move_steps(fake);
  const auto small = ds::quantize<F>(b, fake);
  CHECK(same_bits(small(b, x), fake(b, x)));
  const auto wide = ds::quantize<ds::plain>(b, fake);  // as numbers, into any format
  CHECK(same_bits(wide(b, x), fake(b, x)));
}

TEST_CASE("w8a8: the same codes and ranges, sums as integers instead of floats") {
  const ds::cpu b{{.threads = 2}};
  const plain_model m(b, ds::scaled_init{.seed = 1});
  const text from;
  const ids x(from.bytes.data(), {40});
  const auto seen = calibrated(b, m, from);
  auto fake = ds::fake_quantize<ds::w8a8>(b, m, seen);
  CHECK(relative_error(fake(b, x), ds::quantize<ds::w8a8>(b, m, seen)(b, x)) < 5e-3);
  move_steps(fake);
  const auto small = ds::quantize<ds::w8a8>(b, fake);
  CHECK(relative_error(small(b, x), fake(b, x)) < 5e-3);  // codes of inputs flip at ties
  const auto& head = fake.parameters().get<3>().weight;
  const auto& real = small.parameters().get<3>().weight;
  CHECK(real.x_scale.data()[0] == std::exp(head.x_log_step.data()[0]));
  CHECK(real.x_zero.data()[0] == head.x_zero.data()[0]);
  int wrong = 0;
  for (ds::index_t n = 0; n < 256; ++n) {
    wrong += real.scale.data()[n] != head.expert(0).step(n);
    for (ds::index_t k = 0; k < 32; ++k) {
      wrong += real.q.data()[real.layout.at(n, k)] != head.expert(0).code(n, k);
    }
  }
  CHECK(wrong == 0);
}

// One layer: gradients of the products with rounded weights and inputs, cut off by the masks.
TEST_CASE_TEMPLATE("gradients of a layer", F, ds::int4_symmetric<32>, ds::w8a8) {
  using layer = ds::linear<40, 12, ds::plain, ds::bias::present>;
  const ds::reference b;
  const ds::model<layer, double, ds::reference> m(b, ds::scaled_init{.seed = 3});
  ds::tensor<double, ds::host, 6, 40> x;
  ds::tensor<double, ds::host, 6, 12> dy;
  ds::initialize_tensor(ds::normal_init{.stddev = 1, .seed = 5}, "x", x);
  ds::initialize_tensor(ds::normal_init{.stddev = 1, .seed = 6}, "dy", dy);
  auto seen = m.calibration();
  m.observe(b, x, seen);
  auto fake = ds::fake_quantize<F>(b, m, seen);
  move_steps(fake);  // smaller steps: some weights and inputs are cut off
  using fake_layer = typename decltype(fake)::net;
  ds::keep<ds::for_backward, fake_layer, double, ds::host> kept;
  ds::parameters<fake_layer, double, ds::host> g;
  ds::arena<ds::host> tape;
  ds::tensor<double, ds::host, 6, 12> y;
  ds::tensor<double, ds::host, 6, 40> dx, dx_want, rounded = x;
  const ds::call<ds::reference> c{b, {}, b.workspace(), tape, 0, {}};
  const auto& p = fake.parameters();
  ds::run_forward<fake_layer>(c, p, ds::as_const(x.view()), y.view(), kept);
  ds::run_backward<fake_layer>(c, p, ds::as_const(x.view()), ds::as_const(dy.view()), dx.view(),
                               kept, g);
  const auto w = p.weight.expert(0);
  const auto cut = [](double v, double least, double most) { return v < least || v > most; };
  int wrong = 0, cuts = 0;
  for (ds::index_t n = 0; n < 6; ++n) {
    for (ds::index_t k = 0; k < 40; ++k) {
      double sum = 0;
      for (ds::index_t o = 0; o < 12; ++o) sum += dy.view()(n, o) * w(o, k);
      if constexpr (ds::fake_form<F>::rounds_inputs) {
        const ds::int8_range r = p.weight.input_range();
        const double code = std::nearbyint(x.view()(n, k) / static_cast<double>(r.scale)) + r.zero;
        if (cut(code, 0, 255)) sum = 0, ++cuts;
        rounded.view()(n, k) =
            (std::clamp(code, 0.0, 255.0) - r.zero) * static_cast<double>(r.scale);
      }
      wrong += !(std::fabs(dx.view()(n, k) - sum) < 1e-9);
    }
  }
  const ds::fake_grid grid = decltype(p.weight)::grid;
  for (ds::index_t o = 0; o < 12; ++o) {
    double bias = 0;
    for (ds::index_t n = 0; n < 6; ++n) bias += dy.view()(n, o);
    wrong += !(std::fabs(g.bias.data()[o] - bias) < 1e-9);
    for (ds::index_t k = 0; k < 40; ++k) {
      double sum = 0;
      for (ds::index_t n = 0; n < 6; ++n) sum += dy.view()(n, o) * rounded.view()(n, k);
      const double code = std::nearbyint(p.weight.values()(o, k) / w.step(o, k));
      if (cut(code, grid.least, grid.most)) sum = 0, ++cuts;
      wrong += !(std::fabs(g.weight.values()(o, k) - sum) < 1e-9);
    }
  }
  CHECK(wrong == 0);
  CHECK(cuts > 0);
  double moved = 0;
  for (ds::index_t i = 0; i < g.weight.log_step.size(); ++i)
    moved += std::fabs(g.weight.log_step.data()[i]);
  CHECK(moved > 0);
  if constexpr (ds::fake_form<F>::rounds_inputs) CHECK(g.weight.x_log_step.data()[0] != 0);
}

// Two thirds of the way in float; then the same steps on the same text once more in float and once
// for the format. The real model made of the second is within 1 % of the first.
TEST_CASE("a byte model trained for a format is within 1 % of the float one") {
  const ds::cpu b{{.threads = 2}};
  const text from;
  plain_model start(b, ds::scaled_init{.seed = 1});
  train(b, start, from, 1e-2, 200);
  plain_model plain(b);
  plain.parameters() = start.parameters();
  train(b, plain, from, 2e-3, 100);
  const double bits = bits_per_byte(b, plain, from);
  CHECK(bits < 4.2);

  auto eight = ds::fake_quantize<ds::w8a8>(b, start, calibrated(b, start, from));
  train(b, eight, from, 2e-3, 100);
  const double in_w8a8 = bits_per_byte(b, ds::quantize<ds::w8a8>(b, eight), from);
  auto four = ds::fake_quantize<ds::int4_symmetric<32>>(b, start);
  train(b, four, from, 2e-3, 100);
  const double in_int4 = bits_per_byte(b, ds::quantize<ds::int4_symmetric<32>>(b, four), from);
  const double after = bits_per_byte(b, ds::quantize<ds::int4_symmetric<32>>(b, plain), from);
  MESSAGE("bits per byte: float " << bits << ", w8a8 " << in_w8a8 << ", int4 " << in_int4
                                  << "; int4 after training " << after);
  CHECK(in_w8a8 < 1.01 * bits);
  CHECK(in_int4 < 1.01 * bits);
}
