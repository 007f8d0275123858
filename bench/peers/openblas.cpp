// SPDX-License-Identifier: Apache-2.0
// OpenBLAS: sgemm, and sgemv for one row. It has no order of its own for weights that outlives a
// call.
#include "module.hpp"

#include <cblas.h>

namespace peers {
namespace {

struct linear {
  linear_task t;
  int threads;
  std::vector<float> weights, y;

  linear(const linear_task& task, int n)
      : t(task),
        threads(n),
        weights(repeated(t.w, t.n * t.k, t.copies())),
        y(static_cast<std::size_t>(t.m * t.n)) {}
  void run(index_t call) {
    openblas_set_num_threads(threads);
    const auto m = static_cast<int>(t.m), n = static_cast<int>(t.n), k = static_cast<int>(t.k);
    const float* const w = copy_of(weights, t.n * t.k, call);
    if (m == 1) {
      cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1, w, k, t.x, 1, 0, y.data(), 1);
    } else {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, t.x, k, w, k, 0, y.data(),
                  n);
    }
  }
  const float* result() { return y.data(); }
};

struct product {
  product_task t;
  int threads;
  std::vector<float> c;

  product(const product_task& task, int n)
      : t(task), threads(n), c(static_cast<std::size_t>(t.m * t.n)) {}
  void run(index_t) {
    openblas_set_num_threads(threads);
    const auto m = static_cast<int>(t.m), n = static_cast<int>(t.n), k = static_cast<int>(t.k);
    cblas_sgemm(CblasRowMajor, t.a_turned ? CblasTrans : CblasNoTrans,
                t.b_turned ? CblasTrans : CblasNoTrans, m, n, k, 1, t.a, t.a_turned ? m : k, t.b,
                t.b_turned ? k : n, 0, c.data(), n);
  }
  const float* result() { return c.data(); }
};

class openblas_library : public library {
 public:
  std::string name() const override { return "OpenBLAS"; }
  std::string version() const override {
    return std::string(openblas_get_config()) + ", kernels of " + openblas_get_corename();
  }
  ways offer(const linear_task& t, int n) override {
    if (t.type != element::f32) return {};
    return {way_of<linear>(t.m == 1 ? "sgemv" : "sgemm", t, n)};
  }
  ways offer(const product_task& t, int n) override { return {way_of<product>("sgemm", t, n)}; }
};

}  // namespace
}  // namespace peers

DEEPSEEK_PEER(peers::openblas_library)
