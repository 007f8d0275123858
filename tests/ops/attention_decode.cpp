// SPDX-License-Identifier: Apache-2.0
// Decoding steps over long caches on the cpu: few rows read keys and values where they stand, and
// where threads outnumber key-value heads the keys are cut. Always the bits of the same query in a
// prefill, whose tiles are packed: any element type, number of heads, width, threads, pages,
// pattern, and whatever stands in values that nobody sees.
#include "deepseek/ops/attention.hpp"

#include "deepseek/backend/cpu/cpu.hpp"
#include "deepseek/pattern/alibi.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/soft_cap.hpp"

#include "support/compare.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"
#include "support/seed.hpp"

#include <doctest/doctest.h>

#include <limits>

namespace ds = deepseek;

namespace {

using ds::index_t;

struct sizes {
  index_t keys, heads, kv_heads, d, dv;
};
std::string case_name(const sizes& s) {
  return support::text("keys", s.keys, "heads", s.heads, "kv", s.kv_heads, "d", s.d, "dv", s.dv);
}

template <class T>
using cube = ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn>;

// Many queries at once, and the last of them alone.
template <class T>
struct decode_case {
  static constexpr index_t queries = 70;  // a prefill: more rows than a tile has
  sizes at;
  std::vector<T> q, k, v;

  decode_case(const sizes& s, std::uint64_t seed) : at(s) {
    support::numbers from(seed);
    const auto draw = [&](index_t n) {
      return support::as<T>(
          support::draw(support::values::normal, static_cast<std::size_t>(n), from));
    };
    q = draw(queries * s.heads * s.d);
    k = draw(s.keys * s.kv_heads * s.d);
    v = draw(s.keys * s.kv_heads * s.dv);
  }

  struct rows {
    std::vector<T> o;
    std::vector<ds::accumulate_t<T>> lse;
    bool operator==(const rows& other) const {
      return support::same_bits(o, other.o) && support::same_bits(lse, other.lse);
    }
  };
  // Queries first .. first + count - 1; pages: where there are some, k and v stand in them.
  template <class P>
  rows run(const ds::cpu& b, const P& pattern, index_t first, index_t count,
           const std::vector<std::int32_t>& pages = {}, index_t page = 0) {
    ds::attention_spec<P> spec{.pattern = pattern};
    spec.start = at.keys - queries + first;
    if (page == 0) return run(b, spec, first, count, k, v);
    spec.pages = {{pages.data(), {static_cast<index_t>(pages.size())}}, page};
    spec.keys = at.keys;
    return run(b, spec, first, count, in_pages(k, at.kv_heads * at.d, pages, page),
               in_pages(v, at.kv_heads * at.dv, pages, page));
  }
  template <class P, class S>
  rows run(const ds::cpu& b, const ds::attention_spec<P, S>& spec, index_t first, index_t count,
           const std::vector<T>& keys, const std::vector<T>& values) {
    using sum = ds::accumulate_t<T>;
    rows out{std::vector<T>(static_cast<std::size_t>(count * at.heads * at.dv)),
             std::vector<sum>(static_cast<std::size_t>(count * at.heads))};
    const index_t places = static_cast<index_t>(keys.size()) / (at.kv_heads * at.d);
    const auto* const from = q.data() + first * at.heads * at.d;
    const ds::attention_inputs in{cube<const T>(from, {count, at.heads, at.d}),
                                  cube<const T>(keys.data(), {places, at.kv_heads, at.d}),
                                  cube<const T>(values.data(), {places, at.kv_heads, at.dv})};
    const ds::attention_outputs to{
        cube<T>(out.o.data(), {count, at.heads, at.dv}),
        ds::view<sum, ds::host, ds::dyn, ds::dyn>(out.lse.data(), {count, at.heads})};
    ds::ops::attention(b, in, to, spec);
    return out;
  }
  // The last `count` queries of a prefill.
  template <class P>
  rows prefilled(const P& pattern, index_t count) {
    const auto all = run(ds::cpu(), pattern, 0, queries);
    return {{all.o.end() - count * at.heads * at.dv, all.o.end()},
            {all.lse.end() - count * at.heads, all.lse.end()}};
  }

 private:
  static std::vector<T> in_pages(const std::vector<T>& x, index_t row,
                                 const std::vector<std::int32_t>& pages, index_t page) {
    std::vector<T> out(pages.size() * static_cast<std::size_t>(page * row),
                       static_cast<T>(std::numeric_limits<float>::quiet_NaN()));
    for (index_t t = 0; t * row < static_cast<index_t>(x.size()); ++t) {
      const index_t to = pages[static_cast<std::size_t>(t / page)] * page + t % page;
      std::copy_n(x.begin() + t * row, row, out.begin() + to * row);
    }
    return out;
  }
};

template <class T, class P>
void decodes_as_prefilled(decode_case<T>& c, const P& pattern, const std::string& name) {
  for (index_t count : {1, 2}) {
    const auto expected = c.prefilled(pattern, count);
    for (int threads : {1, 2, 3, 8}) {
      const ds::cpu b({.threads = threads});
      const auto got = c.run(b, pattern, decode_case<T>::queries - count, count);
      support::expect_true(
          "attention", case_name(c.at) + support::text("queries", count, "threads", threads) + name,
          got == expected, "other bits than in a prefill");
    }
  }
}

template <class T>
void all_groups(const std::string& name) {
  const sizes cases[] = {
      {577, 1, 1, 16, 32},  {600, 2, 1, 64, 64},  {640, 3, 1, 40, 96},  {513, 4, 1, 128, 128},
      {700, 5, 1, 34, 32},  {530, 8, 1, 64, 160}, {700, 12, 1, 48, 64}, {833, 16, 1, 144, 128},
      {540, 8, 2, 128, 64}, {600, 6, 3, 96, 256}, {560, 4, 1, 33, 20},  {520, 32, 1, 32, 32},
      {90, 4, 2, 64, 64},   {5, 2, 1, 16, 32},
  };
  for (sizes s : cases) {
    s.keys = std::max<index_t>(s.keys, decode_case<T>::queries);
    decode_case<T> c(s, 11);
    decodes_as_prefilled(c, ds::causal{}, name);
  }
}

}  // namespace

TEST_CASE("a decoding step has the bits of a prefill: heads, widths, threads") {
  all_groups<float>(" f32");
  all_groups<double>(" f64");
  all_groups<ds::bf16>(" bf16");
  all_groups<ds::f16>(" f16");
}

TEST_CASE("a decoding step has the bits of a prefill: patterns and modified scores") {
  decode_case<ds::bf16> narrow({900, 8, 2, 64, 64}, 5);
  decode_case<float> wide({900, 8, 2, 48, 32}, 6);
  const auto each = [&](const auto& pattern, const std::string& name) {
    decodes_as_prefilled(narrow, pattern, name);
    decodes_as_prefilled(wide, pattern, name);
  };
  each(ds::local<300>{}, " local");
  each(ds::everyone{}, " everyone");
  each(ds::scored<ds::causal, ds::alibi<8>>{}, " alibi");
  each(ds::scored<ds::causal, ds::soft_cap<20>>{}, " soft cap");
}

TEST_CASE("a decoding step: scores that climb from tile to tile raise each row's maximum") {
  decode_case<float> c({1024, 4, 1, 32, 64}, 9);
  for (index_t t = 0; t < c.at.keys; ++t) {
    for (index_t i = 0; i < c.at.d; ++i) {
      c.k[static_cast<std::size_t>(t * c.at.d + i)] *= 1 + 0.02F * static_cast<float>(t);
    }
  }
  decodes_as_prefilled(c, ds::causal{}, " climbing");
}

TEST_CASE("a decoding step: values that no query sees never matter") {
  const auto check = [](auto element, const std::string& name) {
    using T = decltype(element);
    decode_case<T> c({700, 4, 1, 32, 64}, 3);
    const auto before = c.run(ds::cpu(), ds::causal{}, 20, 2);
    const index_t seen = c.at.keys - c.queries + 22;
    for (float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      std::fill(c.v.begin() + seen * c.at.dv, c.v.end(), static_cast<T>(bad));
      for (int threads : {1, 3}) {
        const ds::cpu b({.threads = threads});
        support::expect_true("attention", name + support::text("threads", threads),
                             c.run(b, ds::causal{}, 20, 2) == before, "hidden values were read");
      }
    }
  };
  check(float{}, "f32");
  check(ds::bf16{}, "bf16");
  check(ds::f16{}, "f16");
}

TEST_CASE("a decoding step: values that only the other query sees never matter") {
  const auto check = [](auto element, const std::string& name) {
    using T = decltype(element);
    decode_case<T> c({700, 4, 1, 32, 64}, 8);
    const auto before = c.run(ds::cpu(), ds::causal{}, 20, 1);
    const index_t last = c.at.keys - c.queries + 21;  // the second query's own key
    for (float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      std::fill_n(c.v.begin() + last * c.at.dv, c.at.dv, static_cast<T>(bad));
      for (int threads : {1, 3}) {
        const ds::cpu b({.threads = threads});
        auto both = c.run(b, ds::causal{}, 20, 2);
        both.o.resize(before.o.size()), both.lse.resize(before.lse.size());
        support::expect_true("attention", name + support::text("threads", threads), both == before,
                             "hidden values were read");
      }
    }
  };
  check(float{}, "f32");
  check(ds::bf16{}, "bf16");
  check(ds::f16{}, "f16");
}

TEST_CASE("decoding steps of several sequences: each as it is alone, with none among them") {
  const auto check = [](auto element, const std::string& name) {
    using T = decltype(element);
    decode_case<T> c({1400, 4, 1, 64, 64}, 12);
    const std::vector<std::int32_t> queries{0, 1, 1, 3, 3, 4}, keys{0, 600, 640, 700, 700, 1400};
    const auto count = static_cast<index_t>(queries.size());
    ds::attention_spec<ds::causal> spec;
    spec.query_offsets = {queries.data(), {count}};
    spec.key_offsets = {keys.data(), {count}};
    const auto all = c.run(ds::cpu(), spec, 0, 4, c.k, c.v);
    for (int threads : {2, 3, 8}) {
      support::expect_true("attention", name + support::text("threads", threads),
                           c.run(ds::cpu({.threads = threads}), spec, 0, 4, c.k, c.v) == all,
                           "other bits");
    }
    for (std::size_t s = 0; s + 1 < queries.size(); ++s) {
      const index_t first = queries[s], n = queries[s + 1] - first;
      if (n == 0) continue;
      const auto part = [&](const std::vector<T>& x, index_t row) {
        return std::vector<T>(x.begin() + keys[s] * row, x.begin() + keys[s + 1] * row);
      };
      const auto alone = c.run(ds::cpu(), ds::attention_spec<ds::causal>{}, first, n,
                               part(c.k, c.at.d), part(c.v, c.at.dv));
      const auto within = [&](const auto& whole, const auto& own, index_t row) {
        const auto from = whole.begin() + first * row;
        return support::same_bits({from, from + n * row}, own);
      };
      support::expect_true(
          "attention", name + support::text("sequence", s),
          within(all.o, alone.o, c.at.heads * c.at.dv) && within(all.lse, alone.lse, c.at.heads),
          "other bits than alone");
    }
  };
  check(float{}, "f32 ");
  check(ds::bf16{}, "bf16 ");
}

TEST_CASE("a decoding step: pages of any size") {
  const auto check = [](auto element, const std::string& name) {
    using T = decltype(element);
    decode_case<T> c({650, 4, 1, 64, 64}, 4);
    const auto expected = c.prefilled(ds::causal{}, 1);
    for (index_t page : {16, 64, 24, 7, 128}) {
      const auto count = static_cast<std::int32_t>((c.at.keys + page - 1) / page);
      std::vector<std::int32_t> pages;
      for (std::int32_t i = 0; i < count; ++i) pages.push_back(count - 1 - i);
      for (int threads : {1, 3}) {
        const ds::cpu b({.threads = threads});
        const auto got = c.run(b, ds::causal{}, c.queries - 1, 1, pages, page);
        support::expect_true("attention", name + support::text("page", page, "threads", threads),
                             got == expected, "other bits than in order");
      }
    }
  };
  check(float{}, "f32 ");
  check(ds::bf16{}, "bf16 ");
  check(ds::f16{}, "f16 ");
}
