// SPDX-License-Identifier: Apache-2.0
// Attention on warp groups (sm_90a), simulated: the bits are those of the kernels for sm_80, over
// lengths around every tile edge, heads that share keys, patterns, packed sequences, pages, ranges of
// keys, values that are not finite; the answers are the oracle's.
#include "simulation/attention_tensor_case.hpp"

#include "deepseek/pattern/any_pattern.hpp"
#include "deepseek/pattern/band.hpp"

using namespace attention_test;

namespace {

struct groups : cpu {
  static bool has_warp_groups() { return true; }
};
constexpr int takes[] = {0, 2};  // of tensor_widths: 64 and 128

// Both devices, the same spec.
template <class T, class Spec>
void expect_same(const problem& p, const data& x, const Spec& spec, const std::string& name,
                 layout how = layout::plain) {
  arrays<T> one(p, x, how), other(p, x, how);
  one.forward(cpu(), spec);
  other.forward(groups(), spec);
  CHECK_MESSAGE(same(results(one, wanted::forward), results(other, wanted::forward)), name);
  CHECK_MESSAGE(other.clean(), name);
}

}  // namespace

TEST_CASE("attention warp groups: causal, against the oracle and the bits of sm_80") {
  constexpr index_t queries[] = {1, 17, 64, 129, 200}, keys[] = {1, 63, 64, 65, 130, 200};
  int done = 0;
  for (const auto& row : support::pairwise({5, 6, 2, 4})) {
    const problem p = tensor_problem(queries[row[0]], keys[row[1]], takes[row[2]],
                                     static_cast<int>(row[3]));
    const layout how = ++done % 2 == 0 ? layout::plain : layout::heads_first;
    const std::string name = text(p, "groups bf16");
    run<bf16>(groups(), p, causal{}, causal_rule(), name, wanted::forward, how);
    expect_same<bf16>(p, draw<bf16>(p, name), spec_of(p, causal{}), name, how);
  }
}
