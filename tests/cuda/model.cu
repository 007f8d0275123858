// SPDX-License-Identifier: Apache-2.0
// A small language model of DeepSeek-V3's kind on a GPU, in its own memory: decode steps replayed
// as a graph have the bits of those launched one by one, the text is that of the reference backend,
// and three steps of training give its losses.
#include "deepseek/cuda.cuh"

#include "deepseek/serve/decode_steps.hpp"
#include "deepseek/serve/generate.hpp"
#include "cuda/has_device.cuh"
#include "support/report.hpp"

#include <cmath>
#include <vector>

#include <doctest/doctest.h>

namespace ds = deepseek;
using cuda_test::has_device;

namespace {

inline constexpr ds::attention_config heads{.dim = 64, .heads = 4, .kv_heads = 2};
inline constexpr ds::mla_config latent{.dim = 64,
                                       .heads = 4,
                                       .kv_rank = 32,
                                       .nope_dim = 32,
                                       .rope_dim = 32,
                                       .v_dim = 32,
                                       .form = ds::latent_form::absorbed};
inline constexpr ds::moe_config experts{
    .dim = 64, .hidden = 32, .routed = 8, .shared = 1, .active = 2};
struct net : ds::chain<ds::embedding<29, 64>,
                       ds::called<"first", ds::multi_head_attention<heads, ds::causal>>,
                       ds::transformer_block<ds::latent_attention<latent, ds::causal>,
                                             ds::moe<experts, ds::top_k_gate<ds::gate_config{}>>>,
                       ds::called<"head", ds::linear<64, 29>>> {};

using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
constexpr std::int32_t prompt[] = {3, 10, 17};

template <class T>
std::vector<float> on_host(const ds::view<T, ds::device, ds::dyn, 29>& y) {
  const auto row = ds::in_memory<ds::host>(ds::slice(y, y.extent(0) - 1));
  std::vector<float> numbers;
  for (int i = 0; i < 29; ++i) numbers.push_back(static_cast<float>(row.data()[i]));
  return numbers;
}

template <class T>
void expect_replayed() {
  const ds::reference host;
  const ds::cuda device;
  const ds::model<net, T, ds::reference> m(host, ds::scaled_init{.gain = 1, .seed = 5});
  const ds::model<net, T, ds::cuda> on(device, m);
  auto plain = on.decoder(device, 16), stepped = on.decoder(device, 16);
  const auto begin = ds::in_memory<ds::device>(ids(prompt, {3}));
  (void)on.decode(device, begin, plain);
  (void)on.decode(device, begin, stepped);
  ds::decode_steps<net, T, ds::cuda> steps(device, on, stepped, 8);  // bounds 8 and 16
  for (std::int32_t t = 0; t < 13; ++t) {
    const std::int32_t token = t * 5 % 29;
    const auto there = ds::in_memory<ds::device>(ids(&token, {1}));
    const auto want = on_host(on.decode(device, there, plain));
    CHECK(on_host(steps(token)) == want);
  }
  CHECK_MESSAGE(steps.not_replayed().empty(), steps.not_replayed());
  CHECK(steps.recorded() == 2);
  CHECK(steps.replayed() == 11);
}

// Losses of three steps; place(tensor) puts a host tensor where the backend is.
template <class Model, class B, class Place>
std::vector<double> train(const B& b, Model& m, const Place& place) {
  ds::trainer run(b, m, ds::adamw{}, ds::constant_rate{1e-2},
                  ds::trainer_config{.clip = 1, .seed = 3});
  std::vector<double> losses;
  for (std::int32_t step = 0; step < 3; ++step) {
    ds::tensor<std::int32_t, ds::host, ds::dyn> from({24}), to({24}), offsets({3});
    for (std::int32_t i = 0; i < 24; ++i) {
      from.data()[i] = (i * 7 + step) % 29;
      to.data()[i] = ((i + 1) * 7 + step) % 29;
    }
    offsets.data()[1] = 11;
    offsets.data()[2] = 24;
    const auto x = place(from), y = place(to), at = place(offsets);
    const auto r = run.micro_step(x.view(), y.view(), at.view());
    losses.push_back(r->loss);
    losses.push_back(r->norm);
  }
  return losses;
}

}  // namespace

TEST_CASE("model: decode steps replayed as a graph have the bits of steps launched one by one") {
  if (!has_device()) return;
  expect_replayed<float>();
  expect_replayed<ds::bf16>();
}

TEST_CASE("model: its text is that of the reference backend, and it is replayed") {
  if (!has_device()) return;
  const ds::reference host;
  const ds::cuda device;
  const ds::model<net, float, ds::reference> m(host, ds::scaled_init{.gain = 1, .seed = 5});
  const ds::model<net, float, ds::cuda> on(device, m);
  std::vector<std::int32_t> here, there;
  const ds::generate_options how{.tokens = 7, .sampling = {.temperature = 0}};
  ds::generate(host, m, ids(prompt, {3}), how, [&](std::int32_t t) { here.push_back(t); });
  const auto done =
      ds::generate(device, on, ids(prompt, {3}), how, [&](std::int32_t t) { there.push_back(t); });
  CHECK(here == there);
  CHECK_MESSAGE(done.not_replayed.empty(), done.not_replayed);
  CHECK(done.replayed_steps == 5);
}

TEST_CASE("model: three steps of training have the losses of the reference backend") {
  if (!has_device()) return;
  const ds::reference host;
  const ds::cuda device;
  ds::model<net, float, ds::reference> m(host, ds::scaled_init{.gain = 1, .seed = 5});
  ds::model<net, float, ds::cuda> on(device, m);
  const auto want = train(host, m, [](const auto& t) { return t; });
  const auto got = train(device, on, [](const auto& t) { return ds::in_memory<ds::device>(t); });
  REQUIRE(want.size() == got.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    CHECK(std::fabs(got[i] - want[i]) < 1e-3 * std::fmax(1, std::fabs(want[i])));
  }
}
