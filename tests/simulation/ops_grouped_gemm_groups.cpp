// SPDX-License-Identifier: Apache-2.0
// grouped_gemm on warp groups (sm_90a): the cases of tests/ops/grouped_gemm_case.hpp with more than
// 32 rows an expert, around the edges of tiles; experts without rows and one with all; what a tile
// reads of another expert or behind an edge stays there; where a row stands does not change its
// bits; what tile maps cannot say goes the old way. On a GPU the device decides.
#include "ops/grouped_gemm_case.hpp"
#include "simulation/with_warp_groups.hpp"

#include "deepseek/backend/cpu/gemm.hpp"
#include "deepseek/backend/reference/gemm.hpp"

using namespace grouped_gemm_test;
using simulation::groups;

namespace {

// How many products warp groups took in f(): two tile maps each.
template <class F>
ds::index_t taken(const F& f) {
  const ds::index_t before = simulation::maps_made();
  f();
  return (simulation::maps_made() - before) / 2;
}
void expect_taken(ds::index_t got, ds::index_t want) {
  if (simulation::simulated) CHECK(got == want);
}

// Contiguous rows; weights as [in, out] or [out, in], whole packets apart.
expert_case aligned(std::size_t rows, std::size_t in, std::size_t out, bool turned,
                    support::values kind = support::values::normal) {
  expert_case c = shape_case{rows, in, out, layout::contiguous, kind};
  c.turned = turned;
  return c;
}
template <class T>
std::vector<T> forward(const expert_case& c) {
  const reals x = drawn<T>(c, c.size(), " x");
  const reals w = drawn_normal<T>(c, experts * c.columns * c.extra, " w");
  std::vector<T> y;
  expect_taken(taken([&] { y = check_forward<T>(groups(), c, x, w); }), 1);
  return y;
}

// y of rows with gaps between them: x [rows, in] in memory of NaN, y likewise.
std::vector<ds::bf16> with_gaps(const expert_case& c, const reals& x, const reals& w) {
  constexpr std::size_t gap = 8;
  const auto r = static_cast<ds::index_t>(c.rows), in = static_cast<ds::index_t>(c.columns),
             out = static_cast<ds::index_t>(c.extra);
  support::guarded<ds::bf16> from(c.rows * (c.columns + gap)), to(c.rows * (c.extra + gap));
  for (std::size_t i = 0; i < x.size(); ++i) {
    from[i / c.columns * (c.columns + gap) + i % c.columns] = static_cast<ds::bf16>(x[i]);
  }
  sheet<std::int32_t> offsets(experts + 1, 1, layout::contiguous, c.offsets);
  stack_of<ds::bf16> weights(c, w);
  using matrix = ds::view<ds::bf16, ds::host, ds::dyn, ds::dyn>;
  ds::ops::grouped_gemm(groups(), matrix(from.data(), {r, in}, {in + 8, 1}), weights.view(),
                        offsets.vector(), matrix(to.data(), {r, out}, {out + 8, 1}));
  std::vector<ds::bf16> y;
  bool clean = to.intact();
  for (std::size_t i = 0; i < to.size(); ++i) {
    const std::size_t column = i % (c.extra + gap);
    if (column < c.extra) y.push_back(to[i]);
    const auto poison = support::poison<ds::bf16>();
    if (column >= c.extra) clean = clean && to[i].bits == poison.bits;
  }
  CHECK(clean);
  return y;
}

}  // namespace

TEST_CASE("grouped_gemm warp groups: sizes, orders of weights, values and types") {
  constexpr std::size_t rows[] = {161, 260, 321}, ins[] = {8, 64, 136, 328},
                        outs[] = {8, 72, 256, 264};
  constexpr std::size_t kinds = sizeof support::every_class / sizeof support::every_class[0];
  int done = 0;
  for (const auto& pick : support::pairwise({3, 4, 4, 2, kinds})) {
    const expert_case c = aligned(rows[pick[0]], ins[pick[1]], outs[pick[2]], pick[3] == 1,
                                  support::every_class[pick[4]]);
    if (++done % 3 == 0) {
      forward<ds::f16>(c);
    } else {
      forward<ds::bf16>(c);
    }
  }
  for (const std::size_t out : {1u, 33u, 257u}) forward<ds::bf16>(aligned(161, 72, out, true));
}

TEST_CASE("grouped_gemm warp groups: rows of experts") {
  for (const ints& at : {ints{0, 200, 200, 200, 200, 200}, ints{0, 0, 0, 0, 0, 200},
                         ints{0, 1, 2, 130, 199, 200}, ints{0, 64, 128, 129, 193, 200}}) {
    expert_case c = aligned(200, 72, 40, false);
    c.offsets = at;
    forward<ds::bf16>(c);
    c.turned = true;
    forward<ds::f16>(c);
  }
}

TEST_CASE("grouped_gemm warp groups: input gradients by the same kernel") {
  for (const bool turned : {false, true}) {
    const expert_case c = aligned(170, 160, 72, turned);
    const reals x = drawn<ds::bf16>(c, c.size(), " x");
    const reals w = drawn_normal<ds::bf16>(c, experts * c.columns * c.extra, " w");
    expect_taken(taken([&] { check_backward<ds::bf16>(groups(), c, x, w); }), 1);
  }
}

TEST_CASE("grouped_gemm warp groups: where a row stands; what is not finite stays in its row") {
  expert_case c = aligned(290, 200, 264, true);
  const reals w = drawn_normal<ds::bf16>(c, experts * c.columns * c.extra, " w");
  reals x = drawn<ds::bf16>(c, c.size(), " x");
  const auto y = check_forward<ds::bf16>(groups(), c, x, w);
  CHECK(support::same_bits(with_gaps(c, x, w), y));
  // Expert 3 begins with row 140 rather than 194: its rows move from tile to tile.
  const std::size_t first = static_cast<std::size_t>(c.offsets[3]), n = c.extra;
  c.offsets = {0, 0, 37, 140, 290, 290};
  const auto other = check_forward<ds::bf16>(groups(), c, x, w);
  c.offsets = offsets_of(c.rows);
  bool same = true;
  for (std::size_t i = first * n; i < y.size(); ++i) same = same && y[i].bits == other[i].bits;
  CHECK(same);
  // Row 150, of expert 2, is not finite: nothing else changes.
  std::fill_n(x.begin() + 150 * static_cast<std::ptrdiff_t>(c.columns), c.columns, std::nan(""));
  const auto poisoned = with_gaps(c, x, w);
  bool right = true;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const bool own = i / n == 150;
    right = right && (own ? poisoned[i] != poisoned[i] : poisoned[i].bits == y[i].bits);
  }
  CHECK(right);
}

TEST_CASE("grouped_gemm warp groups: what goes the old way") {
  const auto goes = [](const expert_case& c) {
    const reals x = drawn<ds::bf16>(c, c.size(), " x");
    const reals w = drawn_normal<ds::bf16>(c, experts * c.columns * c.extra, " w");
    expect_taken(taken([&] { check_forward<ds::bf16>(groups(), c, x, w); }), 0);
  };
  goes(aligned(160, 64, 40, true));               // 32 rows an expert
  goes(aligned(170, 12, 40, true));               // rows of 24 bytes
  goes(aligned(170, 64, 33, false));              // columns of 66 bytes
  goes(shape_case{170, 64, 40, layout::padded});  // rows at multiples of 134 bytes
  goes(shape_case{170, 64, 40, layout::offset});  // an address that is odd
  expert_case c = aligned(170, 64, 40, true);
  c.gap = 3;  // matrices at multiples of 2 bytes
  goes(c);
  const reals x = drawn<float>(c, c.size(), " x"), w = drawn<float>(c, experts * 64 * 40, " w");
  expect_taken(taken([&] { check_forward<float>(groups(), c, x, w); }), 0);
}

TEST_CASE("grouped_gemm warp groups: every tile of the launch is met once") {
  for (ds::index_t slots = 1; slots < 20; ++slots) {
    for (ds::index_t stretches = 1; stretches < 5; ++stretches) {
      std::vector<int> met(static_cast<std::size_t>(slots * stretches));
      for (ds::index_t t = 0; t < slots * stretches; ++t) {
        const auto at = ds::block_place::bunched(t, slots, stretches);
        REQUIRE((at.slot >= 0 && at.slot < slots && at.across >= 0 && at.across < stretches));
        ++met[static_cast<std::size_t>(at.slot * stretches + at.across)];
      }
      for (const int times : met) REQUIRE(times == 1);
    }
  }
}
