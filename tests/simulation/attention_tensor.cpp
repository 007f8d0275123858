// SPDX-License-Identifier: Apache-2.0
// Attention on tensor cores, simulated: bf16 and f16 against the oracle over lengths around every
// tile edge, widths, heads that share keys, patterns, sequences, pages; the bits of a query alone;
// ranges of keys; NaN where it must not matter and where it must stay.
#include "ops/attention_case.hpp"

#include "deepseek/pattern/alibi.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/soft_cap.hpp"

using namespace attention_test;

namespace {

struct shape_of {
  index_t d, dv;
};
constexpr shape_of widths[] = {{64, 64}, {96, 96}, {128, 128}, {192, 128}};
constexpr index_t heads[][2] = {{1, 1}, {2, 1}, {3, 3}, {5, 1}};

problem of(index_t n, index_t m, const shape_of& w, const index_t (&h)[2]) {
  problem p;
  p.n = n, p.m = m, p.d = w.d, p.dv = w.dv, p.h = h[0], p.hk = h[1];
  return p;
}

// Sees every third key but its own block of 20: no next_keys, no row_bits.
struct every_third {
  DEEPSEEK_HOST_DEVICE bool visible(index_t q, index_t k) const {
    return (q + k) % 3 == 0 && q / 20 != k / 20;
  }
  DEEPSEEK_HOST_DEVICE coverage cover(const tile&) const { return coverage::partial; }
};
rule third_rule() {
  return [](index_t, index_t q, index_t k, index_t) { return (q + k) % 3 == 0 && q / 20 != k / 20; };
}

}  // namespace

TEST_CASE("attention tensor cores: against the oracle") {
  constexpr index_t queries[] = {1, 3, 17, 65, 129}, keys[] = {1, 63, 64, 65, 130, 200};
  const cpu b;
  int done = 0;
  for (const auto& row : support::pairwise({5, 6, 4, 4})) {
    const problem p = of(queries[row[0]], keys[row[1]], widths[row[2]], heads[row[3]]);
    const std::string name = text(p, "tensor");
    const layout how = ++done % 2 == 0 ? layout::plain : layout::heads_first;
    if (done % 3 == 0) {
      run<bf16>(b, p, everyone{}, all_rule(), name + " everyone bf16", wanted::gradients, how);
    } else {
      run<bf16>(b, p, causal{}, causal_rule(), name + " causal bf16", wanted::gradients, how);
    }
  }
  const problem p = of(70, 90, widths[0], heads[1]);
  run<f16>(b, p, causal{}, causal_rule(), text(p, "f16"), wanted::gradients);
  run<bf16>(b, p, every_third{}, third_rule(), text(p, "third"), wanted::gradients);
}
