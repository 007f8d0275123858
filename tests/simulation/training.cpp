// SPDX-License-Identifier: Apache-2.0
// A language model of DeepSeek-V3's kind trained and run on the simulated device, in memory that
// the host cannot touch, beside the reference backend: the same losses, parameters and text.
#include "deepseek/backend/cuda/ops.hpp"
#include "deepseek/backend/reference/reference.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/latent_attention.hpp"
#include "deepseek/layers/moe.hpp"
#include "deepseek/layers/mtp.hpp"
#include "deepseek/layers/repeat.hpp"
#include "deepseek/layers/transformer_block.hpp"
#include "deepseek/layers/with_mtp.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/serve/generate.hpp"
#include "deepseek/train/trainer.hpp"

#include "simulation/device.hpp"
#include "support/report.hpp"

#include <cmath>

#include <doctest/doctest.h>

namespace ds = deepseek;
using gpu = simulation::basic_device<ds::device>;

namespace {

inline constexpr ds::mla_config latent{
    .dim = 16, .heads = 2, .kv_rank = 8, .nope_dim = 8, .rope_dim = 4, .v_dim = 8};
inline constexpr ds::moe_config experts{
    .dim = 16, .hidden = 8, .routed = 4, .shared = 1, .active = 2};
inline constexpr ds::gate_config routing{.score = ds::gate_score::sigmoid,
                                         .bias = ds::selection_bias::present,
                                         .norm = ds::renormalize::yes,
                                         .bias_step = 1e-2};
using layer = ds::transformer_block<ds::latent_attention<latent, ds::causal>,
                                    ds::moe<experts, ds::top_k_gate<routing>>>;
struct net : ds::with_mtp<ds::embedding<29, 16>, ds::repeat<1, layer>, ds::mtp_layer<layer>,
                          ds::called<"head", ds::linear<16, 29>>> {};

constexpr std::int32_t tokens = 24;

// Text that has something to learn, in two sequences.
struct batch {
  ds::tensor<std::int32_t, ds::host, ds::dyn> ids{{tokens}}, targets{{tokens}}, offsets{{3}};
  explicit batch(int step) {
    for (std::int32_t i = 0; i < tokens; ++i) {
      ids.data()[i] = (i * 7 + step) % 29;
      targets.data()[i] = ((i + 1) * 7 + step) % 29;
    }
    offsets.data()[1] = 11;
    offsets.data()[2] = tokens;
  }
};

template <class Model, class B>
auto trainer_of(const B& b, Model& m) {
  return ds::trainer(b, m, ds::adamw{}, ds::constant_rate{1e-2},
                     ds::trainer_config{.clip = 1, .seed = 3});
}

template <class T>
const auto& identity(const T& t) {
  return t;
}
// Three steps; place(tensor) puts a host tensor where the backend is.
template <class Model, class B, class Place>
std::vector<double> train(const B& b, Model& m, const Place& place) {
  auto run = trainer_of(b, m);
  std::vector<double> losses;
  for (int step = 0; step < 3; ++step) {
    const batch work(step);
    const auto& ids = place(work.ids);
    const auto& targets = place(work.targets);
    const auto& offsets = place(work.offsets);
    const auto r = run.micro_step(ids.view(), targets.view(), offsets.view());
    losses.push_back(r->loss);
    losses.push_back(r->draft_loss);
    losses.push_back(r->norm);
  }
  return losses;
}

}  // namespace

TEST_CASE("training and generation on the device are those of plain loops") {
  const ds::reference host;
  const gpu device(simulation::library::plain_loops);
  ds::model<net, float, ds::reference> m(host, ds::scaled_init{.gain = 1, .seed = 5});
  ds::model<net, float, gpu> on(device, m);

  const auto want = train(
      host, m, [](const auto& t) -> const auto& { return t; });
  const auto got = train(device, on, [](const auto& t) { return ds::in_memory<ds::device>(t); });
  REQUIRE(want.size() == got.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    CHECK(std::fabs(got[i] - want[i]) < 1e-4 * std::fmax(1, std::fabs(want[i])));
  }
  CHECK(want[6] < want[0]);

  ds::parameters<net, float, ds::host> back;
  ds::transfer_all(on.parameters(), back);
  ds::visit(
      [](const ds::tensor_name& at, const auto& a, const auto& b) {
        double most = 0;
        for (ds::index_t i = 0; i < a.size(); ++i) {
          most = std::fmax(
              most, std::fabs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i])));
        }
        CHECK_MESSAGE(most < 2e-3, at.path, " differs by ", most);
      },
      m.parameters(), back);

  // Both go on from the same numbers: the same text.
  const ds::model<net, float, ds::reference> from(host, on);
  std::int32_t prompt[] = {3, 10, 17};
  const ds::view<const std::int32_t, ds::host, ds::dyn> start(prompt, {3});
  std::vector<std::int32_t> here, there;
  const ds::generate_options how{.tokens = 6, .sampling = {.temperature = 0}};
  ds::generate(host, from, start, how, [&](std::int32_t t) { here.push_back(t); });
  ds::generate(device, on, start, how, [&](std::int32_t t) { there.push_back(t); });
  CHECK(here == there);
}
