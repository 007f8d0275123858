// SPDX-License-Identifier: Apache-2.0
// quant_gemm on the reference (f64 f32 bf16 f16) and on the cpu (f32, other types by falling back)
// with 1, 2, 3 threads: every element equals the oracle's integers.
#include "ops/quant_gemm_case.hpp"

#include <doctest/doctest.h>

using namespace quant_test;

namespace {

template <class T, class B>
void run(const B& b, const char* type, std::size_t at_most) {
  for (const setting& c : settings(at_most)) {
    const std::string name = c.text(type);
    if (!support::selected(name)) continue;
    const std::string problem = problem_of<T>(b, c, name);
    support::expect_true("quant_gemm", name, problem.empty(), problem);
  }
}

}  // namespace

TEST_CASE("reference") {
  const ds::reference b;
  run<float>(b, "f32", 0);
  run<double>(b, "f64", 60);
  run<ds::bf16>(b, "bf16", 60);
  run<ds::f16>(b, "f16", 60);
  support::facet("quant_gemm", "forward");
  support::facet("quant_gemm", "strides");
  support::facet("quant_gemm", "zero");
  support::not_applicable("quant_gemm", "gradient");
}

TEST_CASE("cpu") {
  for (int threads : {1, 2, 3}) {
    ds::cpu b{{.threads = threads}};
    b.workspace().fill_with(static_cast<unsigned char>(0xff));
    run<float>(b, "f32", 0);
  }
}

TEST_CASE("cpu: sizes that are cut into several tasks") {
  ds::cpu b{{.threads = 3}};
  for (shape s : {shape{70, 300, 200}, {200, 96, 130}, {1, 1000, 400}}) {
    for (int range : {0, 1, 2}) {
      const setting c{s,
                      static_cast<ds::activation_range>(range),
                      layout::padded,
                      layout::padded,
                      biased::yes,
                      support::values::normal};
      const std::string name = c.text("f32"), problem = problem_of<float>(b, c, name);
      support::expect_true("quant_gemm", name, problem.empty(), problem);
    }
  }
}
