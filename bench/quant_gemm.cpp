// SPDX-License-Identifier: Apache-2.0
// quant_gemm: y = x w^T with w in int8 and x made int8 in the call: the range of x was observed
// before (static) or is found for each row (per_token). The limit is that of int8 dot products.
#include "deepseek/ops/quant_gemm.hpp"

#include "deepseek/backend/cpu/quant_gemm.hpp"
#include "deepseek/quant/int8_weight.hpp"

#include "limits.hpp"
#include "shapes.hpp"
#include "support/op_case.hpp"

#include <cmath>

namespace bench {
namespace {

// N and K of every gemm size whose weights are too large for the nearest caches but one.
inline constexpr index_t n = one_token.n, k = one_token.k;

template <class Format>
struct quant_case {
  static constexpr const char* op = "quant_gemm";
  using weight = typename Format::template weight<float, ds::host, n, k>;
  index_t m, next = 0;
  matrix x, y;
  std::vector<weight> weights;

  explicit quant_case(const gemm_size& s)
      : m(s.m), x(filled<matrix>({m, k}, 1)), y({m, n}), weights(1) {
    const ds::tensor<float, ds::host, n, k> plain =
        filled<ds::tensor<float, ds::host, n, k>>({n, k}, 2);
    ds::observed_range seen;
    ds::observe_range(x.view(), seen);
    ds::make_weight(Format{}, plain, seen, weights[0]);
    const double copies = m <= 32 ? std::ceil(cold_bytes() / static_cast<double>(n * k)) : 1;
    weights.resize(static_cast<std::size_t>(copies), weights[0]);
  }
  template <class B>
  void run(const B& b) {
    next = (next + 1) % static_cast<index_t>(weights.size());
    ds::ops::quant_gemm(b, x, weights[static_cast<std::size_t>(next)].operand(), y);
  }
  work cost() const {
    const double bytes = static_cast<double>(n * k + 4 * m * (n + k));
    return {2.0 * static_cast<double>(m * n * k), bytes,
            bytes + static_cast<double>(n * k) * static_cast<double>(weights.size() - 1),
            arithmetic::int8, traffic::reads};
  }
  double error() {
    double worst = 0;
    for (const index_t row : {index_t{0}, m / 2, m - 1}) {
      matrix want({1, n});
      ds::ops::quant_gemm(ds::reference(), rows(std::as_const(x).view(), row, 1),
                          weights[0].operand(), want);
      worst = std::max(worst, difference({y.data() + row * n, nullptr, n, 1}, out(want)));
    }
    return worst;
  }
};

}  // namespace

void add_cases() {
  for (const gemm_size& s : gemm_sizes) {
    if (s.n != n || s.k != k) continue;
    if (s.m == 1) add_reference<quant_case<ds::w8a8>>(s.name, s);
    add_cpu<quant_case<ds::w8a8>>("static", s.name, s);
    add_cpu<quant_case<ds::w8a8_per_token>>("per_token", s.name, s);
  }
}

}  // namespace bench
