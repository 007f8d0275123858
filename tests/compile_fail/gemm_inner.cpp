// expects: deepseek::gemm: the inner sizes of a and b differ; give linear<in, out> the
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/ops/gemm.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr int inner = 3;
#else
constexpr int inner = 4;
#endif

void run(const ds::reference& b, const ds::view<float, ds::host, 2, 3>& x,
         const ds::view<float, ds::host, inner, 5>& w, const ds::view<float, ds::host, 2, 5>& y) {
  ds::ops::gemm(b, x, w, y);
}
