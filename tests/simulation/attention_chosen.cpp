// SPDX-License-Identifier: Apache-2.0
// Latent attention over listed keys on tensor cores, simulated: the rows of the list are gathered.
// Against the oracle, over heads and lengths around every tile edge; the bits of every block shape,
// of ranges as blocks of their own, of a query alone, of pages, of all keys in order; entries twice
// or missing; what nobody lists is not read; score modifiers; with warp groups, too.
#include "ops/listed_keys.hpp"
#include "simulation/attention_latent_case.hpp"
#include "simulation/fenced_rows.hpp"
#include "simulation/with_warp_groups.hpp"

#include "deepseek/pattern/alibi.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/soft_cap.hpp"

using namespace attention_test;

namespace {

struct roomy : cpu {  // blocks of 32 and 64 rows
  static std::size_t most_shared_bytes() { return std::size_t{227} << 10U; }
};

// Queries first .. first + n - 1 of the problem.
template <class T, class B, class Spec>
void run_rows(const B& b, arrays<T>& a, const Spec& spec, index_t first, index_t n) {
  ops::attention(b, latent_inputs_of(a, first, n),
                 attention_outputs{rows(a.o.get(), first, n), rows(a.lse_view(), first, n)}, spec);
}
// All of them, gathered by blocks of the size that so many rows have.
template <class W, class T, class Spec>
void run_blocks(arrays<T>& a, const Spec& spec, index_t size) {
  cuda_attention::launch_latent_rows<W, cuda_attention::chosen_keys>(
      roomy(), latent_inputs_of(a, 0, a.q.get().extent(0)),
      attention_outputs{a.o.get(), a.lse_view()},
      attention_checks::resolved(spec, a.q.get().extent(2)), size);
}
template <class T, class P>
void check(const problem& p, const P& pattern, const rule& sees, const std::string& name) {
  const data x = draw_latent<T>(p, name);
  const auto spec = spec_of(p, pattern);
  arrays<T> a(p, x);
  run_rows(cpu(), a, spec, 0, p.n);
  expect_forward(p, a, oracle_answer(p, x, sees), case_name(p, name));
  for (const index_t size : {16, 32, 64}) {
    arrays<T> sized(p, x);
    p.d == 576 ? run_blocks<cuda_attention::latent_and_rope>(sized, spec, size)
               : run_blocks<cuda_attention::latent_alone>(sized, spec, size);
    CHECK(same(results(a, wanted::forward), results(sized, wanted::forward)));
  }
}

using ids_of_rows = std::vector<std::vector<std::int32_t>>;
// Rows of equal length.
struct listed_ids {
  std::vector<std::int32_t> ids;
  index_t rows, count;
  explicit listed_ids(const ids_of_rows& from)
      : rows(static_cast<index_t>(from.size())), count(static_cast<index_t>(from[0].size())) {
    for (const auto& row : from) ids.insert(ids.end(), row.begin(), row.end());
  }
  index_set ascending(index_t first = 0) const {
    const view<const std::int32_t, host, dyn, dyn> all(ids.data(), {rows, count});
    return index_set(deepseek::rows(all, first, rows - first), index_order::ascending);
  }
  rule seen(const problem& p) const {
    return [this, start = p.m - p.n](index_t, index_t q, index_t k, index_t) {
      const auto row = ids.begin() + (q - start) * count;
      return std::find(row, row + count, static_cast<std::int32_t>(k)) != row + count;
    };
  }
};

// One launch for packed sequences and for lists of one range, else two; the bits are the same.
template <class P>
void expect_ranges_alike(const problem& p, const data& x, const P& pattern, arrays<bf16>& whole) {
  const std::int32_t query_offsets[] = {0, static_cast<std::int32_t>(p.n)};
  const std::int32_t key_offsets[] = {0, static_cast<std::int32_t>(p.m)};
  auto spec = spec_of(p, pattern);
  spec.query_offsets = {query_offsets, {2}}, spec.key_offsets = {key_offsets, {2}};
  const roomy one_launch;
  run_rows(one_launch, whole, spec, 0, p.n);
  CHECK(one_launch.launches() == 1);
  arrays<bf16> split(p, x);
  const cpu two_launches;
  run_rows(two_launches, split, spec_of(p, pattern), 0, p.n);
  CHECK(two_launches.launches() == 2);
  CHECK(same(results(whole, wanted::forward), results(split, wanted::forward)));
  arrays<bf16> large(p, x);
  run_blocks<cuda_attention::latent_and_rope>(large, spec, 64);
  CHECK(same(results(whole, wanted::forward), results(large, wanted::forward)));
}

}  // namespace

TEST_CASE("attention chosen: against the oracle, all shapes of a block") {
  constexpr index_t queries[] = {1, 3, 6}, listed[] = {1, 31, 32, 33, 64, 100};
  constexpr index_t heads[] = {1, 3, 16, 20, 64, 128};
  for (const auto& row : support::pairwise({3, 6, 6}, 14)) {
    const problem p = latent_problem(queries[row[0]], 150, heads[row[2]]);
    const table_of_keys table(p, listed[row[1]]);
    check<bf16>(p, table.ascending(), table.seen(p), "chosen bf16");
  }
  const problem p = latent_problem(6, 90, 16), shared = latent_problem(2, 70, 64, 512);
  const table_of_keys table(p, 40), one_tile(shared, 20);
  check<f16>(p, table.ascending(), table.seen(p), "chosen f16");
  check<bf16>(shared, one_tile.ascending(), one_tile.seen(shared), "chosen shared bf16");
  const data x = draw_latent<bf16>(p, "in any order");
  arrays<bf16> a(p, x);
  run_rows(cpu(), a, spec_of(p, index_set(table.rows())), 0, p.n);
  expect_forward(p, a, oracle_answer(p, x, table.seen(p)), "in any order");
}

TEST_CASE("attention chosen: many queries take larger blocks") {
  for (const index_t queries : {40, 70}) {  // of 32 and of 64 rows
    const problem p = latent_problem(queries, 75, 128);
    const table_of_keys table(p, 5);
    const data x = draw_latent<bf16>(p, "many");
    arrays<bf16> small(p, x), large(p, x);
    run_rows(cpu(), small, spec_of(p, table.ascending()), 0, p.n);
    run_rows(roomy(), large, spec_of(p, table.ascending()), 0, p.n);
    expect_forward(p, small, oracle_answer(p, x, table.seen(p)), "many");
    CHECK(same(results(small, wanted::forward), results(large, wanted::forward)));
    CHECK(cuda_attention::rows_of_query(latent_inputs_of(small, 0, queries), 1) ==
          (queries == 40 ? 32 : 128));
  }
  const problem one = latent_problem(1, 1, 128);
  arrays<bf16> a(one, draw_latent<bf16>(one, "one"));
  CHECK(cuda_attention::rows_of_query(latent_inputs_of(a, 0, 1), 4) == 16);
}

TEST_CASE("attention chosen: packed sequences, one list for all, score modifiers") {
  problem p = latent_problem(12, 150, 3);
  p.query_offsets = {0, 5, 5, 12};
  p.key_offsets = {0, 60, 65, 150};
  ids_of_rows ids;
  for (std::int32_t i = 0; i < 12; ++i) ids.push_back({i, 20 + i, 40 + 2 * i, 64, 70 + i, -1});
  const listed_ids table(ids);
  const rule sees = [&](index_t, index_t q, index_t k, index_t keys) {
    const index_t row = keys == 60 ? q - 55 : 5 + q - 78;  // of the batch
    return std::find(ids[static_cast<std::size_t>(row)].begin(),
                     ids[static_cast<std::size_t>(row)].end(),
                     k) != ids[static_cast<std::size_t>(row)].end();
  };
  check<bf16>(p, table.ascending(), sees, "sequences");
  const std::int32_t few[] = {0, 3, 33, 99, 149};
  check<bf16>(
      latent_problem(3, 150, 4),
      index_set::shared(view<const std::int32_t, host, dyn>(few, {5}), index_order::ascending),
      [&](index_t, index_t, index_t k, index_t) {
        return std::find(std::begin(few), std::end(few), k) != std::end(few);
      },
      "one list");
  const problem capped = capped_latent(3, 140, 4);
  const table_of_keys some(capped, 40);
  using changed = scored<scored<index_set, alibi<4>>, soft_cap<2>>;
  check<bf16>(capped, changed({some.ascending(), {}}, {}), some.seen(capped), "modifiers");
}

TEST_CASE("attention chosen: ranges of the list, a query alone and pages have the bits of one") {
  const problem p = latent_problem(3, 1150, 6);
  const table_of_keys table(p, 1100);
  const data x = draw_latent<bf16>(p, "chosen ranges");
  arrays<bf16> whole(p, x), alone(p, x);
  expect_ranges_alike(p, x, table.ascending(), whole);
  expect_forward(p, whole, oracle_answer(p, x, table.seen(p)), case_name(p, "chosen ranges"));
  for (index_t i = 0; i < p.n; ++i) {
    auto at = spec_of(p, index_set(rows(table.rows(), i, 1), index_order::ascending));
    at.start = p.m - p.n + i;
    run_rows(cpu(), alone, at, i, 1);
  }
  CHECK(same(results(whole, wanted::forward), results(alone, wanted::forward)));
  expect_pages_alike(p, x, whole, table.ascending(),
                     [&](auto& paged, const auto& of) { run_rows(cpu(), paged, of, 0, p.n); });
}

TEST_CASE("attention chosen: all keys listed has the bits of causal attention") {
  const problem p = latent_problem(3, 1060, 5);
  ids_of_rows ids(3, std::vector<std::int32_t>(1060, -1));
  for (std::int32_t i = 0; i < 3; ++i) {
    for (std::int32_t j = 0; j <= 1057 + i; ++j)
      ids[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)] = j;
  }
  const listed_ids table(ids);
  const data x = draw_latent<bf16>(p, "all listed");
  arrays<bf16> listed(p, x), dense(p, x);
  run_rows(cpu(), listed, spec_of(p, table.ascending()), 0, p.n);
  run_rows(cpu(), dense, spec_of(p, causal{}), 0, p.n);
  CHECK(same(results(listed, wanted::forward), results(dense, wanted::forward)));
}

TEST_CASE("attention chosen: entries twice, beyond the keys or missing show nothing more") {
  const problem p = latent_problem(4, 600, 2);
  const std::int32_t far = std::numeric_limits<std::int32_t>::max();
  ids_of_rows ids(4, std::vector<std::int32_t>(560, -1));
  for (std::size_t j = 0; j < 560; ++j) {
    ids[0][j] = static_cast<std::int32_t>(j / 2);  // over the edges of tiles and of the range
    ids[1][j] = 7;
    ids[2][j] = j < 3 ? static_cast<std::int32_t>(590 + 5 * j) : far;  // 590, 595, then none
  }
  ids[0][511] = ids[0][512] = 256, ids[0][513] = 257;
  ids[0][31] = ids[0][32] = 16, ids[0][33] = 17;
  const listed_ids table(ids);
  check<bf16>(p, table.ascending(), table.seen(p), "twice");
  const problem nothing = latent_problem(2, 0, 3);
  arrays<bf16> a(nothing, draw_latent<bf16>(nothing, "no keys"));
  run_rows(cpu(), a, spec_of(nothing, table.ascending()), 0, 2);
  const problem none = latent_problem(2, 40, 3);
  arrays<bf16> b(none, draw_latent<bf16>(none, "no entries"));
  const view<const std::int32_t, host, dyn, dyn> empty(nullptr, {2, 0});
  run_rows(cpu(), b, spec_of(none, index_set(empty, index_order::ascending)), 0, 2);
  for (arrays<bf16>* x : {&a, &b}) {
    for (const float lse : x->lse.values()) CHECK(lse == -std::numeric_limits<float>::infinity());
    for (const bf16 o : x->o.values()) CHECK(static_cast<float>(o) == 0.0F);
    CHECK(x->clean());
  }
}

TEST_CASE("attention chosen: a listed NaN reaches the queries that list it alone") {
  const problem p = latent_problem(3, 70, 5);
  ids_of_rows ids;
  for (std::int32_t i = 0; i < 3; ++i) ids.push_back({3 + i, 20, 30 + i});
  const listed_ids table(ids);
  data x = draw_latent<bf16>(p, "chosen nan");
  arrays<bf16> clean(p, x);
  run_rows(cpu(), clean, spec_of(p, table.ascending()), 0, p.n);
  for (const double poison : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    x.k[static_cast<std::size_t>(31 * p.d + 100)] = poison;  // of query 1
    arrays<bf16> a(p, x);
    run_rows(cpu(), a, spec_of(p, table.ascending()), 0, p.n);
    const auto before = clean.o.values(), now = a.o.values();
    const auto size = static_cast<std::size_t>(p.h * p.dv);
    for (std::size_t i = 0; i < before.size(); ++i) {
      if (i / size != 1) CHECK(before[i].bits == now[i].bits);
    }
    for (std::size_t h = 0; h < 5; ++h) {
      CHECK(!std::isfinite(static_cast<float>(now[size + h * 512 + 100])));
    }
  }
}

TEST_CASE("attention chosen: what no query lists is not read") {
  const problem p = latent_problem(3, 300, 20);
  ids_of_rows ids;
  for (std::int32_t i = 0; i < 3; ++i) ids.push_back({i, 64 + i, 65 + 7 * i, 200, 299, 400});
  const listed_ids table(ids);
  const data x = draw_latent<bf16>(p, "fenced");
  arrays<bf16> open(p, x), fenced(p, x), paged(p, x);
  run_rows(cpu(), open, spec_of(p, table.ascending()), 0, p.n);
  const auto all = table.seen(p);
  const auto listed = [&](index_t k) {
    return all(0, p.m - 3, k, p.m) || all(0, p.m - 2, k, p.m) || all(0, p.m - 1, k, p.m);
  };
  const std::int32_t pages[] = {3, 0, 4, 1, 2};
  const auto run = [&](const auto& b, arrays<bf16>& a, bool in_pages) {
    const auto row = [&](index_t t) { return in_pages ? pages[t / 64] * 64 + t % 64 : t; };
    simulation::fenced_rows<bf16> memory(320, p.d);
    for (index_t t = 0; t < p.m; ++t) {
      for (index_t c = 0; c < p.d; ++c) memory.row(row(t))[c] = a.k.get()(t, 0, c);
    }
    memory.close();
    for (index_t t = 0; t < p.m; ++t) {
      if (listed(t)) memory.open(row(t));
    }
    auto spec = spec_of(p, table.ascending());
    if (in_pages) spec.pages = {{pages, {5}}, 64}, spec.keys = p.m;
    const auto k = memory.rows(in_pages ? 320 : p.m, 576), v = memory.rows(k.extent(0), 512);
    ops::attention(b, attention_inputs{a.q.get(), k, v}, attention_outputs{a.o.get(), a.lse_view()},
                   spec);
    CHECK(same(results(a, wanted::forward), results(open, wanted::forward)));
  };
  run(cpu(), fenced, false);
  run(cpu(), paged, true);
  run(roomy(), paged, true);
  const index_t maps = simulation::maps_made();
  run(simulation::groups(), fenced, false);
  CHECK(simulation::maps_made() == maps);
}
