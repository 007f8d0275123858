// SPDX-License-Identifier: Apache-2.0
// with_heads in one small net: names, the outputs of all heads, gradients of every head and of
// some, inference of the first alone, in int8.
#include "deepseek/deepseek.hpp"

#include "layers/layer_gradient.hpp"
#include "support/report.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 8, .heads = 2};
using block = ds::transformer_block<ds::multi_head_attention<heads, ds::causal>, ds::mlp<8, 6>>;
struct net
    : ds::with_heads<ds::chain<ds::embedding<11, 8>, block,
                               ds::memory_compression<ds::memory_compression_config{.dim = 8}>>,
                     ds::generation_head<8, 11>,
                     ds::classification_head<8, 3, ds::pooled_row::last>,
                     ds::contrastive_head<8, 4>> {};
using model = ds::model<net, float, ds::cpu>;
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

const std::int32_t tokens[] = {1, 5, 2, 9, 10, 0, 3};
const std::int32_t offsets[] = {0, 4, 7};
const ds::run_options<ds::host> packed{
    .how = ds::mode::training, .seed = 3, .sequences = {offsets, {3}}};
ids some(ds::index_t n, ds::index_t first = 0) {
  return {tokens + first, {n}};
}

// All outputs side by side for the harness: of 2 sequences in the first rows. Heads of Parts only.
template <int Skipped>
struct side_by_side : net {
  static constexpr ds::index_t out = 18;
  template <class V>
  static auto split(const V& v) {
    using T = typename V::element_type;
    const auto part = [&](ds::index_t n, ds::index_t first) {
      return ds::view<T, ds::host, ds::dyn, ds::dyn>(v.data() + first, {n, v.extent(1)},
                                                     {v.stride(0), 1});
    };
    return ds::make_head_outputs(ds::columns<0, 11>(part(7, 0)), ds::columns<11, 3>(part(2, 0)),
                                 ds::columns<14, 4>(part(2, 0)));
  }
  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    ds::ops::fill(c.backend, 0.0, y);
    net::forward(c, p, x, split(y), k);
    if (Skipped >= 0) ds::ops::fill(c.backend, 0.0, split(y).template get<1>());
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
    const auto all = split(dy);
    if constexpr (Skipped >= 0) {
      net::backward(c, p, x,
                    ds::make_head_outputs(all.template get<0>(), ds::none{}, all.template get<2>()),
                    dx, k, g);
    } else {
      net::backward(c, p, x, all, dx, k, g);
    }
  }
};

template <class V>
std::vector<float> numbers(const V& v) {
  return {v.data(), v.data() + v.size()};
}

}  // namespace

TEST_CASE("with_heads: the gradient of all heads, and of those that have a loss") {
  const ds::cpu b{{.threads = 2}};
  layer_test::expect_layer_gradient<side_by_side<-1>>(b, "with_heads", some(7), packed);
  layer_test::expect_layer_gradient<side_by_side<1>>(b, "with_heads", some(7), packed);
}

TEST_CASE("with_heads: names, rows, outputs") {
  const ds::cpu b{{.threads = 2}};
  const model m(b, ds::normal_init{.stddev = 0.3, .seed = 7});
  std::string names;
  ds::visit([&](const ds::tensor_name& at, const auto&) { names += at.path + " "; },
            m.parameters());
  CHECK(names.find("embed.weight attn_norm.weight ") == 0);
  CHECK(
      names.ends_with("memory.norm.weight memory.norm.bias head.weight "
                      "classification.linear.weight classification.linear.bias "
                      "contrastive.linear.weight "));
  auto tape = m.tape(b);
  const auto y = m.forward(b, some(7), tape, packed);
  CHECK(y.get<0>().extent(0) == 7);
  CHECK(y.get<1>().extent(0) == 2);
  CHECK(y.get<2>().extent(1) == 4);
  ds::arena<ds::host> memory;
  const auto all = m.outputs(b, some(7), memory, packed);
  CHECK(numbers(all.get<0>()) == numbers(y.get<0>()));
  CHECK(numbers(all.get<1>()) == numbers(y.get<1>()));
  CHECK(numbers(all.get<2>()) == numbers(y.get<2>()));
  CHECK(numbers(m(b, some(7), packed).view()) == numbers(y.get<0>()));  // the first head
  // A sequence alone, without offsets; then decoding runs the first head.
  const auto alone = m.outputs(b, some(3, 4), memory);
  CHECK(alone.get<1>().extent(0) == 1);
  for (ds::index_t i = 0; i < 3; ++i) CHECK(alone.get<1>()(0, i) == y.get<1>()(1, i));
  auto d = m.decoder(b, 4);
  const auto next = m.decode(b, some(4), d);
  for (ds::index_t i = 0; i < 11; ++i) CHECK(next(3, i) == y.get<0>()(3, i));
}

TEST_CASE("with_heads: in int8") {
  const ds::cpu b;
  const model m(b, ds::scaled_init{.gain = 1, .seed = 7});
  auto seen = m.calibration();
  m.observe(b, some(7), seen, packed);
  const auto small = ds::quantize<ds::w8a8>(b, m, seen);
  ds::arena<ds::host> memory;
  const auto want = m.outputs(b, some(7), memory, packed);
  const auto got = small.outputs(b, some(7), memory, packed);
  double difference = 0, norm = 0;
  for (ds::index_t i = 0; i < want.get<2>().size(); ++i) {
    const double r = want.get<2>().data()[i];
    difference += std::pow(got.get<2>().data()[i] - r, 2);
    norm += r * r;
  }
  CHECK(difference > 0);
  CHECK(std::sqrt(difference / norm) < 0.1);
}

TEST_CASE("a pooled net trains with the trainer: one target a sequence") {
  const ds::cpu b;
  struct labels : ds::chain<ds::embedding<11, 8>, ds::classification_head<8, 3>> {};
  ds::model<labels, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.3, .seed = 7});
  ds::trainer trainer(b, m, ds::adamw{}, ds::warmup_cosine{.peak = 0.05, .warmup = 1, .total = 40});
  const std::int32_t wanted[] = {2, 0};
  double first = 0, last = 0;
  for (int step = 0; step < 40; ++step) {
    const auto r = trainer.micro_step(some(7), ids(wanted, {2}), packed.sequences);
    last = r->loss;
    if (step == 0) first = last;
  }
  CHECK(last < 0.2 * first);
}
