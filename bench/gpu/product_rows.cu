// SPDX-License-Identifier: Apache-2.0
// Dense products in bf16.
#include "timing.cuh"

namespace bench {

void product_rows(const ds::cuda& b, timer& t) {
  constexpr index_t sizes[][3] = {{8192, 8192, 8192}, {4096, 4096, 4096},  {4096, 7168, 16384},
                                  {4096, 4096, 7168}, {4096, 24576, 1536}, {128, 7168, 16384},
                                  {64, 4096, 7168},   {1, 8192, 8192}};
  for (const auto& [m, n, k] : sizes) {
    const auto a = normal<matrix<bf16>>(b, {m, k}, 1), w = normal<matrix<bf16>>(b, {n, k}, 2);
    matrix<bf16> c({m, n});
    const double mn = static_cast<double>(m * n), kd = static_cast<double>(k);
    const double bytes = 2 * (static_cast<double>((m + n) * k) + mn);
    t.row("gemm_bf16", std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k),
          {2 * mn * kd, bytes}, [&] { ds::ops::gemm(b, a, transposed(w.view()), c); });
  }
}

}  // namespace bench
