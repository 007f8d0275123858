// SPDX-License-Identifier: Apache-2.0
// attention over listed keys against dense oracle attention with the same mask: tiles that hold
// listed keys and gathered keys, both orders, queries that see nothing, NaN in what nobody lists,
// fewer keys than asked for, packed sequences, decoding, threads.
#include "ops/listed_keys.hpp"

#include "deepseek/pattern/band.hpp"

#include <algorithm>

using namespace attention_test;

namespace {

const problem shapes[] = {
    {.n = 70, .m = 70, .h = 2, .hk = 2, .d = 8, .dv = 8},
    {.n = 33, .m = 300, .h = 4, .hk = 2, .d = 16, .dv = 5},
    {.n = 20, .m = 300, .h = 16, .hk = 1, .d = 24, .dv = 16},
    {.n = 1, .m = 200, .h = 60, .hk = 1, .d = 8, .dv = 8},
    {.n = 12, .m = 90, .h = 26, .hk = 2, .d = 17, .dv = 3, .start = 40},
    {.n = 3, .m = 150, .h = 128, .hk = 1, .d = 12, .dv = 7},
};

// The latent as key, and its first columns as value: one memory.
template <class T, class B>
void shared_rows(const B& b) {
  const problem p{.n = 5, .m = 130, .h = 16, .hk = 1, .d = 20, .dv = 12};
  const table_of_keys table(p, 40);
  data x = draw<T>(p, "shared");
  for (index_t j = 0; j < p.m; ++j) {
    std::copy_n(x.k.begin() + j * p.d, p.dv, x.v.begin() + j * p.dv);
  }
  arrays<T> a(p, x), apart(p, x);
  apart.forward(b, spec_of(p, table.ascending()));
  const auto k = a.k.get();
  const view<T, host, dyn, dyn, dyn> inside(k.data(), {p.m, 1, p.dv}, {p.d, p.d, 1});
  ops::attention(b, attention_inputs{a.q.get(), k, inside},
                 attention_outputs{a.o.get(), a.lse_view()}, spec_of(p, table.ascending()));
  support::expect_true("attention", "values inside keys",
                       same(results(a, wanted::forward), results(apart, wanted::forward)),
                       "values inside the keys give other bits than a copy");
}

template <class T>
void poisoned(const problem& p, const std::string& name) {
  const table_of_keys table(p, 30);
  const auto sees = table.seen(p);
  data clean = draw<T>(p, "listed"), dirty = clean;
  for (index_t j = 0; j < p.m; ++j) {
    bool listed = false;
    for (index_t i = 0; i < p.n; ++i) listed = listed || sees(0, p.m - p.n + i, j, p.m);
    if (listed) continue;
    std::fill_n(clean.k.begin() + j * p.hk * p.d, p.hk * p.d, 0.0);
    std::fill_n(clean.v.begin() + j * p.hk * p.dv, p.hk * p.dv, 0.0);
    std::fill_n(dirty.k.begin() + j * p.hk * p.d, p.hk * p.d, std::nan(""));
    std::fill_n(dirty.v.begin() + j * p.hk * p.dv, p.hk * p.dv, std::nan(""));
  }
  const auto outcome = [&](const auto& b, const data& x) {
    arrays<T> a(p, x);
    a.forward(b, spec_of(p, table.ascending()));
    a.backward(b, spec_of(p, table.ascending()));
    return results(a, wanted::gradients);
  };
  const cpu b;
  support::expect_true("attention", name, same(outcome(b, clean), outcome(b, dirty)),
                       "a key that is not listed changed the result");
  support::expect_true("attention", name + " reference",
                       same(outcome(reference{}, clean), outcome(reference{}, dirty)),
                       "a key that is not listed changed the result");
}

}  // namespace

TEST_CASE("attention index_set: equals dense attention with the same mask") {
  const cpu threaded({.threads = 2});
  for (const problem& p : shapes) {
    for (const index_t most : {1, 40, 400}) {
      const table_of_keys table(p, most);
      table_of_keys backwards = table;
      for (index_t i = 0; i < p.n; ++i) {
        const auto row = backwards.ids.begin() + i * most;
        std::reverse(row, row + most);
      }
      const std::string name = case_name(p, support::text("listed", most));
      run<float>(threaded, p, table.ascending(), table.seen(p), name + " f32", wanted::gradients);
      run<double>(threaded, p, table.ascending(), table.seen(p), name + " f64", wanted::gradients,
                  layout::heads_first);
      run<float>(threaded, p, index_set(backwards.rows()), table.seen(p), name + " any order",
                 wanted::gradients);
      run<double>(reference(), p, table.ascending(), table.seen(p), name + " reference",
                  wanted::gradients);
    }
  }
}

TEST_CASE("attention index_set: values inside keys; what is not listed may be NaN") {
  shared_rows<float>(cpu{});
  shared_rows<double>(cpu({.threads = 3}));
  poisoned<float>({.n = 20, .m = 200, .h = 2, .hk = 1, .d = 8, .dv = 8}, "tiles");
  poisoned<double>({.n = 20, .m = 200, .h = 12, .hk = 1, .d = 8, .dv = 8}, "gathered");
}

TEST_CASE("attention index_set: all keys listed has the bits of causal attention in tiles") {
  const problem p{.n = 100, .m = 100, .h = 4, .hk = 4, .d = 16, .dv = 16};
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < 100; ++i) {
    for (std::int32_t j = 0; j < 100; ++j) ids.push_back(j <= i ? j : -1);
  }
  const view<const std::int32_t, host, dyn, dyn> table(ids.data(), {100, 100});
  const data x = draw<float>(p, "all");
  arrays<float> listed(p, x), dense(p, x);
  const cpu b({.threads = 2});
  const index_set all(table, index_order::ascending);
  listed.forward(b, spec_of(p, all));
  listed.backward(b, spec_of(p, all));
  dense.forward(b, spec_of(p, causal{}));
  dense.backward(b, spec_of(p, causal{}));
  CHECK(same(results(listed, wanted::gradients), results(dense, wanted::gradients)));
}

TEST_CASE("attention index_set: a query alone, packed sequences, threads") {
  for (const index_t heads : {2, 16, 100}) {
    const problem p{.n = 40, .m = 40, .h = heads, .hk = 1, .d = 12, .dv = 8};
    const table_of_keys table(p, 9);
    const data x = draw<float>(p, "alone");
    const auto run_on = [&](int threads) {
      arrays<float> a(p, x);
      a.forward(cpu({.threads = threads}), spec_of(p, table.ascending()));
      return results(a, wanted::forward);
    };
    const auto whole = run_on(1);
    CHECK(same(whole, run_on(2)));
    CHECK(same(whole, run_on(3)));
    arrays<float> a(p, x);
    const cpu b({.threads = 4});
    for (const index_t i : {0, 7, 39}) {
      auto spec = spec_of(p, index_set(rows(table.rows(), i, 1), index_order::ascending));
      spec.start = i;
      ops::attention(b, attention_inputs{rows(a.q.get(), i, 1), a.k.get(), a.v.get()},
                     attention_outputs{rows(a.o.get(), i, 1), rows(a.lse_view(), i, 1)}, spec);
      const auto got = a.o.values();
      const auto at = i * p.h * p.dv;
      const std::vector<float> one(got.begin() + at, got.begin() + at + p.h * p.dv);
      const std::vector<float> in_batch(whole[0].begin() + at, whole[0].begin() + at + p.h * p.dv);
      support::expect_true("attention", support::text("query", i, "heads", heads),
                           support::same_bits(one, in_batch), "a query alone has other bits");
    }
    // Two sequences, each with its own table rows: ids are positions in the sequence.
    const std::int32_t offsets[] = {0, 15, 40};
    std::vector<std::int32_t> ids(table.ids.begin(), table.ids.begin() + 15 * 9);
    ids.insert(ids.end(), table.ids.begin(), table.ids.begin() + 25 * 9);
    const view<const std::int32_t, host, dyn, dyn> both(ids.data(), {40, 9});
    auto spec = spec_of(p, index_set(both, index_order::ascending));
    spec.query_offsets = spec.key_offsets = {offsets, {3}};
    arrays<float> packed(p, x), second(p, x);
    packed.forward(b, spec);
    ops::attention(b,
                   attention_inputs{rows(second.q.get(), 15, 25), rows(second.k.get(), 15, 25),
                                    rows(second.v.get(), 15, 25)},
                   attention_outputs{rows(second.o.get(), 15, 25), rows(second.lse_view(), 15, 25)},
                   attention_spec<index_set>{
                       .pattern = index_set(rows(both, 15, 25), index_order::ascending)});
    const auto got = packed.o.values(), alone = second.o.values();
    CHECK(std::equal(got.begin() + 15 * p.h * p.dv, got.end(), alone.begin() + 15 * p.h * p.dv));
  }
}
