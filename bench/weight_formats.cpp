// SPDX-License-Identifier: Apache-2.0
// y = x w^T for float x and weights in packed floats, bf16, fp8 blocks, int8 channels, int4
// groups and mxfp4; fp8_activations: x becomes e4m3 in the call, int4_activations: signed bytes.
// Few rows are limited by the stored bytes of w, many by float multiply-adds, with rows of bytes by
// byte products.
#include "deepseek/ops/fp8_gemm.hpp"
#include "deepseek/ops/int4_int8_gemm.hpp"
#include "deepseek/ops/weight_gemm.hpp"

#include "deepseek/backend/cpu/fp8_gemm.hpp"
#include "deepseek/backend/cpu/int4_int8_gemm.hpp"
#include "deepseek/backend/cpu/mixed_gemm.hpp"
#include "deepseek/backend/cpu/weight_gemm.hpp"

#include "limits.hpp"
#include "shapes.hpp"
#include "support/op_case.hpp"

#include <cmath>

namespace bench {
namespace {

inline constexpr index_t n = one_token.n, k = one_token.k;

template <class Format>
struct format_case {
  static constexpr const char* op = "weight_formats";
  using weight = typename Format::template weight<float, ds::host, n, k>;
  static constexpr bool rows_are_bytes = std::is_same_v<Format, ds::int4_activations<32>>;
  index_t m, next = 0;
  double stored = 0;
  matrix x, y;
  std::vector<weight> weights;

  explicit format_case(const gemm_size& s)
      : m(s.m), x(filled<matrix>({m, k}, 1)), y({m, n}), weights(1) {
    ds::make_weight(Format{}, filled<ds::tensor<float, ds::host, n, k>>({n, k}, 2), {}, weights[0]);
    ds::visit(
        [&](const ds::tensor_name&, const auto& t) {
          stored += static_cast<double>(static_cast<std::size_t>(t.size()) * sizeof(t.data()[0]));
        },
        weights[0]);
    const double copies = m <= 32 ? std::ceil(cold_bytes() / stored) : 1;
    weights.reserve(static_cast<std::size_t>(copies));
    while (static_cast<double>(weights.size()) < copies) weights.push_back(weight(weights[0]));
  }
  template <class B, class X, class Y>
  static void multiply(const B& b, const X& from, const weight& w, Y&& to) {
    if constexpr (ds::is_tensor<weight>) {
      ds::ops::gemm(b, from, transposed(w.view()), to);
    } else if constexpr (std::is_same_v<Format, ds::fp8_activations>) {
      ds::ops::fp8_gemm(b, from, w.operand(), to);
    } else if constexpr (rows_are_bytes) {
      ds::ops::int4_int8_gemm(b, from, w.operand(), to);
    } else {
      ds::ops::weight_gemm(b, from, w.operand(), to);
    }
  }
  template <class B>
  void run(const B& b) {
    next = (next + 1) % static_cast<index_t>(weights.size());
    multiply(b, x, weights[static_cast<std::size_t>(next)], y);
  }
  work cost() const {
    const double bytes = stored + static_cast<double>(4 * m * (n + k));
    return {2.0 * static_cast<double>(m * n * k), bytes,
            bytes + stored * static_cast<double>(weights.size() - 1),
            rows_are_bytes ? arithmetic::int8 : arithmetic::f32, traffic::reads};
  }
  double error() {
    double worst = 0;
    for (const index_t row : {index_t{0}, m / 2, m - 1}) {
      matrix want({1, n});
      multiply(ds::reference(), rows(std::as_const(x).view(), row, 1), weights[0], want);
      worst = std::max(worst, difference({y.data() + row * n, nullptr, n, 1}, out(want)));
    }
    return worst;
  }
};

}  // namespace

void add_cases() {
  for (const gemm_size& s : gemm_sizes) {
    if (s.n != n || s.k != k) continue;
    add_cpu<format_case<ds::packed<ds::cpu>>>("packed", s.name, s);
    add_cpu<format_case<ds::bf16_weights>>("bf16", s.name, s);
    add_cpu<format_case<ds::fp8_blocks>>("fp8_blocks", s.name, s);
    add_cpu<format_case<ds::fp8_activations>>("fp8_activations", s.name, s);
    add_cpu<format_case<ds::int8_channels>>("int8_channels", s.name, s);
    add_cpu<format_case<ds::int4_groups<32>>>("int4_groups", s.name, s);
    add_cpu<format_case<ds::int4_symmetric<32>>>("int4_symmetric", s.name, s);
    add_cpu<format_case<ds::int4_activations<32>>>("int4_activations", s.name, s);
    add_cpu<format_case<ds::mxfp4>>("mxfp4", s.name, s);
  }
}

}  // namespace bench
