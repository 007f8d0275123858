// SPDX-License-Identifier: Apache-2.0
// Attention of 8 or more heads to a key-value head over listed keys, on tensor cores, simulated:
// against the oracle at all widths; the bits of ranges as blocks of their own, of a query alone, of
// all keys in order; entries twice or missing; what nobody lists is not read.
#include "ops/listed_keys.hpp"
#include "simulation/fenced_rows.hpp"
#include "simulation/with_warp_groups.hpp"

#include "deepseek/pattern/band.hpp"

using namespace attention_test;

namespace {

problem heads_of(index_t n, index_t m, index_t group, index_t d, index_t dv) {
  return {.n = n, .m = m, .h = 2 * group, .hk = 2, .d = d, .dv = dv};
}
template <class T>
void check(const problem& p, const index_set& pattern, const rule& sees, const std::string& name) {
  const data x = draw<T>(p, name);
  arrays<T> a(p, x);
  a.forward(cpu(), spec_of(p, pattern));
  expect_forward(p, a, oracle_answer(p, x, sees), case_name(p, name));
}

}  // namespace

TEST_CASE("attention chosen heads: against the oracle") {
  constexpr index_t widths[][2] = {{64, 64}, {96, 96}, {128, 128}, {192, 128}};
  constexpr index_t groups[] = {8, 12, 16, 20, 70}, listed[] = {1, 31, 64, 65, 130};
  for (const auto& row : support::pairwise({4, 5, 5}, 14)) {
    const problem p = heads_of(3, 150, groups[row[1]], widths[row[0]][0], widths[row[0]][1]);
    const table_of_keys table(p, listed[row[2]]);
    check<bf16>(p, table.ascending(), table.seen(p), "chosen heads bf16");
  }
  const problem p = heads_of(6, 90, 9, 64, 64), few = heads_of(6, 90, 2, 64, 64);
  const table_of_keys table(p, 40), other(few, 40);
  check<f16>(p, table.ascending(), table.seen(p), "chosen heads f16");
  check<bf16>(p, index_set(table.rows()), table.seen(p), "in any order");
  check<bf16>(few, other.ascending(), other.seen(few), "too few heads");
}

TEST_CASE("attention chosen heads: ranges of the list and a query alone have the bits of one") {
  const problem p = heads_of(3, 1150, 8, 64, 64);
  const table_of_keys table(p, 1100);
  const data x = draw<bf16>(p, "chosen heads ranges");
  arrays<bf16> whole(p, x), split(p, x), alone(p, x);
  const std::int32_t query_offsets[] = {0, 3}, key_offsets[] = {0, 1150};
  auto spec = spec_of(p, table.ascending());
  spec.query_offsets = {query_offsets, {2}}, spec.key_offsets = {key_offsets, {2}};
  const cpu one_launch, two_launches;
  whole.forward(one_launch, spec);
  CHECK(one_launch.launches() == 1);
  split.forward(two_launches, spec_of(p, table.ascending()));
  CHECK(two_launches.launches() == 2);
  expect_forward(p, whole, oracle_answer(p, x, table.seen(p)), case_name(p, "chosen heads ranges"));
  CHECK(same(results(whole, wanted::forward), results(split, wanted::forward)));
  for (index_t i = 0; i < p.n; ++i) {
    auto at = spec_of(p, index_set(rows(table.rows(), i, 1), index_order::ascending));
    at.start = p.m - p.n + i;
    ops::attention(cpu(), attention_inputs{rows(alone.q.get(), i, 1), alone.k.get(), alone.v.get()},
                   attention_outputs{rows(alone.o.get(), i, 1), rows(alone.lse_view(), i, 1)}, at);
  }
  CHECK(same(results(whole, wanted::forward), results(alone, wanted::forward)));
}

TEST_CASE("attention chosen heads: all keys listed has the bits of causal attention") {
  const problem p = heads_of(2, 560, 20, 64, 64);
  std::vector<std::int32_t> ids(2 * 560);
  for (std::int32_t j = 0; j < 560; ++j) {
    ids[static_cast<std::size_t>(j)] = j < 559 ? j : -1;
    ids[static_cast<std::size_t>(560 + j)] = j;
  }
  const view<const std::int32_t, host, dyn, dyn> table(ids.data(), {2, 560});
  const data x = draw<bf16>(p, "all heads listed");
  arrays<bf16> listed(p, x), dense(p, x);
  listed.forward(cpu(), spec_of(p, index_set(table, index_order::ascending)));
  dense.forward(cpu(), spec_of(p, causal{}));
  CHECK(same(results(listed, wanted::forward), results(dense, wanted::forward)));
}

TEST_CASE("attention chosen heads: entries twice, beyond the keys or missing show nothing more") {
  const problem p = heads_of(3, 300, 8, 64, 64);
  constexpr index_t count = 560;
  std::vector<std::int32_t> ids(3 * count, -1);
  for (std::size_t j = 0; j < count; ++j) {
    ids[j] = static_cast<std::int32_t>(j == 32 || j == 64 || j == 512 ? (j - 1) / 2 : j / 2);
    ids[count + j] = 7;
    ids[2 * count + j] = j < 3 ? static_cast<std::int32_t>(290 + 5 * j) : 1 << 30;
  }
  const view<const std::int32_t, host, dyn, dyn> table(ids.data(), {3, count});
  const rule sees = [&](index_t, index_t q, index_t k, index_t) {
    const auto row = ids.begin() + (q - 297) * count;
    return std::find(row, row + count, static_cast<std::int32_t>(k)) != row + count;
  };
  check<bf16>(p, index_set(table, index_order::ascending), sees, "twice");
}

TEST_CASE("attention chosen heads: what no query lists is not read") {
  const problem p = heads_of(2, 200, 8, 128, 128);
  const std::int32_t ids[] = {0, 64, 70, 199, 300, 5, 64, 127, 128, -1};
  const view<const std::int32_t, host, dyn, dyn> table(ids, {2, 5});
  const auto spec = spec_of(p, index_set(table, index_order::ascending));
  const data x = draw<bf16>(p, "fenced heads");
  arrays<bf16> open(p, x), a(p, x);
  open.forward(cpu(), spec);
  simulation::fenced_rows<bf16> k(p.m, 2 * p.d), v(p.m, 2 * p.dv);
  for (index_t t = 0; t < p.m; ++t) {
    for (index_t c = 0; c < 2 * p.d; ++c) k.row(t)[c] = a.k.get()(t, c / p.d, c % p.d);
    for (index_t c = 0; c < 2 * p.dv; ++c) v.row(t)[c] = a.v.get()(t, c / p.dv, c % p.dv);
  }
  k.close(), v.close();
  for (const std::int32_t id : ids) {
    if (id >= 0 && id < p.m) k.open(id), v.open(id);
  }
  const attention_inputs in{a.q.get(), k.rows(p.m, p.d, 2), v.rows(p.m, p.dv, 2)};
  const index_t maps = simulation::maps_made();
  ops::attention(simulation::groups(), in, attention_outputs{a.o.get(), a.lse_view()}, spec);
  CHECK(simulation::maps_made() == maps);
  CHECK(same(results(a, wanted::forward), results(open, wanted::forward)));
}
