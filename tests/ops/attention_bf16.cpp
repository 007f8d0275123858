// SPDX-License-Identifier: Apache-2.0
// attention of 16-bit elements on the cpu, where pairs are multiplied or elements are widened:
// sizes around every edge, strides, masks, both passes; hidden values of any kind; the same bits
// for any number of threads and for a query alone; types that differ.
#include "ops/attention_sweep.hpp"

#include "deepseek/pattern/any_pattern.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/index_set.hpp"

using namespace attention_test;

namespace {

const index_t lengths[] = {1, 2, 11, 13, 31, 33, 63, 64, 65, 97, 129, 200};
const index_t widths[] = {1, 3, 8, 16, 17, 32, 33, 64, 80};

template <class T>
void sizes(const std::string& where, std::size_t at_most) {
  constexpr index_t heads[][2] = {{1, 1}, {4, 2}, {6, 1}, {16, 1}};
  const cpu b({.threads = 2});
  for (const auto& row : support::pairwise(
           {std::size(lengths), std::size(lengths), std::size(widths), std::size(widths), 4, 4},
           at_most)) {
    problem p;
    p.n = lengths[row[0]], p.m = lengths[row[1]], p.d = widths[row[2]], p.dv = widths[row[3]];
    p.h = heads[row[4]][0], p.hk = heads[row[4]][1];
    const layout how = layouts[row[5]];
    run<T>(b, p, any_pattern(causal{}), causal_rule(), case_name(p, where + " " + to_string(how)),
           wanted::gradients, how);
  }
}

// The bits of all results on some number of threads.
std::vector<std::vector<bf16>> outcome(const problem& p, const any_pattern& pattern, const data& x,
                                       int threads = 1) {
  const cpu b({.threads = threads});
  arrays<bf16> a(p, x);
  a.forward(b, spec_of(p, pattern));
  a.backward(b, spec_of(p, pattern));
  return results(a, wanted::gradients);
}

void set_row(std::vector<double>& x, index_t width, index_t row, double to) {
  std::fill_n(x.begin() + row * width, width, to);
}

}  // namespace

TEST_CASE("attention 16 bits: sizes and strides, both passes") {
  sizes<bf16>("cpu bf16", 0);
  sizes<f16>("cpu f16", 60);
}

TEST_CASE("attention 16 bits: patterns") {
  const pattern_key key{5, 2};
  const rule window = band_rule(-9, 9), draws = random_rule<16, 2>(key, reach::past);
  const any_pattern pattern(both<causal, either<local<9>, random_blocks<16, 2>>>(
      causal{}, either<local<9>, random_blocks<16, 2>>(local<9>{}, random_blocks<16, 2>{key, {}})));
  for (const problem& p : shapes) {
    if (p.start != 0 && p.m != p.n) continue;  // the draw looks back from known positions
    run<bf16>(
        cpu({.threads = 2}), p, pattern,
        [&](index_t h, index_t q, index_t k, index_t m) {
          return k <= q && (window(h, q, k, m) || draws(h, q, k, m));
        },
        case_name(p, "bf16 union"), wanted::gradients);
  }
}

TEST_CASE("attention 16 bits: what is hidden does not matter, what is visible stays") {
  const problem p{.n = 100, .m = 100, .h = 2, .hk = 1, .d = 18, .dv = 35};
  const data clean = draw<bf16>(p, "hidden");
  for (double poison : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    // A key nobody sees.
    data zero = clean, dirty = clean;
    for (index_t row : {0, 37, 64, 99}) {
      set_row(zero.k, p.d, row, 0), set_row(zero.v, p.dv, row, 0);
      set_row(dirty.k, p.d, row, poison), set_row(dirty.v, p.dv, row, poison);
    }
    const any_pattern others(both<causal, index_set>(causal{}, [] {
      static const auto ids = [] {
        std::vector<std::int32_t> seen;
        for (std::int32_t k = 0; k < 100; ++k) {
          if (k != 0 && k != 37 && k != 64 && k != 99) seen.push_back(k);
        }
        return seen;
      }();
      return index_set::shared(view<const std::int32_t, host, dyn>(ids.data(), {std::ssize(ids)}));
    }()));
    CHECK(same(outcome(p, others, zero), outcome(p, others, dirty)));
    // A value that queries from 50 on see: earlier ones have the bits of a zero there.
    zero = dirty = clean;
    set_row(zero.v, p.dv, 50, 0), set_row(dirty.v, p.dv, 50, poison);
    const auto a = outcome(p, any_pattern(causal{}), zero)[0];
    const auto b = outcome(p, any_pattern(causal{}), dirty)[0];
    bool before = true, after = true;
    for (std::size_t i = 0; i < a.size(); ++i) {
      const bool sees = static_cast<index_t>(i) / (p.h * p.dv) >= 50;
      if (!sees) before = before && a[i].bits == b[i].bits;
      if (sees) after = after && !std::isfinite(static_cast<float>(b[i]));
    }
    CHECK(before);
    CHECK(after);
  }
}

TEST_CASE("attention 16 bits: bits depend neither on threads nor on the queries beside") {
  // Twelve heads: a query alone reads keys where they stand.
  const problem p{.n = 150, .m = 150, .h = 12, .hk = 1, .d = 40, .dv = 32};
  const data x = draw<bf16>(p, "threads");
  const any_pattern pattern(causal{});
  CHECK(same(outcome(p, pattern, x), outcome(p, pattern, x, 2)));
  const auto all = outcome(p, pattern, x)[0];
  for (index_t i : {0, 1, 63, 64, 100, 149}) {
    // Query i alone, with the keys up to itself.
    problem one = p;
    one.n = 1, one.m = i + 1;
    const auto part = [](const std::vector<double>& from, index_t first, index_t count) {
      return std::vector<double>(from.begin() + first, from.begin() + first + count);
    };
    const data alone{part(x.q, i * p.h * p.d, p.h * p.d), part(x.k, 0, one.m * p.d),
                     part(x.v, 0, one.m * p.dv), part(x.g, i * p.h * p.dv, p.h * p.dv)};
    const auto got = outcome(one, pattern, alone, 2)[0];
    bool equal = true;
    for (std::size_t c = 0; c < got.size(); ++c) {
      equal = equal && got[c].bits == all[static_cast<std::size_t>(i * p.h * p.dv) + c].bits;
    }
    CHECK(equal);
  }
}

TEST_CASE("attention 16 bits: types may differ") {
  const problem p{.n = 70, .m = 70, .h = 2, .hk = 1, .d = 16, .dv = 20};
  const data x = draw<bf16>(p, "types");
  const auto spec = spec_of(p, any_pattern(causal{}));
  const cpu b;
  array<float> q(x.q, p.n, p.h, p.d), k(x.k, p.m, p.hk, p.d), v(x.v, p.m, p.hk, p.dv);
  array<bf16> k16(x.k, p.m, p.hk, p.d), v16(x.v, p.m, p.hk, p.dv);
  array<float> o(p.n, p.h, p.dv), mixed(p.n, p.h, p.dv);
  ops::attention(b, attention_inputs{q.get(), k.get(), v.get()}, attention_outputs{o.get()}, spec);
  ops::attention(b, attention_inputs{q.get(), k16.get(), v16.get()}, attention_outputs{mixed.get()},
                 spec);
  CHECK(support::same_bits(o.values(), mixed.values()));
}
