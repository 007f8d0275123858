// SPDX-License-Identifier: Apache-2.0
// y = x w^T with x, w and y in bf16 or f16: weights as a layer holds them (plain) and in panels
// that were made before (packed). The limit of bf16 is that of its dot products, that of f16 float
// multiply-adds. Few rows go through weights that no cache holds.
#include "deepseek/ops/weight_gemm.hpp"

#include "deepseek/backend/cpu/weight_gemm.hpp"

#include "limits.hpp"
#include "shapes.hpp"
#include "support/op_case.hpp"

#include <cmath>
#include <utility>

namespace bench {
namespace {

inline constexpr index_t n = one_token.n, k = one_token.k;

template <class T, class Format>
struct narrow_case {
  static constexpr const char* op = "narrow_gemm";
  using weight = typename Format::template weight<T, ds::host, n, k>;
  using rows_of = ds::tensor<T, ds::host, ds::dyn, ds::dyn>;
  index_t m, next = 0;
  rows_of x, y;
  std::vector<weight> weights;

  explicit narrow_case(const gemm_size& s) : m(s.m), x({m, k}), y({m, n}), weights(1) {
    const matrix from = filled<matrix>({m, k}, 1), plain = filled<matrix>({n, k}, 2);
    for (index_t i = 0; i < x.size(); ++i) x.data()[i] = T(from.data()[i]);
    ds::make_weight(Format{}, narrowed(plain), {}, weights[0]);
    const double copies = m <= 32 ? std::ceil(cold_bytes() / (2.0 * n * k)) : 1;
    weights.reserve(static_cast<std::size_t>(copies));
    while (static_cast<double>(weights.size()) < copies) weights.push_back(weight(weights[0]));
  }
  static ds::tensor<T, ds::host, n, k> narrowed(const matrix& from) {
    ds::tensor<T, ds::host, n, k> to;
    for (index_t i = 0; i < to.size(); ++i) to.data()[i] = T(from.data()[i]);
    return to;
  }
  template <class B, class X, class Y>
  static void multiply(const B& b, const X& from, const weight& w, Y&& to) {
    if constexpr (ds::is_tensor<weight>) {
      ds::ops::gemm(b, from, transposed(w.view()), to);
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
    const double weight_bytes = 2.0 * n * k,
                 bytes = weight_bytes + 2.0 * static_cast<double>(m * (n + k));
    return {2.0 * static_cast<double>(m * n * k), bytes,
            bytes + weight_bytes * static_cast<double>(weights.size() - 1),
            std::is_same_v<T, ds::bf16> ? arithmetic::bf16 : arithmetic::f32, traffic::reads};
  }
  // Three rows by the reference in float; y was rounded to T after so many terms.
  double error() {
    const double terms = std::is_same_v<T, ds::bf16> ? 0x1p24 : 0x1p18;
    double worst = 0;
    for (const index_t row : {index_t{0}, m / 2, m - 1}) {
      matrix want({1, n}), got({1, n});
      multiply(ds::reference(), rows(std::as_const(x).view(), row, 1), weights[0], want);
      for (index_t i = 0; i < n; ++i) got.data()[i] = static_cast<float>(y.data()[row * n + i]);
      worst = std::max(worst, difference(out(got, terms), out(want, terms)));
    }
    return worst;
  }
};

}  // namespace

void add_cases() {
  for (const gemm_size& s : gemm_sizes) {
    if (s.n != n || s.k != k) continue;
    add_cpu<narrow_case<ds::bf16, ds::plain>>("bf16_plain", s.name, s);
    add_cpu<narrow_case<ds::bf16, ds::packed<ds::cpu>>>("bf16_packed", s.name, s);
    add_cpu<narrow_case<ds::f16, ds::plain>>("f16_plain", s.name, s);
    add_cpu<narrow_case<ds::f16, ds::packed<ds::cpu>>>("f16_packed", s.name, s);
  }
}

}  // namespace bench
