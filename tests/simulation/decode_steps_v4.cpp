// SPDX-License-Identifier: Apache-2.0
// Recorded decode steps of DeepSeek-V4 in small, whose layers keep the last rows and entries of
// windows: over several rounds of their rings, with calls of several tokens, rewinds and a fork
// between replays.
#include "deepseek/models/deepseekv4.hpp"

#include "simulation/stepped_pair.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;
using steps_test::stepped_pair;

namespace {

constexpr ds::v4_config small() {
  auto c = ds::v4_flash;
  c.vocabulary = 13, c.dim = 8, c.layers = 3, c.lead = 1, c.hash_layers = 1;
  c.attention = {.heads = 2,
                 .head_dim = 8,
                 .rope_dim = 4,
                 .q_rank = 6,
                 .groups = 2,
                 .group_rank = 4,
                 .window = 3,
                 .selected = 3,
                 .index_heads = 2,
                 .index_dim = 4};
  c.entry_scaling.original_length = 64;
  c.selective_ratio = 2, c.heavy_ratio = 5;
  c.experts = {.hidden = 4, .routed = 3, .shared = 1, .active = 2};
  return c;
}
using v4 = ds::preset<small()>::net;

constexpr auto fill_tables = [](auto& p) {
  ds::visit(
      [](const ds::tensor_name&, auto& t) {
        if constexpr (std::is_same_v<typename std::remove_cvref_t<decltype(t)>::value_type,
                                     std::int32_t>) {
          ds::draw_experts(t, 3, 5);
        }
      },
      p);
};

}  // namespace

TEST_CASE("decode steps: V4 in small, over rounds of its rings") {
  stepped_pair<v4, float> p(400, 256, fill_tables);  // the window's ring has 128 rows
  p.decode(57);
  p.step(25);  // the compressors' rings have 68 and 70
  p.decode(43);
  p.step(18);
  p.rewind(100);
  p.step(5);
  p.decode(131);  // more than the rings hold
  p.step(34);     // beyond the bound
  CHECK(p.plain.length() == 270);
  CHECK(p.steps.not_replayed().empty());
  CHECK(p.steps.recorded() == 2);
  CHECK(p.steps.replayed() == 80);  // less the first at each bound
  p.rewind(206);
  p.step(2);
  p.rewind(205);
  CHECK_ERROR(ds::error_code::index_range, "decoder: position 205 after 270", "at most 64",
              p.step(1));
  CHECK_ERROR(ds::error_code::index_range, "decoder: position 205 after 270", p.steps(1));
  CHECK(p.steps.not_replayed().empty());
  p.rewind(0);
  p.step(3);
  auto fork = p.stepped.fork();
  p.step(4);
  p.rewind(3);
  std::swap(p.plain, fork);
  p.step(4);
}
