// SPDX-License-Identifier: Apache-2.0
// attention on the reference backend against the oracle in all element types, and the classes of
// values; 16-bit types on the cpu take the reference loops.
#include "ops/attention_case.hpp"

#include "deepseek/pattern/band.hpp"

using namespace attention_test;

namespace {

const problem small[] = {
    {.n = 1, .m = 1, .h = 1, .hk = 1, .d = 1, .dv = 1},
    {.n = 3, .m = 5, .h = 2, .hk = 1, .d = 4, .dv = 3},
    {.n = 5, .m = 3, .h = 2, .hk = 2, .d = 8, .dv = 8},
    {.n = 1, .m = 70, .h = 4, .hk = 2, .d = 16, .dv = 5},
    {.n = 17, .m = 17, .h = 3, .hk = 1, .d = 7, .dv = 16, .scale = 0.7},
    {.n = 33, .m = 65, .h = 2, .hk = 2, .d = 32, .dv = 32},
};

template <class T, class B>
void sweep(const B& b, const std::string& where) {
  for (const problem& p : small) {
    for (layout how : layouts) {
      const std::string name = case_name(p, where + " " + to_string(how));
      run<T>(b, p, everyone{}, all_rule(), name + " everyone", wanted::forward, how);
      run<T>(b, p, causal{}, causal_rule(), name + " causal", wanted::forward, how);
    }
  }
}

}  // namespace

TEST_CASE("attention: reference") {
  const reference b;
  sweep<double>(b, "reference f64");
  sweep<float>(b, "reference f32");
  sweep<bf16>(b, "reference bf16");
  sweep<f16>(b, "reference f16");
}

TEST_CASE("attention: 16-bit types on the cpu") {
  const cpu b({.threads = 2});
  sweep<bf16>(b, "cpu bf16");
}

TEST_CASE("attention: classes of values") {
  using support::values;
  const cpu b;
  for (values kind : {values::positive, values::integer, values::wide, values::tiny,
                      values::all_equal, values::sparse, values::signed_zero}) {
    for (index_t n : {5, 70}) {
      problem p{.n = n, .m = 70, .h = 2, .hk = 1, .d = 16, .dv = 16};
      p.kind = kind;
      // Rounding of a score s moves its weight by |s| units: wide scores are made smaller.
      p.scale = kind == values::wide ? 1e-4 : 0;
      const std::string name = case_name(p, std::string("kind=") + support::to_string(kind));
      run<double>(b, p, causal{}, causal_rule(), name + " f64");
      run<float>(b, p, causal{}, causal_rule(), name + " f32");
    }
  }
}
