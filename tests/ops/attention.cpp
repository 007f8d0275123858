// SPDX-License-Identifier: Apache-2.0
// attention forward against the oracle: sizes around tile edges, every element type and layout.
#include "ops/attention_case.hpp"

#include "deepseek/pattern/band.hpp"

using namespace attention_test;

namespace {

const index_t lengths[] = {1, 2, 3, 8, 12, 13, 31, 33, 63, 64, 65, 95, 96, 97, 129, 200};
const index_t widths[] = {1, 3, 8, 16, 17, 32, 33, 64, 80};

// Pairs of lengths and widths, each with another number of heads.
template <class T, class B>
void sweep(const B& b, const std::string& where, std::size_t at_most) {
  const std::size_t n_count = std::size(lengths), w_count = std::size(widths);
  constexpr index_t heads[][2] = {{1, 1}, {4, 4}, {4, 2}, {6, 1}};
  int done = 0;
  for (const auto& row : support::pairwise({n_count, n_count, w_count, w_count, 4, 4}, at_most)) {
    problem p;
    p.n = lengths[row[0]], p.m = lengths[row[1]], p.d = widths[row[2]], p.dv = widths[row[3]];
    p.h = heads[row[4]][0], p.hk = heads[row[4]][1];
    const layout how = layouts[row[5]];
    const std::string name = case_name(p, where + " " + to_string(how));
    if (++done % 2 == 0) {
      run<T>(b, p, everyone{}, all_rule(), name + " everyone", wanted::forward, how);
    } else {
      run<T>(b, p, causal{}, causal_rule(), name + " causal", wanted::forward, how);
    }
  }
}

}  // namespace

TEST_CASE("attention: cpu float") {
  sweep<float>(cpu({.threads = 2}), "cpu f32", 0);
  support::facet("attention", "forward");
  support::facet("attention", "strides");
}

TEST_CASE("attention: cpu double") {
  sweep<double>(cpu({.threads = 2}), "cpu f64", 120);
}
