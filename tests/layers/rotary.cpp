// SPDX-License-Identifier: Apache-2.0
// Scaled rotary embedding in the attention layer: gradients, what the scaling changes, and dynamic
// NTK with a cache: the length of the call, one length for all calls, several sequences.
#include "deepseek/layers/rotary.hpp"

#include "deepseek/layers/attention.hpp"
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/pattern/band.hpp"

#include "deepseek/backend/cpu/cpu.hpp"
#include "layers/layer_trial.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;
using kind = ds::rope_scaling_kind;
using layer_test::rows_of;

namespace {

constexpr ds::attention_config with(const ds::rope_scaling& s) {
  return {.dim = 8, .heads = 2, .scaling = s};
}
constexpr ds::rope_scaling yarn{
    .kind = kind::yarn, .factor = 4, .original_length = 16, .mscale = 1, .mscale_all_dim = 0.5};
constexpr ds::rope_scaling linear{.kind = kind::linear, .factor = 4};
constexpr ds::rope_scaling dynamic{.kind = kind::dynamic_ntk, .factor = 2, .original_length = 4};
template <ds::rope_scaling S>
using layer = ds::multi_head_attention<with(S), ds::causal>;
struct net : ds::chain<ds::embedding<9, 8>, layer<dynamic>> {};

const std::int32_t text[] = {3, 1, 4, 1, 5, 8, 2, 6};
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

std::vector<float> decoded(const ds::cpu& b, const ds::model<net, float, ds::cpu>& m,
                           const std::vector<ds::index_t>& pieces,
                           const ds::run_options<ds::host>& run) {
  auto d = m.decoder(b, 8);
  std::vector<float> all;
  for (const ds::index_t n : pieces) {
    const auto y = m.decode(b, ids{text + d.length(), {n}}, d, run);
    all.insert(all.end(), y.data(), y.data() + y.size());
  }
  return all;
}

}  // namespace

TEST_CASE("rotary scaling: gradients of the attention layer") {
  const ds::reference b;
  rows_of<double, 8> x(7);
  layer_test::expect_layer_gradient<layer<yarn>>(b, "attention layer", x.view());
  layer_test::expect_layer_gradient<layer<dynamic>>(b, "attention layer", x.view());
}

TEST_CASE("rotary scaling: positions divided, scores scaled, nothing where there is no rotation") {
  const ds::reference b;
  rows_of<double, 8> x(6);
  const auto plain = layer_test::trial<layer<ds::rope_scaling{}>, double>{}.forward(b, x.view());
  const auto slow = layer_test::trial<layer<linear>, double>{}.forward(b, x.view());
  CHECK(!support::same_bits(plain, slow));
  // Where the YaRN ramp changes no frequency, the scores are those of scale g^2 A^2.
  static constexpr ds::rope_scaling loud{.kind = kind::yarn,
                                         .factor = 4,
                                         .original_length = 1 << 30,
                                         .mscale = 1,
                                         .mscale_all_dim = 0.5};
  static constexpr double g = 0.1 * 1.3862943611198906 + 1;
  static constexpr ds::attention_config equal{.dim = 8, .heads = 2, .scale = 0.5 * g * g};
  const auto a = layer_test::trial<layer<loud>, double>{}.forward(b, x.view());
  const auto r =
      layer_test::trial<ds::multi_head_attention<equal, ds::causal>, double>{}.forward(b, x.view());
  for (std::size_t i = 0; i < r.size(); ++i) CHECK(a[i] == doctest::Approx(r[i]).epsilon(1e-12));
  // All is well up to original_length.
  const auto few = layer_test::trial<layer<dynamic>, double>{};
  const auto no = layer_test::trial<layer<ds::rope_scaling{}>, double>{};
  CHECK(support::same_bits(few.forward(b, x.rows(0, 4)), no.forward(b, x.rows(0, 4))));
  CHECK(!support::same_bits(few.forward(b, x.rows(0, 5)), no.forward(b, x.rows(0, 5))));
}

TEST_CASE("rotary scaling: dynamic NTK with a cache") {
  const ds::cpu b;
  const ds::model<net, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.5, .seed = 3});
  // One length for all calls: any cut gives the same bits.
  ds::run_options<ds::host> fixed{.sequence_length = 8};
  const auto whole = decoded(b, m, {8}, fixed);
  CHECK(support::same_bits(decoded(b, m, {5, 1, 2}, fixed), whole));
  // Left alone, every call turns by its own end: keys in the cache keep theirs.
  CHECK(support::same_bits(decoded(b, m, {8}, {}), whole));
  const auto cut = decoded(b, m, {5, 3}, {});
  CHECK(!support::same_bits(cut, whole));
  const auto y = m(b, ids{text, {5}});
  CHECK(support::same_bits(std::vector<float>(cut.begin(), cut.begin() + 40),
                           std::vector<float>(y.data(), y.data() + 40)));
  static_assert(!ds::rows_are_independent<layer<dynamic>>);
  static_assert(ds::rows_are_independent<layer<yarn>>);
}

TEST_CASE("rotary scaling: several sequences need a length") {
  const ds::cpu b;
  rows_of<float, 8> x(7);
  const layer_test::trial<layer<dynamic>, float> t;
  const std::int32_t offsets[] = {0, 3, 7};
  ds::run_options<ds::host> run{.sequences = {offsets, {3}}};
  CHECK_ERROR(ds::error_code::config, "2 sequences", "sequence_length",
              t.forward(b, x.view(), run));
  run.sequence_length = 6;
  const auto packed = t.forward(b, x.view(), run);
  run.sequences = {};
  const auto second = t.forward(b, x.rows(3, 4), run);
  CHECK(support::same_bits(std::vector<float>(packed.begin() + 24, packed.end()), second));
  run.sequence_length = -1;
  CHECK_ERROR(ds::error_code::invalid_argument, "length is -1", t.forward(b, x.view(), run));
}
