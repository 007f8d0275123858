// SPDX-License-Identifier: Apache-2.0
// compressed_attention against its definition in double, in each kind; decoding in pieces gives the
// bits of one run, through more tokens than the state keeps; going back; what is refused.
#include "deepseek/layers/compressed_attention.hpp"

#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/model.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/compressed_attention.hpp"
#include "oracle/rope_scaling.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

constexpr auto config(ds::index_t ratio, ds::overlap how, ds::index_t selected) {
  ds::compressed_attention_config c{.dim = 8,
                                    .heads = 4,
                                    .head_dim = 8,
                                    .rope_dim = 4,
                                    .q_rank = 6,
                                    .groups = 2,
                                    .group_rank = 4,
                                    .window = 5,
                                    .ratio = ratio,
                                    .windows = how};
  c.selected = selected;
  if (selected > 0) c.index_heads = 3, c.index_dim = 6;
  if (ratio > 0) {
    c.theta = 100;
    c.scaling = {.kind = ds::rope_scaling_kind::yarn, .factor = 16, .original_length = 64};
  }
  return c;
}
using enum ds::overlap;
template <ds::compressed_attention_config C>
struct kind {
  static constexpr auto value = C;
  using layer = ds::compressed_attention<C>;
};
using window = kind<config(0, absent, 0)>;
using heavy = kind<config(8, absent, 0)>;
using selective = kind<config(4, present, 3)>;

template <class P>
oracle::weights_by_name named_weights(P& p) {
  oracle::weights_by_name w;
  ds::visit([&](const ds::tensor_name& at,
                const auto& t) { w[at.path] = std::vector<double>(t.data(), t.data() + t.size()); },
            p);
  return w;
}

}  // namespace

TEST_CASE_TEMPLATE("compressed_attention: its definition in double", K, window, heavy, selective) {
  constexpr auto C = K::value;
  const ds::cpu b({.threads = 2});
  rows_of<double, 8> x(41);
  layer_test::trial<typename K::layer, double> t;
  const auto w = named_weights(t.p);
  oracle::compressed_shape s{
      8, 4, 8, 4, 2, 5, static_cast<std::size_t>(C.ratio), C.windows == present, {}};
  s.frequencies =
      C.ratio > 0 ? oracle::yarn_table(100, 4, {16, 32, 1, 64}) : oracle::rope_table(1e4, 4);
  const oracle::chosen_entry all = [](std::size_t, std::size_t) { return true; };
  const auto chosen = C.selected > 0 ? oracle::largest_scores(x.values(), w, s, 3) : all;
  const auto want = oracle::compressed_attention(x.values(), w, s, chosen);
  auto limits = support::attention_limits(ds::dtype::f64, 4096);
  support::expect("compressed_attention", support::text("ratio", C.ratio, "selected", C.selected),
                  support::compare(limits, t.forward(b, x.view()), want, 8));
  support::expect("compressed_attention", "reference",
                  support::compare(limits, t.forward(ds::reference{}, x.view()), want, 8));
  support::facet("compressed_attention", "forward");
}

TEST_CASE_TEMPLATE("compressed_attention: decoding gives the bits of one run", K, window, heavy,
                   selective) {
  struct net : ds::chain<ds::embedding<17, 8>, typename K::layer, ds::linear<8, 5>> {};
  const ds::cpu b({.threads = 2});
  const ds::model<net, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.5, .seed = 7});
  constexpr ds::index_t n = 700;  // more than any state keeps of the last rows
  std::vector<std::int32_t> tokens;
  for (ds::index_t i = 0; i < n; ++i) tokens.push_back(static_cast<std::int32_t>(i * i % 17));
  const auto some = [&](ds::index_t first, ds::index_t count) {
    return ds::view<const std::int32_t, ds::host, ds::dyn>(tokens.data() + first, {count});
  };
  const auto full = m(b, some(0, n));
  auto decoder = m.decoder(b, n);
  const auto decode = [&](ds::index_t first, ds::index_t count) {
    const auto y = m.decode(b, some(first, count), decoder);
    bool same = true;
    for (ds::index_t i = 0; i < count; ++i) {
      same = same && std::memcmp(&y(i, 0), full.data() + (first + i) * 5, 5 * sizeof(float)) == 0;
    }
    return same;
  };
  CHECK(decode(0, 7));
  ds::index_t at = 7;
  bool same = true;
  for (; at < 60; ++at) same = same && decode(at, 1);
  CHECK(same);
  const std::vector<std::int32_t> wrong(100, 17);  // ids beyond the table: nothing is written
  CHECK_ERROR(
      ds::error_code::index_range, "17",
      m.decode(b, ds::view<const std::int32_t, ds::host, ds::dyn>(wrong.data(), {100}), decoder));
  CHECK(decode(60, 333));  // a piece that no state has room for
  for (at = 393; at < n; ++at) same = same && decode(at, 1);
  CHECK(same);
  decoder.rewind(n - 63);
  CHECK(decode(n - 63, 2));
  CHECK(decode(n - 61, 61));
  decoder.rewind(n - 64);
  CHECK(decode(n - 64, 1));
  decoder.rewind(n - 65);  // 64 before the last decode, but not before what was written
  CHECK_ERROR(ds::error_code::index_range, "decoder: position 635 after 700", "at most 64",
              m.decode(b, some(n - 65, 1), decoder));
  decoder.rewind(100);
  CHECK_ERROR(ds::error_code::index_range, "decoder: position 100 after 700",
              m.decode(b, some(100, 1), decoder));
  decoder.rewind(0);
  CHECK(decode(0, 100));
  CHECK(decode(100, 1));
}

TEST_CASE("compressed_attention: entries begin at windows without a cache") {
  const ds::reference b;
  rows_of<float, 8> x(9);
  const layer_test::trial<heavy::layer, float> t;
  CHECK_ERROR(ds::error_code::invalid_argument, "compressor: begins at position 3",
              t.forward(b, x.view(), {.start = 3}));
  CHECK(t.forward(b, x.rows(0, 0)).empty());
}

TEST_CASE_TEMPLATE("compressed_attention: bf16 near double", K, window, selective) {
  const ds::reference b;
  rows_of<ds::bf16, 8> x(21);
  rows_of<double, 8> exact_x(21);
  const auto got = layer_test::trial<typename K::layer, ds::bf16>().forward(b, x.view());
  const auto want = layer_test::trial<typename K::layer, double>().forward(b, exact_x.view());
  // Five products, three norms and a softmax, each rounded to bf16.
  support::expect(
      "compressed_attention", "bf16",
      support::compare({.type = ds::dtype::bf16, .relative = 16 * 0x1p-8}, got, want, 8));
}
