// SPDX-License-Identifier: Apache-2.0
// gemm: y[m, n] = x[m, k] w[n, k]^T, as a linear layer does it. With few rows the weights come from
// memory: calls go through copies of them that no cache holds, as the layers of a model do. packed:
// the weights were brought into panels before (not timed). kn: the weights lie as [k, n].
#include "deepseek/ops/gemm.hpp"

#include "deepseek/backend/cpu/gemm.hpp"
#include "deepseek/backend/cpu/kernels/gemm_packed.hpp"

#include "limits.hpp"
#include "peers.hpp"
#include "shapes.hpp"
#include "support/op_case.hpp"

#include <cmath>

namespace bench {
namespace {

namespace kernels = ds::kernels;

enum class stored { nk, kn, panels };

index_t copies_of(const gemm_size& s) {
  const double bytes = 4.0 * static_cast<double>(s.n * s.k);
  return s.m <= 32 && s.n >= 1024 ? static_cast<index_t>(std::ceil(cold_bytes() / bytes)) : 1;
}

template <stored How>
struct gemm_case {
  static constexpr const char* op = "gemm";
  gemm_size s;
  index_t one, next = 0;
  matrix x, w, y;  // w [copies, elements of one]

  explicit gemm_case(const gemm_size& size)
      : s(size),
        one(How == stored::panels ? kernels::packed_size<float>(s.k, s.n) : s.n * s.k),
        x(filled<matrix>({s.m, s.k}, 1)),
        w({copies_of(s), one}),
        y({s.m, s.n}) {
    if constexpr (How == stored::panels) {
      const matrix plain = filled<matrix>({s.n, s.k}, 2);
      ds::thread_pool pool(1);
      kernels::pack_weights<float>(pool, {plain.data(), 1, s.k}, {s.m, s.n, s.k}, w.data());
    } else {
      fill(w.data(), one, 2, {});
    }
    for (index_t i = 1; i < w.extent(0); ++i) std::copy_n(w.data(), one, w.data() + i * one);
  }
  const float* weights() { return w.data() + (next = (next + 1) % w.extent(0)) * one; }

  template <class B>
  void run(const B& b) {
    if constexpr (How == stored::panels) {
      kernels::gemm_packed<float>(
          b.pool(), {{s.m, s.n, s.k}, {x.data(), s.k, 1}, weights(), {y.data(), s.n}});
    } else {
      ds::ops::gemm(b, x, weights_view(weights()), y);
    }
  }
  static ds::view<const float, ds::host, ds::dyn, ds::dyn> from(const float* p, index_t n,
                                                                index_t k) {
    if constexpr (How == stored::kn) {
      return {p, {k, n}};
    } else {
      return {p, {k, n}, {1, k}};
    }
  }
  auto weights_view(const float* p) const { return from(p, s.n, s.k); }

  work cost() const {
    const double weight_bytes = 4.0 * static_cast<double>(s.n * s.k);
    const double bytes = weight_bytes + 4.0 * static_cast<double>(s.m * (s.k + s.n));
    return {2.0 * static_cast<double>(s.m * s.n * s.k), bytes,
            bytes + weight_bytes * static_cast<double>(w.extent(0) - 1), arithmetic::f32,
            traffic::reads};
  }
  // Three rows by the reference: the others are products of the same kind.
  double error() {
    matrix plain;
    if constexpr (How == stored::panels) plain = filled<matrix>({s.n, s.k}, 2);
    const float* const p = How == stored::panels ? plain.data() : w.data();
    double worst = 0;
    for (const index_t row : {index_t{0}, s.m / 2, s.m - 1}) {
      matrix want({1, s.n});
      ds::ops::gemm(ds::reference(), rows(std::as_const(x).view(), row, 1), weights_view(p), want);
      const double terms = static_cast<double>(s.k);
      worst = std::max(worst,
                       difference({y.data() + row * s.n, nullptr, s.n, terms}, out(want, terms)));
    }
    return worst;
  }
};

// da = dc b^T and db += a^T dc of a linear layer: twice the work of gemm.
struct gemm_backward_case {
  static constexpr const char* op = "gemm_backward";
  gemm_size s;
  matrix x, w, dy, dx, dw;

  explicit gemm_backward_case(const gemm_size& size)
      : s(size),
        x(filled<matrix>({s.m, s.k}, 1)),
        w(filled<matrix>({s.n, s.k}, 2)),
        dy(filled<matrix>({s.m, s.n}, 3)),
        dx({s.m, s.k}),
        dw({s.n, s.k}) {}
  template <class B>
  void run(const B& b) {
    ds::ops::gemm_backward(b, ds::gemm_inputs{x, transposed(std::as_const(w).view())}, dy,
                           ds::gemm_gradients{dx.view(), transposed(dw.view())});
  }
  work cost() const {
    const double weights = static_cast<double>(s.n * s.k);
    const double moved = 3 * weights + static_cast<double>(s.m * (2 * s.k + s.n));
    return {4 * weights * static_cast<double>(s.m), 4 * moved};
  }
  std::vector<output> outputs() const {
    return {out(dx, static_cast<double>(s.n)), out(dw, static_cast<double>(s.m))};
  }
};

void add_peers(const gemm_size& s) {
  using plain = gemm_case<stored::nk>;
  add_peer<plain>(
      {"gemm", "eigen", "product", s.name},
      [](plain& c) {
        as_eigen(c.y).noalias() = as_eigen(c.x) * as_eigen(c.weights(), c.s.n, c.s.k).transpose();
      },
      s);
#if DEEPSEEK_BENCH_OPENBLAS
  for (const int threads : {1, 2}) {
    add_peer<plain>(
        {"gemm", "openblas", "sgemm", s.name, threads},
        [=](plain& c) {
          openblas_set_num_threads(threads);
          openblas_product({c.s.m, c.s.n, c.s.k}, c.x.data(), c.weights(), c.y.data());
        },
        s);
  }
#endif
}

}  // namespace

void add_cases() {
  for (const gemm_size& s : gemm_sizes) {
    if (s.m * s.n * s.k <= one_token.n * one_token.k) {
      add_reference<gemm_case<stored::nk>>(s.name, s);
    }
    add_cpu<gemm_case<stored::nk>>("plain", s.name, s);
    add_cpu<gemm_case<stored::panels>>("packed", s.name, s);
    add_peers(s);
  }
  add_cpu<gemm_case<stored::kn>>("plain_kn", gemm_sizes[4].name, gemm_sizes[4]);

  constexpr gemm_size training{"m512_n512_k512", 512, 512, 512};
  add_reference<gemm_backward_case>(training.name, training);
  add_cpu<gemm_backward_case>("plain", training.name, training);
  add_peer<gemm_backward_case>(
      {"gemm_backward", "eigen", "product", training.name},
      [](gemm_backward_case& c) {
        as_eigen(c.dx).noalias() = as_eigen(c.dy) * as_eigen(c.w);
        as_eigen(c.dw).noalias() += as_eigen(c.dy).transpose() * as_eigen(c.x);
      },
      training);
#if DEEPSEEK_BENCH_OPENBLAS
  for (const int threads : {1, 2}) {
    add_peer<gemm_backward_case>(
        {"gemm_backward", "openblas", "sgemm", training.name, threads},
        [=](gemm_backward_case& c) {
          openblas_set_num_threads(threads);
          const auto m = static_cast<int>(c.s.m), n = static_cast<int>(c.s.n),
                     k = static_cast<int>(c.s.k);
          cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, k, n, 1, c.dy.data(), n,
                      c.w.data(), k, 0, c.dx.data(), k);
          cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, k, m, 1, c.dy.data(), n,
                      c.x.data(), k, 1, c.dw.data(), k);
        },
        training);
  }
#endif
}

}  // namespace bench
