// SPDX-License-Identifier: Apache-2.0
// Keys and values that stand in pages: the bits of those in order, whatever the pages' size and
// order; what stands in other pages never matters; bad tables are refused.
#include "deepseek/ops/attention.hpp"

#include "deepseek/backend/cpu/cpu.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/index_set.hpp"

#include "support/compare.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <limits>

namespace ds = deepseek;

namespace {

using ds::index_t;

struct sizes {
  index_t queries, keys, heads, kv_heads, d, dv;
};

template <class T>
ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn> cube(std::vector<T>& v, index_t n, index_t h,
                                                      index_t d) {
  return {v.data(), {n, h, d}};
}

// The rows of keys in order, and the same rows spread over pages in a mixed order.
template <class T>
struct paged_case {
  sizes at;
  std::vector<T> q, k, v, k_pages, v_pages;
  std::vector<std::int32_t> pages;
  index_t rows = 0;

  paged_case(const sizes& s, index_t size, std::uint64_t seed) : at(s) {
    support::numbers from(seed);
    const auto draw = [&](index_t n) {
      return support::as<T>(
          support::draw(support::values::normal, static_cast<std::size_t>(n), from));
    };
    q = draw(s.queries * s.heads * s.d);
    k = draw(s.keys * s.kv_heads * s.d);
    v = draw(s.keys * s.kv_heads * s.dv);
    const index_t count = (s.keys + size - 1) / size, all = count + 2;
    for (index_t i = 0; i < count; ++i) {
      pages.push_back(static_cast<std::int32_t>(all % 2 == 1 ? (2 * i + 1) % all : all - 1 - i));
    }
    rows = all * size;
    const T poison = std::numeric_limits<T>::quiet_NaN();
    k_pages.assign(static_cast<std::size_t>(rows * s.kv_heads * s.d), poison);
    v_pages.assign(static_cast<std::size_t>(rows * s.kv_heads * s.dv), poison);
    for (index_t t = 0; t < s.keys; ++t) {
      const index_t row = pages[static_cast<std::size_t>(t / size)] * size + t % size;
      std::copy_n(k.begin() + t * s.kv_heads * s.d, s.kv_heads * s.d,
                  k_pages.begin() + row * s.kv_heads * s.d);
      std::copy_n(v.begin() + t * s.kv_heads * s.dv, s.kv_heads * s.dv,
                  v_pages.begin() + row * s.kv_heads * s.dv);
    }
  }

  template <class B, class Spec>
  std::vector<T> run(const B& b, Spec spec, bool in_pages) {
    std::vector<T> o(static_cast<std::size_t>(at.queries * at.heads * at.dv)),
        lse(static_cast<std::size_t>(at.queries * at.heads));
    const ds::attention_outputs out{
        cube(o, at.queries, at.heads, at.dv),
        ds::view<T, ds::host, ds::dyn, ds::dyn>(lse.data(), {at.queries, at.heads})};
    const auto qv = cube(q, at.queries, at.heads, at.d);
    if (in_pages) {
      ds::ops::attention(b,
                         ds::attention_inputs{qv, cube(k_pages, rows, at.kv_heads, at.d),
                                              cube(v_pages, rows, at.kv_heads, at.dv)},
                         out, spec);
    } else {
      ds::ops::attention(b,
                         ds::attention_inputs{qv, cube(k, at.keys, at.kv_heads, at.d),
                                              cube(v, at.keys, at.kv_heads, at.dv)},
                         out, spec);
    }
    o.insert(o.end(), lse.begin(), lse.end());
    return o;
  }
  ds::page_table<ds::host> table(index_t size) const {
    return {{pages.data(), {static_cast<index_t>(pages.size())}}, size};
  }
};

template <class T, class P, class B>
void check(const B& b, const char* name) {
  const sizes shapes[] = {{1, 130, 4, 2, 16, 24}, {5, 64, 2, 2, 7, 9},   {70, 200, 6, 1, 32, 16},
                          {3, 3, 2, 1, 8, 8},     {100, 40, 3, 3, 8, 8}, {2, 0, 2, 1, 4, 4}};
  std::uint64_t seed = 1;
  for (const sizes& s : shapes) {
    for (const index_t size : {1, 3, 16, 64, 128}) {
      paged_case<T> c(s, size, seed++);
      ds::attention_spec<P> spec, pages;
      pages.pages = c.table(size);
      pages.keys = s.keys;
      support::expect_true(
          name, support::text("keys", s.keys, "queries", s.queries, "pages of", size),
          support::same_bits(c.run(b, spec, false), c.run(b, pages, true)), "other bits");
    }
  }
}

}  // namespace

TEST_CASE("attention in pages: the bits of keys in order") {
  for (const int threads : {1, 3}) {
    const ds::cpu b{{.threads = threads}};
    check<float, ds::causal>(b, "attention");
    check<double, ds::causal>(b, "attention");
    check<float, ds::sliding<50>>(b, "attention");
    check<float, ds::everyone>(b, "attention");
  }
  check<float, ds::causal>(ds::reference{}, "attention");
  check<double, ds::everyone>(ds::reference{}, "attention");
}

TEST_CASE("attention in pages: keys that a table lists, for many heads") {
  const sizes s{6, 150, 16, 1, 24, 16};
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < 6; ++i) {
    for (std::int32_t k = 0; k < 20; ++k) ids.push_back(7 * k + i);
  }
  const ds::view<const std::int32_t, ds::host, ds::dyn, ds::dyn> listed(ids.data(), {6, 20});
  for (const index_t size : {5, 64}) {
    paged_case<float> c(s, size, 99);
    ds::attention_spec<ds::index_set> spec;
    spec.pattern = ds::index_set(listed, ds::index_order::ascending);
    auto pages = spec;
    pages.pages = c.table(size);
    pages.keys = s.keys;
    for (const bool plain : {false, true}) {
      const ds::cpu b{{.threads = 2}};
      const ds::reference reference;
      const auto want = plain ? c.run(reference, spec, false) : c.run(b, spec, false);
      const auto got = plain ? c.run(reference, pages, true) : c.run(b, pages, true);
      support::expect_true("attention", support::text("listed keys, pages of", size),
                           support::same_bits(want, got), "other bits");
    }
  }
}

TEST_CASE("attention in pages: bad tables") {
  const ds::cpu b;
  paged_case<float> c({2, 20, 2, 1, 4, 4}, 8, 1);
  ds::attention_spec<ds::causal> spec;
  spec.pages = c.table(8);
  spec.keys = 25;
  using code = ds::error_code;
  CHECK_ERROR(code::index_range, "25 keys", "3 pages of 8", c.run(b, spec, true));
  spec.keys = -1;
  CHECK_ERROR(code::index_range, "-1 keys", c.run(b, spec, true));
  spec.keys = 20;
  spec.pages.size = -8;
  CHECK_ERROR(code::invalid_argument, "a page of -8", c.run(b, spec, true));
  spec.pages.size = 8;
  for (const std::int32_t bad : {-1, 5, 2000000000}) {
    const auto good = std::exchange(c.pages[1], bad);
    CHECK_ERROR(code::index_range, "pages[1] is", "40 rows", c.run(b, spec, true));
    c.pages[1] = good;
  }
  const std::int32_t offsets[] = {0, 2};
  spec.query_offsets = spec.key_offsets = {offsets, {2}};
  CHECK_ERROR(code::unsupported, "several sequences", c.run(b, spec, true));
}

TEST_CASE("attention in pages: no backward") {
  const ds::cpu b;
  paged_case<float> c({2, 8, 1, 1, 4, 4}, 8, 1);
  ds::attention_spec<ds::causal> spec;
  spec.pages = c.table(8);
  spec.keys = 8;
  std::vector<float> o(8), lse(2), dq(8), dk(c.k_pages.size()), dv(c.v_pages.size());
  const auto keys = [&](std::vector<float>& v) { return cube(v, c.rows, 1, 4); };
  CHECK_ERROR(
      ds::error_code::unsupported, "attention_backward: keys in pages",
      ds::ops::attention_backward(
          b, ds::attention_inputs{cube(c.q, 2, 1, 4), keys(c.k_pages), keys(c.v_pages)},
          ds::attention_outputs{cube(o, 2, 1, 4),
                                ds::view<float, ds::host, ds::dyn, ds::dyn>(lse.data(), {2, 1})},
          ds::attention_gradients{cube(o, 2, 1, 4), cube(dq, 2, 1, 4), keys(dk), keys(dv)}, spec));
}
