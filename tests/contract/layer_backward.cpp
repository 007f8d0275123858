// SPDX-License-Identifier: Apache-2.0
// What every layer promises of backward: all of dx is written and nothing beside it, gradients are
// added to (twice is exactly twice), inputs stay, the bits do not depend on uninitialized memory or
// threads, a run with a tape gives the y of one without.
#include <doctest/doctest.h>

#include <cmath>

#include "deepseek/deepseek.hpp"

#include "support/poison.hpp"

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads_of_two{.dim = 8, .heads = 4, .kv_heads = 2};
inline constexpr ds::moe_config few{
    .dim = 8, .hidden = 6, .routed = 4, .shared = 1, .active = 2, .balance = 0.1};
using seen = ds::both<ds::causal, ds::either<ds::local<2>, ds::random_blocks<2, 1>>>;
using attention = ds::multi_head_attention<heads_of_two, seen>;
using experts = ds::moe<few, ds::softmax_top_k<ds::renormalize::yes>>;
inline constexpr ds::compressed_attention_config entries{.dim = 8,
                                                         .heads = 4,
                                                         .head_dim = 4,
                                                         .rope_dim = 2,
                                                         .q_rank = 6,
                                                         .groups = 2,
                                                         .group_rank = 4,
                                                         .window = 3,
                                                         .ratio = 2,
                                                         .windows = ds::overlap::present};
using compressed = ds::compressed_attention<entries>;
using hyper = ds::hyper_connection<ds::rms_norm<4>, ds::hyper_config{.streams = 2}, "hc">;
inline constexpr ds::moe_config limited{.dim = 8,
                                        .routed = 2,
                                        .active = 1,
                                        .importance = 0.1,
                                        .z_loss = 0.1,
                                        .capacity = {.factor = 1.25}};
using any_experts = ds::moe<limited, ds::noisy_top_k<>, ds::expert_list<attention, ds::mlp<8, 12>>>;
using near_and_blocks = ds::mixed_attention<heads_of_two, ds::token_gates<>, ds::sliding<2>,
                                            ds::both<ds::causal, ds::block<3>>>;
inline constexpr ds::dynamic_sparse_config few_tokens{
    .attention = heads_of_two, .window = 2, .global = {.count = 2}};
using top_tokens = ds::dynamic_sparse_attention<few_tokens>;
inline constexpr ds::nsa_config few_blocks{
    .attention = heads_of_two,
    .stride = 1,
    .blocks = {.block = 2, .count = 2, .initial = 1, .recent = 1},
    .window = 2};
using native = ds::native_sparse_attention<few_blocks>;
using counted_heads =
    ds::dynamic_head_attention<heads_of_two, ds::everyone,
                               ds::head_gate_config{.by = ds::head_gate_by::sequence,
                                                    .edge = ds::mask_edge::soft}>;
using scales = ds::multi_scale_attention<heads_of_two, ds::learned_weights<>, ds::sliding<2>, 2>;
using levels = ds::local_then_summary<heads_of_two, 2, 2>;
// What an input of several kinds lends: rows of two kinds in turn.
template <class L>
struct of_two_kinds : L {
  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    L::forward(c.template with<ds::row_kinds>(kinds()), p, x, y, k);
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
    L::backward(c.template with<ds::row_kinds>(kinds()), p, x, dy, dx, k, g);
  }
  static ds::view<const std::int32_t, ds::host, ds::dyn> kinds() {
    static constexpr std::int32_t of_rows[] = {0, 1, 0, 1, 0, 1, 0};
    return {of_rows, {7}};
  }
};
using mixture =
    of_two_kinds<ds::dynamic_embedding<ds::dynamic_embedding_config{.dim = 8, .kinds = 2}>>;
using memory = ds::memory_compression<ds::memory_compression_config{.dim = 8}>;
using block = ds::transformer_block<attention, experts, ds::dropout_config{.rate = 0.1}>;

constexpr ds::index_t rows = 7, width = 8;
constexpr std::size_t size = 56;

template <class L>
struct run {
  ds::cpu b;
  ds::parameters<L, float, ds::host> p, g;
  support::guarded<float> x{size}, y{size}, dy{size}, dx{size};

  explicit run(int threads = 1, int fill = 0xff) : b({.threads = threads}) {
    b.workspace().fill_with(static_cast<unsigned char>(fill));
    ds::initialize(ds::normal_init{.stddev = 0.3, .seed = 3}, p);
    for (std::size_t i = 0; i < size; ++i) {
      x[i] = std::sin(1.0f + static_cast<float>(i));
      dy[i] = std::cos(static_cast<float>(i));
    }
    x.remember(), dy.remember();
  }
  static ds::view<float, ds::host, ds::dyn, width> view(support::guarded<float>& of) {
    return {of.data(), {rows, width}};
  }
  void forward_and_backward() {
    ds::arena<ds::host> tape;
    tape.fill_with(static_cast<unsigned char>(0xff));
    ds::keep<ds::for_backward, L, float, ds::host> kept;
    const ds::call<ds::cpu> c{b, {.how = ds::mode::training, .seed = 1}, b.workspace(), tape, 0,
                              {}};
    ds::run_forward<L>(c, p, ds::as_const(view(x)), view(y), kept);
    ds::run_backward<L>(c, p, ds::as_const(view(x)), ds::as_const(view(dy)), view(dx), kept, g);
  }
  std::vector<float> without_tape() {
    ds::arena<ds::host> tape;
    ds::keep<ds::nothing, L, float, ds::host> kept;
    support::guarded<float> out{size};
    const ds::call<ds::cpu> c{b, {.how = ds::mode::training, .seed = 1}, b.workspace(), tape, 0,
                              {}};
    ds::run_forward<L>(c, p, ds::as_const(view(x)), view(out), kept);
    return out.values();
  }
  std::vector<float> gradients() {
    std::vector<float> all;
    ds::visit([&](const ds::tensor_name&,
                  const auto& t) { all.insert(all.end(), t.data(), t.data() + t.size()); },
              g);
    return all;
  }
};

// A layer that is run several times adds several times: what is there already changes the rounding.
template <class>
constexpr bool adds_once = true;
template <ds::index_t N, class L>
constexpr bool adds_once<ds::repeat_shared<N, L>> = false;

}  // namespace

TEST_CASE_TEMPLATE("every layer keeps the contract of backward", L, ds::linear<8, 8>,
                   ds::linear<8, 8, ds::plain, ds::bias::present>, ds::rms_norm<8>,
                   ds::layer_norm<8>, ds::dropout<8>, ds::mlp<8, 12>, ds::swiglu<8, 12>, attention,
                   experts, ds::residual<ds::rms_norm<8>>,
                   ds::chain<ds::rms_norm<8>, ds::mlp<8, 12>>, ds::repeat<3, ds::rms_norm<8>>,
                   ds::repeat_shared<3, ds::rms_norm<8>>, ds::checkpointed<block>,
                   ds::called<"other", ds::rms_norm<8>>, block, compressed, hyper,
                   ds::grouped_linear<4, 4, 2>, any_experts, near_and_blocks, top_tokens, native,
                   counted_heads, scales, levels, ds::linear<8, 8, ds::fake<ds::int8_channels>>,
                   ds::linear<8, 8, ds::fake<ds::w8a8>, ds::bias::present>, mixture, memory,
                   ds::l2_normalize<8>, ds::learned_positions<7, 8>, ds::tagging_head<8, 8>,
                   ds::generation_head<8, 8>) {
  run<L> r;
  r.forward_and_backward();
  CHECK((r.x.unchanged() && r.dy.unchanged() && r.y.intact() && r.dx.intact()));
  const auto dx = r.dx.values();
  for (const float v : dx) CHECK(std::isfinite(v));  // dx was NaN before: all of it is written
  CHECK(support::same_bits(r.without_tape(), r.y.values()));
  auto twice = r.gradients();
  for (float& v : twice) {
    CHECK(std::isfinite(v));
    v += v;
  }
  r.forward_and_backward();
  CHECK(support::same_bits(r.dx.values(), dx));
  const auto again = r.gradients();
  if constexpr (adds_once<L>) CHECK(support::same_bits(again, twice));
  for (std::size_t i = 0; i < twice.size(); ++i) {
    CHECK(std::fabs(again[i] - twice[i]) <= 1e-5f * (1 + std::fabs(twice[i])));
  }
  CHECK(r.b.workspace().bytes_used() == 0);  // every scope gave back what it took

  run<L> more(3, 0x00);
  more.forward_and_backward();
  more.forward_and_backward();
  CHECK(support::same_bits(more.dx.values(), dx));
  CHECK(support::same_bits(more.gradients(), again));
}
