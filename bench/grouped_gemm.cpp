// SPDX-License-Identifier: Apache-2.0
// grouped_gemm: the rows of each expert times that expert's weights, [experts, n, k] as layers keep
// them; experts get different numbers of rows. Peers call one product an expert.
#include "deepseek/ops/grouped_gemm.hpp"

#include "deepseek/backend/cpu/gemm.hpp"

#include "peers.hpp"
#include "shapes.hpp"
#include "support/op_case.hpp"

#include <algorithm>

namespace bench {
namespace {

// Cuts rows at random places.
integers random_offsets(index_t experts, index_t rows) {
  integers offsets = drawn<integers>({experts + 1}, 7, static_cast<std::int32_t>(rows + 1));
  offsets.data()[0] = 0;
  offsets.data()[experts] = static_cast<std::int32_t>(rows);
  std::sort(offsets.data(), offsets.data() + experts + 1);
  return offsets;
}

struct grouped_case {
  static constexpr const char* op = "grouped_gemm";
  experts_size s;
  integers offsets;
  matrix x, y;
  cube w;

  explicit grouped_case(const experts_size& size)
      : s(size),
        offsets(random_offsets(s.experts, s.rows)),
        x(filled<matrix>({s.rows, s.k}, 1)),
        y({s.rows, s.n}),
        w(filled<cube>({s.experts, s.n, s.k}, 2)) {}
  template <class B>
  void run(const B& b) {
    ds::ops::grouped_gemm(b, x, transposed(std::as_const(w).view()), offsets, y);
  }
  // each(first row, rows, weights) of every expert that has rows
  template <class Each>
  void for_each_expert(const Each& each) const {
    for (index_t e = 0; e < s.experts; ++e) {
      const index_t first = offsets.data()[e], count = offsets.data()[e + 1] - first;
      if (count > 0) each(first, count, w.data() + e * s.n * s.k);
    }
  }
  work cost() const {
    index_t weights = 0;
    for_each_expert([&](index_t, index_t, const float*) { weights += s.n * s.k; });
    return {2.0 * static_cast<double>(s.rows * s.n * s.k),
            4.0 * static_cast<double>(weights + s.rows * (s.n + s.k)), 0, arithmetic::f32,
            traffic::reads};
  }
  std::vector<output> outputs() const { return {out(y, static_cast<double>(s.k))}; }
};

struct grouped_backward_case : grouped_case {
  static constexpr const char* op = "grouped_gemm_backward";
  matrix dy, dx;
  cube dw;

  explicit grouped_backward_case(const experts_size& size)
      : grouped_case(size),
        dy(filled<matrix>({s.rows, s.n}, 3)),
        dx({s.rows, s.k}),
        dw({s.experts, s.n, s.k}) {}
  template <class B>
  void run(const B& b) {
    ds::ops::grouped_gemm_backward(
        b, ds::grouped_gemm_inputs{x, transposed(std::as_const(w).view()), offsets}, dy,
        ds::grouped_gemm_gradients{dx, transposed(dw.view())});
  }
  work cost() const {
    work once = grouped_case::cost();
    return {2 * once.flops, 3 * once.bytes};
  }
  std::vector<output> outputs() const {
    return {out(dx, static_cast<double>(s.n)), out(dw, static_cast<double>(s.rows))};
  }
};

void eigen_products(grouped_case& c) {
  c.for_each_expert([&](index_t first, index_t count, const float* w) {
    as_eigen(c.y.data() + first * c.s.n, count, c.s.n).noalias() =
        as_eigen(c.x.data() + first * c.s.k, count, c.s.k) * as_eigen(w, c.s.n, c.s.k).transpose();
  });
}

#if DEEPSEEK_BENCH_OPENBLAS
void openblas_products(grouped_case& c, int threads) {
  openblas_set_num_threads(threads);
  c.for_each_expert([&](index_t first, index_t count, const float* w) {
    openblas_product({count, c.s.n, c.s.k}, c.x.data() + first * c.s.k, w,
                     c.y.data() + first * c.s.n);
  });
}
#endif

}  // namespace

void add_cases() {
  add_reference<grouped_case>(experts_sizes[0].name, experts_sizes[0]);
  for (const experts_size& s : experts_sizes) {
    add_cpu<grouped_case>("plain", s.name, s);
    add_peer<grouped_case>({"grouped_gemm", "eigen", "product", s.name}, eigen_products, s);
#if DEEPSEEK_BENCH_OPENBLAS
    for (const int threads : {1, 2}) {
      add_peer<grouped_case>(
          {"grouped_gemm", "openblas", "sgemm", s.name, threads},
          [=](grouped_case& c) { openblas_products(c, threads); }, s);
    }
#endif
    add_cpu<grouped_backward_case>("plain", s.name, s);
  }
}

}  // namespace bench
