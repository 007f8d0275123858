// SPDX-License-Identifier: Apache-2.0
// model::launch_step on the cpu: a step whose position stands in memory gives the bits of decode,
// for every kind of state, over rounds of the rings that keep the last rows, also where calls of
// several tokens, rewinds and drafts come between.
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/compressed_attention.hpp"
#include "deepseek/layers/dynamic_sparse_attention.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/model.hpp"
#include "deepseek/layers/native_sparse_attention.hpp"
#include "deepseek/layers/residual.hpp"
#include "deepseek/layers/with_mtp.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "support/poison.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

constexpr ds::compressed_attention_config entries(ds::index_t ratio, ds::overlap how,
                                                  ds::index_t selected) {
  ds::compressed_attention_config c{.dim = 8,
                                    .heads = 2,
                                    .head_dim = 8,
                                    .rope_dim = 4,
                                    .q_rank = 6,
                                    .groups = 2,
                                    .group_rank = 4,
                                    .window = 3};
  c.ratio = ratio, c.windows = how, c.selected = selected;
  if (selected > 0) c.index_heads = 2, c.index_dim = 4;
  return c;
}
using window = ds::compressed_attention<entries(0, ds::overlap::absent, 0)>;
using heavy = ds::compressed_attention<entries(5, ds::overlap::absent, 0)>;
using selective = ds::compressed_attention<entries(2, ds::overlap::present, 3)>;
inline constexpr ds::attention_config heads{.dim = 8, .heads = 4, .kv_heads = 2};
using native = ds::native_sparse_attention<ds::nsa_config{
    .attention = heads,
    .stride = 2,
    .blocks = {.block = 4, .count = 3, .initial = 1, .recent = 1},
    .window = 3}>;
using tokens = ds::dynamic_sparse_attention<ds::dynamic_sparse_config{
    .attention = heads, .window = 3, .global = {.count = 3}}>;

template <class L>
struct net : ds::chain<ds::embedding<11, 8>, ds::residual<L>> {};
struct drafting
    : ds::with_mtp<ds::embedding<11, 8>, ds::residual<selective>,
                   ds::mtp_layer<ds::residual<heavy>>, ds::called<"head", ds::linear<8, 11>>> {};

using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

template <class View>
std::vector<float> values(const View& y) {
  return {y.data(), y.data() + y.size()};
}

template <class Net>
struct pair_of_decoders {
  static constexpr ds::index_t capacity = 300, bound = 290;
  ds::cpu b{{.threads = 2}};
  ds::model<Net, float, ds::cpu> m{b, ds::normal_init{.stddev = 0.4, .seed = 1}};
  typename decltype(m)::decoder_type plain = m.decoder(b, capacity), moved = m.decoder(b, capacity);
  std::vector<std::int32_t> text;

  pair_of_decoders() {
    for (std::int32_t i = 0; i < capacity; ++i) text.push_back((i * i + i) % 11);
  }
  ids some(ds::index_t first, ds::index_t n) const { return {text.data() + first, {n}}; }
  bool decode(ds::index_t n) {
    const auto next = some(plain.length(), n);
    return support::same_bits(values(m.decode(b, next, plain)), values(m.decode(b, next, moved)));
  }
  bool step(ds::index_t n) {
    bool same = true;
    ds::tensor<float, ds::host, ds::dyn, Net::out> y({1, Net::out});
    for (ds::index_t i = 0; i < n; ++i) {
      const auto at = static_cast<std::int32_t>(plain.length());
      const auto next = some(at, 1);
      m.launch_step(b, next, y.view(), moved, {.moving = {{&at, {1}}, bound}});
      moved.advance(1);
      same = support::same_bits(values(m.decode(b, next, plain)), values(y.view())) && same;
    }
    return same;
  }
  void rewind(ds::index_t length) {
    plain.rewind(length);
    moved.rewind(length);
  }
};

}  // namespace

TEST_CASE_TEMPLATE("launched steps have the bits of decode", L, window, heavy, selective, native,
                   tokens) {
  pair_of_decoders<net<L>> p;
  CHECK(p.step(3));
  CHECK(p.decode(54));
  CHECK(p.step(31));
  CHECK(p.decode(100));
  CHECK(p.step(20));
  p.rewind(150);
  CHECK(p.step(7));
  CHECK(p.decode(2));
  CHECK(p.step(131));
  CHECK_ERROR(ds::error_code::unsupported, "a step for 290", "capacity of 200", [&] {
    auto small = p.m.decoder(p.b, 200);
    const std::int32_t at = 0;
    ds::tensor<float, ds::host, ds::dyn, 8> y({1, 8});
    p.m.launch_step(p.b, p.some(0, 1), y.view(), small, {.moving = {{&at, {1}}, 290}});
  }());
  p.rewind(0);
  CHECK(p.step(4));
}

TEST_CASE("launched steps: a position too far back, two rows") {
  pair_of_decoders<net<selective>> p;
  CHECK(p.decode(200));
  p.rewind(135);
  CHECK_ERROR(ds::error_code::index_range, "decoder: position 135 after 200", p.step(1));
  p.rewind(0);
  ds::tensor<float, ds::host, ds::dyn, 8> y({2, 8});
  const std::int32_t at = 0;
  CHECK_ERROR(
      ds::error_code::unsupported, "2 rows from a start that moves",
      p.m.launch_step(p.b, p.some(0, 2), y.view(), p.moved, {.moving = {{&at, {1}}, p.bound}}));
}

TEST_CASE("launched steps: drafts of a layer with rings") {
  pair_of_decoders<drafting> p;
  bool same = p.decode(30);
  const auto draft = [&](ds::index_t n) {
    const auto next = p.some(p.plain.drafted() + 1, n);
    const auto first = values(p.m.draft(p.b, next, p.plain));
    return support::same_bits(first, values(p.m.draft(p.b, next, p.moved)));
  };
  same = draft(29) && same;
  for (int i = 0; i < 60; ++i) {
    same = p.step(3) && same;
    same = draft(3) && same;
  }
  CHECK(same);
  p.rewind(170);
  CHECK(p.step(2));
  CHECK(draft(2));
}
