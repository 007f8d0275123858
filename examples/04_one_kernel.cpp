// SPDX-License-Identifier: Apache-2.0
// One kernel and none of the rest: ops on memory of your own, wrapped in views. A view is a
// pointer, extents and strides; it owns nothing and no data moves.
#include <deepseek/ops/attention.hpp>
#include <deepseek/ops/gemm.hpp>
#include <deepseek/pattern/band.hpp>

#include <deepseek/backend/cpu/cpu.hpp>

#include <cstdio>
#include <vector>

namespace ds = deepseek;

int main() {
  const ds::cpu cpu{{.threads = 2}};

  // c = a b^T: b is stored transposed, as weights are; the bias and the ReLU come for free.
  const float a[] = {1, 2, 3, 4, 5, 6};                       // [2, 3]
  const float b[] = {1, 0, 0, 0, 1, 0, 0, 0, 1, -1, -1, -1};  // [4, 3]
  const float bias[] = {10, 20, 30, 0};
  float c[8];
  const ds::view<const float, ds::host, 2, 3> a_view(a, {2, 3});
  const ds::view<const float, ds::host, 4, 3> b_view(b, {4, 3});
  const ds::view<const float, ds::host, 4> bias_view(bias, {4});
  ds::ops::gemm(cpu, a_view, ds::transposed(b_view), ds::view<float, ds::host, 2, 4>(c, {2, 4}),
                ds::gemm_epilogue{bias_view, ds::activation::relu});
  for (int m = 0; m < 2; ++m) {
    std::printf("gemm: %g %g %g %g\n", static_cast<double>(c[4 * m]),
                static_cast<double>(c[4 * m + 1]), static_cast<double>(c[4 * m + 2]),
                static_cast<double>(c[4 * m + 3]));
  }

  // Causal attention where q, k and v lie side by side in one buffer [tokens, 3, heads, d]: three
  // views with strides. Sizes known at run time only are `dyn`.
  constexpr ds::index_t tokens = 6, heads = 2, d = 4, row = 3 * heads * d;
  std::vector<float> qkv(tokens * row), o(tokens * heads * d), lse(tokens * heads);
  for (std::size_t i = 0; i < qkv.size(); ++i) qkv[i] = static_cast<float>(i % 7) - 3;
  using heads_view = ds::view<const float, ds::host, ds::dyn, ds::dyn, ds::dyn>;
  const auto part = [&](ds::index_t i) {
    return heads_view(qkv.data() + i * heads * d, {tokens, heads, d}, {row, d, 1});
  };
  const ds::view<float, ds::host, ds::dyn, ds::dyn, ds::dyn> out(o.data(), {tokens, heads, d});
  const ds::view<float, ds::host, ds::dyn, ds::dyn> sums(lse.data(), {tokens, heads});
  ds::ops::attention(cpu, ds::attention_inputs{part(0), part(1), part(2)},
                     ds::attention_outputs{out, sums}, ds::attention_spec<ds::causal>{});

  // The first token sees only itself: its output is its value, its log-sum-exp its own score.
  std::printf("attention: %g %g %g %g\n", static_cast<double>(out(0, 0, 0)),
              static_cast<double>(out(0, 0, 1)), static_cast<double>(out(0, 0, 2)),
              static_cast<double>(out(0, 0, 3)));
  std::printf("value:     %g %g %g %g\n", static_cast<double>(part(2)(0, 0, 0)),
              static_cast<double>(part(2)(0, 0, 1)), static_cast<double>(part(2)(0, 0, 2)),
              static_cast<double>(part(2)(0, 0, 3)));
  double score = 0;
  for (int i = 0; i < d; ++i) score += static_cast<double>(part(0)(0, 0, i) * part(1)(0, 0, i));
  std::printf("log-sum-exp %g, score %g\n", static_cast<double>(sums(0, 0)), score / 2);
}
