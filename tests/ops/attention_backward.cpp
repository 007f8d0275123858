// SPDX-License-Identifier: Apache-2.0
// attention backward: gradients in double against 4-point differences, cpu float against the
// oracle, strides, heads that share keys, and the two ways in which the cpu deals out its tasks.
#include "ops/attention_case.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"

using namespace attention_test;

namespace {

// The loss is sum w o; x is one of the three inputs.
template <class B, class P>
void differences(const B& b, const problem& p, const P& pattern, const std::string& name) {
  data x = draw<double>(p, name);
  x.g = support::loss_weights(x.g.size());
  arrays<double> a(p, x);
  a.forward(b, spec_of(p, pattern));
  a.backward(b, spec_of(p, pattern));
  const auto check = [&](array<double>& moved, const std::vector<double>& at,
                         array<double>& gradient, const char* what) {
    const auto loss = [&](const std::vector<double>& values) {
      moved.set(values);
      a.forward(b, spec_of(p, pattern));
      return support::weighted_sum(x.g, a.o.values());
    };
    support::expect_gradient("attention_backward", name + " " + what,
                             support::check_gradient(loss, at, gradient.values()));
    moved.set(at);
  };
  check(a.q, x.q, a.dq, "dq");
  check(a.k, x.k, a.dk, "dk");
  check(a.v, x.v, a.dv, "dv");
}

}  // namespace

TEST_CASE("attention backward: 4-point differences in double") {
  const problem shapes[] = {
      {.n = 4, .m = 4, .h = 2, .hk = 2, .d = 4, .dv = 4},
      {.n = 5, .m = 7, .h = 4, .hk = 2, .d = 3, .dv = 5},
      {.n = 7, .m = 4, .h = 2, .hk = 1, .d = 5, .dv = 2, .scale = 0.3},
      {.n = 6, .m = 6, .h = 1, .hk = 1, .d = 9, .dv = 3},
  };
  for (const problem& p : shapes) {
    differences(cpu(), p, causal{}, case_name(p, "cpu causal"));
    differences(cpu(), p, local<1>{}, case_name(p, "cpu local"));
    differences(reference(), p, everyone{}, case_name(p, "reference everyone"));
    differences(reference(), p, both<causal, local<2>>{}, case_name(p, "reference both"));
  }
  support::facet("attention", "gradient");
}

TEST_CASE("attention backward: against the oracle") {
  constexpr index_t lengths[] = {1, 5, 12, 13, 63, 64, 65, 97, 130};
  constexpr index_t widths[] = {1, 8, 16, 17, 33, 64};
  constexpr index_t heads[][2] = {{1, 1}, {2, 2}, {4, 2}, {5, 1}};
  const cpu one({.threads = 1}), three({.threads = 3});
  int done = 0;
  for (const auto& row : support::pairwise({9, 9, 6, 6, 4, 4}, 70)) {
    problem p;
    p.n = lengths[row[0]], p.m = lengths[row[1]], p.d = widths[row[2]], p.dv = widths[row[3]];
    p.h = heads[row[4]][0], p.hk = heads[row[4]][1];
    const layout how = layouts[row[5]];
    const std::string name = case_name(p, to_string(how));
    if (++done % 3 == 0) {
      run<float>(one, p, everyone{}, all_rule(), name + " f32", wanted::gradients, how);
    } else if (done % 3 == 1) {
      run<float>(three, p, causal{}, causal_rule(), name + " f32", wanted::gradients, how);
    } else {
      run<double>(one, p, causal{}, causal_rule(), name + " f64", wanted::gradients, how);
    }
  }
  support::facet("attention_backward", "forward");
  support::facet("attention_backward", "strides");
}

TEST_CASE("attention backward: 16-bit types on the reference backend") {
  const problem p{.n = 20, .m = 24, .h = 4, .hk = 2, .d = 16, .dv = 8};
  run<bf16>(reference(), p, causal{}, causal_rule(), case_name(p, "bf16"), wanted::gradients);
  run<f16>(reference(), p, causal{}, causal_rule(), case_name(p, "f16"), wanted::gradients);
}
