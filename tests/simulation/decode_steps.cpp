// SPDX-License-Identifier: Apache-2.0
// Decode steps that are recorded and replayed, on the simulated device in memory that the host
// cannot touch: two steps launch the same with the same arguments, replays have the bits of
// decode, bounds are crossed, and a net that cannot be replayed says why and gives the same text.
#include "deepseek/serve/decode_steps.hpp"
#include "deepseek/layers/attention.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/latent_attention.hpp"
#include "deepseek/layers/moe.hpp"
#include "deepseek/layers/repeat.hpp"
#include "deepseek/layers/residual.hpp"
#include "deepseek/layers/sparse_attention.hpp"
#include "deepseek/layers/transformer_block.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/serve/generate.hpp"

#include "simulation/stepped_pair.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;
using steps_test::gpu;

namespace {

inline constexpr ds::attention_config heads{.dim = 16, .heads = 4, .kv_heads = 2};
inline constexpr ds::mla_config latent{.dim = 16,
                                       .heads = 2,
                                       .kv_rank = 8,
                                       .nope_dim = 8,
                                       .rope_dim = 4,
                                       .v_dim = 8,
                                       .form = ds::latent_form::absorbed};
inline constexpr ds::moe_config experts{
    .dim = 16, .hidden = 8, .routed = 4, .shared = 1, .active = 2};
struct net : ds::chain<ds::embedding<29, 16>,
                       ds::called<"first", ds::multi_head_attention<heads, ds::causal>>,
                       ds::transformer_block<ds::latent_attention<latent, ds::causal>,
                                             ds::moe<experts, ds::top_k_gate<ds::gate_config{}>>>,
                       ds::called<"head", ds::linear<16, 29>>> {};

// DeepSeek-V3.2's attention: a bound of 8 or 16 positions selects, fewer than TopK see all.
template <ds::index_t TopK, ds::row_precision Rows>
inline constexpr ds::dsa_config chosen{.attention = {.dim = 16,
                                                     .heads = 2,
                                                     .q_rank = 8,
                                                     .kv_rank = 8,
                                                     .nope_dim = 8,
                                                     .rope_dim = 4,
                                                     .v_dim = 8,
                                                     .form = ds::latent_form::absorbed},
                                       .index_heads = 2,
                                       .index_dim = 8,
                                       .top_k = TopK,
                                       .training = ds::indexer_training::none,
                                       .latents = Rows,
                                       .index_rows = Rows};
template <ds::index_t TopK, ds::row_precision Rows>
struct sparse_net
    : ds::chain<ds::embedding<29, 16>,
                ds::repeat<2, ds::residual<ds::deepseek_sparse_attention<chosen<TopK, Rows>>>>,
                ds::called<"head", ds::linear<16, 29>>> {};
// Its widths in 16 bits, for which listed rows are gathered.
inline constexpr ds::dsa_config gathered{.attention = {.dim = 16,
                                                       .heads = 8,
                                                       .q_rank = 8,
                                                       .kv_rank = 512,
                                                       .nope_dim = 8,
                                                       .rope_dim = 64,
                                                       .v_dim = 8,
                                                       .form = ds::latent_form::absorbed},
                                         .index_heads = 2,
                                         .index_dim = 64,
                                         .top_k = 4,
                                         .training = ds::indexer_training::none};
struct gathered_net : ds::chain<ds::embedding<29, 16>, ds::deepseek_sparse_attention<gathered>,
                                ds::called<"head", ds::linear<16, 29>>> {};

using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
constexpr std::int32_t prompt[] = {3, 10, 17};

// y = x, and something that no recording can hold.
template <int What>
struct stubborn {
  static constexpr ds::index_t out = 16;
  static constexpr const char* label = "stubborn";
  template <class T, class S>
  struct parameters {
    using layer = stubborn;
  };
  struct counts {
    void reserve(ds::index_t) {}
  };
  template <class T, class S>
  using state = std::conditional_t<What == 0, counts, ds::none>;
  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P&, const X& x, const Y& y, K&) {
    if constexpr (What == 1 && requires { c.backend.read(x.data()); }) {
      (void)c.backend.read(x.data());
    }
    if constexpr (What == 2) {
      const auto at = c.scratch.template make<std::int32_t, ds::dyn>(x.extent(0));
      ds::ops::positions(c.backend, c.options.start, c.options.sequences, at);
    }
    ds::ops::copy(c.backend, x, y);
  }
};
template <int What>
struct small
    : ds::chain<ds::embedding<29, 16>, stubborn<What>, ds::called<"head", ds::linear<16, 29>>> {};

template <class Net>
ds::generation same_text(ds::index_t tokens) {
  const ds::reference host;
  const gpu device;
  const ds::model<Net, float, ds::reference> m(host, ds::scaled_init{.gain = 1, .seed = 5});
  const ds::model<Net, float, gpu> on(device, m);
  std::vector<std::int32_t> here, there;
  const ds::generate_options how{.tokens = tokens, .sampling = {.temperature = 0}};
  ds::generate(host, m, ids(prompt, {3}), how, [&](std::int32_t t) { here.push_back(t); });
  const auto done =
      ds::generate(device, on, ids(prompt, {3}), how, [&](std::int32_t t) { there.push_back(t); });
  CHECK(here == there);
  return done;
}

template <class Net, class T>
void expect_replayed() {
  steps_test::stepped_pair<Net, T> p(16, 8);  // bounds 8 and 16
  p.decode(3);
  p.step(13);
  CHECK(p.steps.not_replayed().empty());
  CHECK(p.steps.recorded() == 2);
  CHECK(p.steps.replayed() == 11);  // 13 steps, the first at each bound launched one by one
  CHECK_ERROR(ds::error_code::index_range, "16 + 1", "capacity of 16", p.steps(1));
}

}  // namespace

TEST_CASE("decode steps: two launch the same, and replays have the bits of decode") {
  expect_replayed<net, float>();
}

TEST_CASE("decode steps: sparse attention, whose selection begins at a bound or within one") {
  expect_replayed<sparse_net<8, ds::row_precision::exact>, float>();
  expect_replayed<sparse_net<5, ds::row_precision::exact>, float>();
  expect_replayed<sparse_net<5, ds::row_precision::fp8>, float>();
  expect_replayed<gathered_net, ds::bf16>();
}

TEST_CASE("decode steps: consecutive recordings are equal") {
  const gpu device(simulation::library::plain_loops);
  const ds::model<net, float, gpu> on(device);
  auto d = on.decoder(device, 16);
  std::int32_t given[2] = {4, 0};
  ds::tensor<std::int32_t, ds::device, 2> there;
  ds::tensor<float, ds::device, ds::dyn, 29> y({1, 29});
  const auto launches = [&] {
    on.launch_step(device, ds::rows(ds::as_const(there.view()), 0, 1), y.view(), d,
                   {.moving = {ds::rows(ds::as_const(there.view()), 1, 1), 16}});
  };
  const auto run = [&] {
    ds::transfer(ds::view<const std::int32_t, ds::host, 2>(given, {2}), there);
    launches();  // memory grows
    const simulation::recorded_launches now(device, launches);
    d.advance(1);
    given[0] = 7;
    ++given[1];
    return now;
  };
  const auto first = run(), second = run();
  CHECK(first.list().size() > 20);
  CHECK(first.list() == second.list());
  auto other = on.decoder(device, 16);
  const simulation::recorded_launches elsewhere(device, [&] {
    on.launch_step(device, ds::rows(ds::as_const(there.view()), 0, 1), y.view(), other,
                   {.moving = {ds::rows(ds::as_const(there.view()), 1, 1), 16}});
  });
  CHECK(!(first.list() == elsewhere.list()));  // the comparison sees arguments
}

TEST_CASE("decode steps: generate replays, and says why where it cannot") {
  const auto done = same_text<net>(7);
  CHECK(done.replayed_steps == 5);
  CHECK(done.not_replayed.empty());

  const auto keeps = same_text<small<0>>(5), reads = same_text<small<1>>(5),
             starts = same_text<small<2>>(5);
  CHECK(keeps.not_replayed.find("depend on the length") != std::string::npos);
  CHECK(reads.not_replayed.find("read back while launches are recorded") != std::string::npos);
  CHECK(starts.not_replayed.find("start is -") != std::string::npos);
  CHECK(keeps.replayed_steps + reads.replayed_steps + starts.replayed_steps == 0);
}

TEST_CASE("decode steps: bounds") {
  static_assert(ds::step_bound(0, 4096) == 512 && ds::step_bound(511, 4096) == 512);
  static_assert(ds::step_bound(512, 4096) == 1024 && ds::step_bound(3000, 4000) == 4000);
  CHECK(ds::step_bound(8, 100, 8) == 16);
}
