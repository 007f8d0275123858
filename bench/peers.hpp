// SPDX-License-Identifier: Apache-2.0
// Other libraries in the same process: Eigen on one thread (it is not built with OpenMP here), and
// OpenBLAS with its threads set for each call. All see the same memory, in rows.
#pragma once

#include "support/data.hpp"

#include <Eigen/Core>

#if DEEPSEEK_BENCH_OPENBLAS
#include <cblas.h>
#endif

namespace bench {

using eigen_matrix =
    Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
using eigen_array =
    Eigen::Map<Eigen::Array<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;

inline eigen_matrix as_eigen(matrix& m) {
  return {m.data(), m.extent(0), m.extent(1)};
}
inline eigen_array as_array(matrix& m) {
  return {m.data(), m.extent(0), m.extent(1)};
}
inline eigen_matrix as_eigen(const float* data, index_t rows, index_t columns) {
  return {const_cast<float*>(data), rows, columns};
}

#if DEEPSEEK_BENCH_OPENBLAS
struct blas_gemm {
  index_t m, n, k;
  float beta = 0;
};

// c[m, n] = beta c + a b^T, a[m, k] b[n, k]; one row is a product with a vector, as a caller of
// BLAS would write it.
inline void openblas_product(const blas_gemm& s, const float* a, const float* b, float* c) {
  const auto m = static_cast<int>(s.m), n = static_cast<int>(s.n), k = static_cast<int>(s.k);
  if (m == 1) {
    cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1, b, k, a, 1, s.beta, c, 1);
  } else {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, a, k, b, k, s.beta, c, n);
  }
}
#endif

}  // namespace bench
