// SPDX-License-Identifier: Apache-2.0
// Attention on warp groups (sm_90a): the answers are the oracle's, over lengths around every tile
// edge, heads that share keys, patterns, packed sequences, pages, ranges of keys, values that are
// not finite. Simulated, the bits are those of the kernels for sm_80; on a GPU the device decides.
#include "simulation/attention_tensor_case.hpp"
#include "simulation/with_warp_groups.hpp"

#include "deepseek/pattern/any_pattern.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/random_blocks.hpp"

using namespace attention_test;
using simulation::groups;
using simulation::simulated;

namespace {

constexpr int takes[] = {0, 2};  // of tensor_widths: 64 and 128

// Both kernels, one spec; warp groups took it.
template <class T, class Spec>
void expect_same(const problem& p, const data& x, const Spec& spec, const std::string& name,
                 layout how = layout::plain) {
  const index_t before = simulation::maps_made();
  arrays<T> one(p, x, how), other(p, x, how);
  other.forward(groups(), spec);
  CHECK_MESSAGE(other.clean(), name);
  if (!simulated) return;
  one.forward(cpu(), spec);
  CHECK_MESSAGE(same(results(one, wanted::forward), results(other, wanted::forward)), name);
  CHECK(simulation::maps_made() == before + 3);
}
template <class T, class P>
void expect_both(const problem& p, const P& pattern, const rule& sees, const std::string& what,
                 layout how = layout::plain) {
  const std::string name = case_name(p, "groups " + what);
  run<T>(groups(), p, pattern, sees, name, wanted::forward, how);
  expect_same<T>(p, draw<T>(p, name), spec_of(p, pattern), name, how);
}

// Sees every third key but its own block of 20: no next_keys, no row_bits.
struct every_third {
  static bool visible(index_t q, index_t k) { return (q + k) % 3 == 0 && q / 20 != k / 20; }
  static coverage cover(const tile&) { return coverage::partial; }
};

}  // namespace

TEST_CASE("attention warp groups: causal") {
  constexpr index_t queries[] = {1, 17, 64, 129, 200}, keys[] = {1, 63, 64, 65, 130, 200};
  int done = 0;
  for (const auto& row : support::pairwise({5, 6, 2, 4})) {
    const problem p =
        tensor_problem(queries[row[0]], keys[row[1]], takes[row[2]], static_cast<int>(row[3]));
    expect_both<bf16>(p, any_pattern(causal{}), causal_rule(), "causal",
                      ++done % 2 == 0 ? layout::plain : layout::heads_first);
  }
  problem many = tensor_problem(2, 70, 0, 0);  // heads that two tiles share
  many.h = 131;
  expect_both<bf16>(many, any_pattern(causal{}), causal_rule(), "causal");
}

TEST_CASE("attention warp groups: patterns, sequences, f16") {
  const rule third = [](index_t, index_t q, index_t k, index_t) {
    return (q + k) % 3 == 0 && q / 20 != k / 20;
  };
  const rule near = [](index_t, index_t q, index_t k, index_t) {
    return q - k <= 30 && k - q <= 30;
  };
  problem p = tensor_problem(300, 300, 0, 1);
  expect_both<bf16>(p, any_pattern(everyone{}), all_rule(), "everyone");
  expect_both<bf16>(p, any_pattern(every_third{}), third, "third");
  expect_both<f16>(p, any_pattern(local<30>{}), near, "local f16");
  p.query_offsets = {0, 100, 100, 300};
  p.key_offsets = {0, 80, 90, 300};
  expect_both<bf16>(p, any_pattern(causal{}), causal_rule(), "sequences");
  // Bound to each head.
  const problem wide = tensor_problem(130, 400, 2, 3);
  const auto blocks = make_pattern<random_blocks<64, 2>>({.seed = 5, .site = 3});
  expect_same<bf16>(wide, draw<bf16>(wide, "blocks"), spec_of(wide, any_pattern(blocks)), "blocks");
}

TEST_CASE("attention warp groups: ranges of keys, a query alone, pages") {
  for (const int widths : takes) {
    const problem p = tensor_problem(40, 1100, widths, 1);
    expect_both<bf16>(p, any_pattern(causal{}), causal_rule(), "ranges");
    const data x = draw<bf16>(p, "ranges");
    arrays<bf16> whole(p, x), one(p, x);
    whole.forward(groups(), spec_of(p, any_pattern(causal{})));
    const auto all = whole.o.values();
    for (const index_t i : {0, 39}) {
      auto spec = spec_of(p, any_pattern(causal{}));
      spec.start = p.m - p.n + i;
      ops::attention(groups(), attention_inputs{rows(one.q.get(), i, 1), one.k.get(), one.v.get()},
                     attention_outputs{rows(one.o.get(), i, 1), rows(one.lse_view(), i, 1)}, spec);
      const auto got = one.o.values();
      const auto at = i * p.h * p.dv;
      CHECK(std::equal(got.begin() + at, got.begin() + at + p.h * p.dv, all.begin() + at));
    }
  }
  // Key t stands in row pages[t / 64] 64 + t mod 64.
  const std::int32_t pages[] = {3, 0, 2};
  const problem p = tensor_problem(150, 4 * 64, 0, 1);
  const data x = draw<bf16>(p, "pages");
  auto spec = spec_of(p, any_pattern(causal{}));
  spec.pages = {{pages, {3}}, 64};
  spec.keys = 150;
  expect_same<bf16>(p, x, spec, "pages");
}

TEST_CASE("attention warp groups: values that are not finite, keys that nobody sees") {
  const problem p = tensor_problem(150, 150, 2, 1);
  for (const double poison : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    data x = draw<bf16>(p, "poison");
    std::fill_n(x.v.begin() + 90 * p.hk * p.dv, p.hk * p.dv, poison);
    arrays<bf16> one(p, x), other(p, x);
    one.forward(cpu(), spec_of(p, any_pattern(causal{})));
    other.forward(groups(), spec_of(p, any_pattern(causal{})));
    const auto want = one.o.values(), got = other.o.values();
    bool right = true;
    for (std::size_t i = 0; i < want.size(); ++i) {
      const float a = want[i], b = got[i];
      const bool sees = static_cast<index_t>(i) >= 90 * p.h * p.dv;
      right = right && std::isfinite(b) != sees && (!simulated || a == b || (a != a && b != b));
    }
    CHECK(right);
  }
  problem none = tensor_problem(200, 4, 0, 1);  // 196 queries see nothing
  expect_both<bf16>(none, any_pattern(causal{}), causal_rule(), "nothing");
}
