// SPDX-License-Identifier: Apache-2.0
// What every layer promises, asked of each layer type: the concept, distinct paths, parameters and
// gradients of one type, a forward that writes all of y and nothing else, the same bits twice.
#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "deepseek/deepseek.hpp"

#include "support/poison.hpp"

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads_of_two{.dim = 8, .heads = 4, .kv_heads = 2};
inline constexpr ds::moe_config few{.dim = 8, .hidden = 6, .routed = 4, .shared = 1, .active = 2};
using attention = ds::multi_head_attention<heads_of_two, ds::causal>;
using experts = ds::moe<few>;
inline constexpr ds::compressed_attention_config entries{.dim = 8,
                                                         .heads = 4,
                                                         .head_dim = 4,
                                                         .rope_dim = 2,
                                                         .q_rank = 6,
                                                         .groups = 2,
                                                         .group_rank = 4,
                                                         .window = 3,
                                                         .ratio = 2,
                                                         .windows = ds::overlap::present,
                                                         .selected = 2,
                                                         .index_heads = 2,
                                                         .index_dim = 4};
using compressed = ds::compressed_attention<entries>;
using hyper = ds::hyper_connection<ds::rms_norm<4>, ds::hyper_config{.streams = 2}, "hc">;
inline constexpr ds::moe_config limited{
    .dim = 8, .routed = 2, .active = 1, .capacity = {.factor = 1.25}};
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
  static ds::view<const std::int32_t, ds::host, ds::dyn> kinds() {
    static constexpr std::int32_t of_rows[] = {0, 1, 0, 1, 0, 1, 0};
    return {of_rows, {7}};
  }
};
using mixture =
    of_two_kinds<ds::dynamic_embedding<ds::dynamic_embedding_config{.dim = 8, .kinds = 2}>>;
using memory = ds::memory_compression<ds::memory_compression_config{.dim = 8}>;

#define EVERY_LAYER                                                                              \
  ds::linear<8, 8>, ds::linear<8, 8, ds::plain, ds::bias::present>, ds::rms_norm<8>,             \
      ds::layer_norm<8>, ds::dropout<8>, ds::mlp<8, 12>, ds::swiglu<8, 12>, attention, experts,  \
      ds::residual<ds::rms_norm<8>>, ds::chain<ds::rms_norm<8>, ds::mlp<8, 12>>,                 \
      ds::repeat<2, ds::rms_norm<8>>, ds::repeat_shared<2, ds::rms_norm<8>>,                     \
      ds::checkpointed<ds::mlp<8, 12>>, ds::called<"other", ds::rms_norm<8>>,                    \
      ds::transformer_block<attention, experts>, compressed, hyper, ds::grouped_linear<4, 4, 2>, \
      any_experts, ds::soft_mixture<8, 2>, near_and_blocks, top_tokens, native, counted_heads,   \
      scales, levels, ds::linear<8, 8, ds::fake<ds::int8_channels>>,                             \
      ds::linear<8, 8, ds::fake<ds::w8a8>, ds::bias::present>, mixture, memory,                  \
      ds::l2_normalize<8>, ds::learned_positions<7, 8>, ds::tagging_head<8, 8>,                  \
      ds::generation_head<8, 8>

template <class L>
struct run {
  ds::cpu b;
  ds::parameters<L, float, ds::host> p;
  support::guarded<float> x{56}, y{56};

  run() {
    ds::initialize(ds::normal_init{.stddev = 0.3, .seed = 3}, p);
    for (std::size_t i = 0; i < 56; ++i) x[i] = std::sin(1.0f + static_cast<float>(i));
  }
  void forward() {
    ds::arena<ds::host> tape;
    ds::keep<ds::nothing, L, float, ds::host> kept;
    const ds::call<ds::cpu> c{b, {.how = ds::mode::training, .seed = 1}, b.workspace(), tape, 0,
                              {}};
    ds::run_forward<L>(c, p, ds::view<const float, ds::host, ds::dyn, 8>(x.data(), {7, 8}),
                       ds::view<float, ds::host, ds::dyn, 8>(y.data(), {7, 8}), kept);
  }
};

}  // namespace

TEST_CASE_TEMPLATE("every layer keeps the contract", L, EVERY_LAYER) {
  static_assert(ds::Layer<L>);
  static_assert(L::out == 8);
  run<L> r;
  std::set<std::string> paths;
  int tensors = 0;
  ds::visit([&](const ds::tensor_name& at, const auto&) { ++tensors, paths.insert(at.path); }, r.p);
  CHECK(static_cast<int>(paths.size()) == tensors);

  r.x.remember();
  r.forward();
  CHECK(r.x.unchanged());  // the input is only read
  CHECK(r.y.intact());     // nothing beside y is written
  const auto first = r.y.values();
  for (const float v : first) CHECK(std::isfinite(v));  // y was NaN before: all of it is written
  r.forward();
  CHECK(support::same_bits(first, r.y.values()));
}
