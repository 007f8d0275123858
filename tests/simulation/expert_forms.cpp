// SPDX-License-Identifier: Apache-2.0
// Kernels of experts that small cases do not reach: tiles of rows proven to cover every row once;
// plans by one large block and by many warps; gates of more experts than registers hold, of more
// than shared memory holds; long selections outside shared memory; products with weights that are
// read 16 bytes at a time, where a row of many has the bits of the row alone.
#include "simulation/as_cpu.hpp"

#include "support/poison.hpp"
#include "support/seed.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <doctest/doctest.h>

namespace ds = deepseek;
using ids_view = ds::view<std::int32_t, ds::host, ds::dyn, ds::dyn>;
using list_view = ds::view<std::int32_t, ds::host, ds::dyn>;
using matrix = ds::view<float, ds::host, ds::dyn, ds::dyn>;

namespace {

std::vector<std::int32_t> drawn_ids(std::size_t n, std::size_t experts, const char* what) {
  support::numbers from(what);
  std::vector<std::int32_t> ids(n);
  for (auto& id : ids) id = static_cast<std::int32_t>(from.below(experts + 1)) - 1;
  return ids;
}

struct plan {
  std::vector<std::int32_t> offsets, source, slot;
};
plan expected(const std::vector<std::int32_t>& ids, std::size_t experts) {
  plan p{std::vector<std::int32_t>(experts + 1), {}, std::vector<std::int32_t>(ids.size(), -1)};
  for (std::size_t e = 0; e < experts; ++e) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] != static_cast<std::int32_t>(e)) continue;
      p.slot[i] = static_cast<std::int32_t>(p.source.size());
      p.source.push_back(static_cast<std::int32_t>(i));
    }
    p.offsets[e + 1] = static_cast<std::int32_t>(p.source.size());
  }
  return p;
}

void check_plan(std::size_t tokens, std::size_t choices, std::size_t experts) {
  auto ids = drawn_ids(tokens * choices, experts, "plan");
  const plan want = expected(ids, experts);
  plan got{std::vector<std::int32_t>(experts + 1), std::vector<std::int32_t>(want.source.size()),
           std::vector<std::int32_t>(ids.size())};
  const auto t = static_cast<ds::index_t>(tokens), k = static_cast<ds::index_t>(choices);
  const ds::cpu b;
  ds::ops::expert_plan(
      b, ids_view(ids.data(), {t, k}), static_cast<ds::index_t>(experts),
      ds::expert_plan_views{
          list_view(got.offsets.data(), {static_cast<ds::index_t>(experts) + 1}),
          list_view(got.source.data(), {static_cast<ds::index_t>(got.source.size())}),
          ids_view(got.slot.data(), {t, k})});
  CHECK(got.offsets == want.offsets);
  CHECK(got.source == want.source);
  CHECK(got.slot == want.slot);
}

// The largest softmax scores of one token, by a stable sort.
void check_gate(std::size_t experts, std::size_t active, ds::gate_rule rule) {
  support::numbers from("gate");
  std::vector<float> logits(3 * experts), weights(3 * active);
  for (float& z : logits) z = static_cast<float>(from.below(4 * experts)) / 64.0F;
  const std::vector<float> given = logits;
  std::vector<std::int32_t> ids(3 * active);
  const auto e = static_cast<ds::index_t>(experts), k = static_cast<ds::index_t>(active);
  const ds::cpu b;
  rule.score = ds::gate_score::sigmoid;
  ds::ops::gate(b, matrix(logits.data(), {3, e}), ds::none{},
                ds::gate_outputs{matrix(weights.data(), {3, k}), ids_view(ids.data(), {3, k})},
                rule);
  const ds::reference plain;
  std::vector<float> scores = given, same(3 * active);
  std::vector<std::int32_t> want(3 * active);
  ds::ops::gate(plain, matrix(scores.data(), {3, e}), ds::none{},
                ds::gate_outputs{matrix(same.data(), {3, k}), ids_view(want.data(), {3, k})}, rule);
  CHECK(ids == want);
  CHECK(logits == scores);
  for (std::size_t i = 0; i < same.size(); ++i) {
    CHECK(weights[i] == doctest::Approx(same[i]).epsilon(1e-6));
  }
}

// y[r] = x[r] w[e], weights stored [experts, out, in].
template <class T>
void check_stored(const std::vector<std::int32_t>& offsets, ds::index_t in, ds::index_t out) {
  const auto experts = static_cast<ds::index_t>(offsets.size()) - 1;
  const ds::index_t rows = offsets.back();
  support::numbers from("stored");
  const auto drawn = [&](ds::index_t n) {
    std::vector<T> v;
    for (ds::index_t i = 0; i < n; ++i) v.push_back(static_cast<T>(from.normal()));
    return v;
  };
  std::vector<T> x = drawn(rows * in), w = drawn(experts * out * in);
  std::vector<float> y(static_cast<std::size_t>(rows * out)), alone(static_cast<std::size_t>(out));
  std::vector<std::int32_t> starts = offsets;
  const ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn> weights(w.data(), {experts, out, in});
  const ds::cpu b;
  const auto run = [&](ds::index_t first, ds::index_t n, float* to) {
    ds::ops::grouped_gemm(
        b, ds::view<T, ds::host, ds::dyn, ds::dyn>(x.data() + first * in, {n, in}),
        ds::transposed(weights), list_view(starts.data(), {experts + 1}), matrix(to, {n, out}));
  };
  run(0, rows, y.data());
  bool near = true, same = true;
  for (ds::index_t e = 0; e < experts; ++e) {
    for (ds::index_t r = offsets[static_cast<std::size_t>(e)];
         r < offsets[static_cast<std::size_t>(e + 1)]; ++r) {
      for (ds::index_t g = 0; g <= experts; ++g) starts[static_cast<std::size_t>(g)] = g > e;
      run(r, 1, alone.data());
      for (ds::index_t n = 0; n < out; ++n) {
        double sum = 0;
        for (ds::index_t k = 0; k < in; ++k) {
          sum += static_cast<double>(x[static_cast<std::size_t>(r * in + k)]) *
                 static_cast<double>(w[static_cast<std::size_t>((e * out + n) * in + k)]);
        }
        const float got = y[static_cast<std::size_t>(r * out + n)];
        near = near && std::fabs(static_cast<double>(got) - sum) < 1e-3;
        same = same && got == alone[static_cast<std::size_t>(n)];
      }
    }
  }
  CHECK(near);
  CHECK(same);
}

}  // namespace

TEST_CASE("grouped_gemm: weights as they are stored; few rows and many have the same bits") {
  for (const ds::index_t in : {64, 160, 400, 77}) {
    check_stored<float>({0, 1, 1, 3}, in, 70);        // one row an expert, at most
    check_stored<ds::bf16>({0, 7, 7, 20}, in, 33);    // up to eight
    check_stored<ds::bf16>({0, 40, 40, 41}, in, 70);  // up to 32
    check_stored<float>({0, 0, 30}, in, 9);
  }
  check_stored<ds::f16>({0, 0, 100, 140}, 160, 150);  // tiles of tensor cores
}

TEST_CASE("row tiles: every row of every group is in exactly one tile") {
  support::numbers from("row tiles");
  for (int trial = 0; trial < 300; ++trial) {
    const std::size_t groups = 1 + from.below(70);
    const auto tile = static_cast<ds::index_t>(1 + from.below(9));
    std::vector<std::int32_t> offsets{0};
    for (std::size_t g = 0; g < groups; ++g) {
      const std::size_t rows = from.below(3) == 0 ? 0 : from.below(40);
      offsets.push_back(offsets.back() + static_cast<std::int32_t>(rows));
    }
    const ds::index_t rows = offsets.back(), n = static_cast<ds::index_t>(groups);
    std::vector<int> met(static_cast<std::size_t>(rows));
    for (ds::index_t slot = 0; slot < rows / tile + n; ++slot) {
      ds::index_t g = 0;
      while (g + 1 < n &&
             ds::first_slot(offsets[static_cast<std::size_t>(g + 1)], g + 1, tile) <= slot) {
        ++g;
      }
      const ds::row_tile own = ds::tile_of_slot(slot, g, offsets[static_cast<std::size_t>(g)],
                                                offsets[static_cast<std::size_t>(g + 1)], tile);
      bool inside = own.end - own.first <= tile;
      for (ds::index_t r = own.first; r < own.end; ++r) {
        inside = inside && r >= offsets[static_cast<std::size_t>(g)] &&
                 r < offsets[static_cast<std::size_t>(g + 1)];
        ++met[static_cast<std::size_t>(r)];
      }
      REQUIRE(inside);
    }
    REQUIRE(std::all_of(met.begin(), met.end(), [](int times) { return times == 1; }));
  }
}

TEST_CASE("expert_plan: one large block, and many warps") {
  check_plan(1200, 4, 40);  // more than 4096 ids
  check_plan(300, 3, 700);  // more than 512 experts
  check_plan(5, 2, 1500);   // more experts than threads of the scan
  check_plan(8300, 8, 16);  // more than 65536 ids
}

TEST_CASE("gate: more experts than registers hold") {
  check_gate(300, 6, {});  // 256
  check_gate(512, 33, {.groups = 8, .top_groups = 3, .group = ds::group_score::best_two});
  check_gate(1000, 8, {.groups = 40, .top_groups = 7});
  check_gate(20000, 5, {.norm = ds::renormalize::yes});  // and than shared memory
}

TEST_CASE("top_k and prefix_top_k: answers longer than shared memory") {
  constexpr ds::index_t n = 20000, k = 17000;
  support::numbers from("long answers");
  std::vector<float> x(n), values(k);
  for (float& e : x) e = static_cast<float>(from.below(5000));
  std::vector<std::int32_t> ids(k), want(n);
  std::iota(want.begin(), want.end(), 0);
  std::stable_sort(want.begin(), want.end(), [&](std::int32_t a, std::int32_t c) {
    return x[static_cast<std::size_t>(a)] > x[static_cast<std::size_t>(c)];
  });
  want.resize(k);
  const ds::cpu b;
  ds::ops::top_k(b, matrix(x.data(), {1, n}), matrix(values.data(), {1, k}),
                 ids_view(ids.data(), {1, k}));
  CHECK(ids == want);
  std::vector<std::int32_t> chosen(2 * k);
  ds::ops::prefix_top_k(b, ds::view<float, ds::host, ds::dyn>(x.data(), {n}),
                        ids_view(chosen.data(), {2, k}), ds::prefix_spec<>{.start = n - 2});
  std::sort(want.begin(), want.end());
  CHECK(std::equal(want.begin(), want.end(), chosen.begin() + k));
}
