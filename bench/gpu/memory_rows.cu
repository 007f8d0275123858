// SPDX-License-Identifier: Apache-2.0
// Kernels that memory limits: copy, softmax, rms_norm, SwiGLU.
#include "timing.cuh"

namespace bench {

void memory_rows(const ds::cuda& b, timer& t) {
  {
    const index_t n = index_t{1} << 30;
    const auto x = normal<vec<bf16>>(b, {n}, 1);
    vec<bf16> y({n});
    t.row("copy", "2^30 bf16", {0, 4.0 * static_cast<double>(n)}, [&] { ds::ops::copy(b, x, y); });
  }
  constexpr index_t sizes[][2] = {{16384, 4096}, {8192, 7168}, {4096, 16384}, {2048, 131072}};
  for (const auto& [rows, dim] : sizes) {
    const std::string shape = std::to_string(rows) + "x" + std::to_string(dim) + " bf16";
    const double elements = static_cast<double>(rows * dim);
    const auto x = normal<matrix<bf16>>(b, {rows, dim}, 1);
    const auto w = normal<vec<bf16>>(b, {dim}, 2);
    matrix<bf16> y({rows, dim});
    t.row("softmax", shape, {0, 4 * elements}, [&] { ds::ops::softmax(b, x, y); });
    t.row("rms_norm", shape, {0, 4 * elements}, [&] { ds::ops::rms_norm(b, x, w, y, 1e-6); });
    const index_t half = dim / 2;
    using columns_view = ds::view<const bf16, ds::device, ds::dyn, ds::dyn>;
    const columns_view gate(x.data(), {rows, half}, {dim, 1});
    const columns_view up(x.data() + half, {rows, half}, {dim, 1});
    const ds::view<bf16, ds::device, ds::dyn, ds::dyn> to(y.data(), {rows, half});
    t.row("silu_mul", shape, {0, 3 * elements}, [&] { ds::ops::swiglu(b, gate, up, to); });
  }
}

}  // namespace bench
