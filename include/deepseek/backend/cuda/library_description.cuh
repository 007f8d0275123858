// SPDX-License-Identifier: Apache-2.0
// What cuBLASLt is told of one product: types, layouts, scales. It is column-major, so c = a b is
// asked as c^T = b^T a^T: its first factor is b, its second a. Products of 8-bit codes it takes
// only where both factors lie along k, and says so by offering no algorithm.
#pragma once

#include "deepseek/backend/cuda/error.cuh"
#include "deepseek/backend/cuda/product.hpp"

#include <cublasLt.h>

#include <optional>

namespace deepseek {

enum class float_products { f32, tf32 };  // how products of floats are computed
// Products of e4m3 codes: with sums in float, by our kernels; or by the library's tensor cores,
// whose sums of 128 products keep about 14 bits on compute capability 9.0 (docs/cuda.md).
enum class fp8_products { f32, tensor_cores };

inline void require_library(cublasStatus_t status, const library_product& p) {
  require(status == CUBLAS_STATUS_SUCCESS, error_code::device, "cuda: cuBLASLt: product of a[", p.m,
          ", ", p.k, "] by b[", p.k, ", ", p.n, "], ", p.batches, " times, in ", to_string(p.type),
          ": ", cublasLtGetStatusString(status));
}

struct library_types {
  cudaDataType_t factors, result, scale;  // scale: of alpha and beta
  cublasComputeType_t compute;
};

inline std::optional<library_types> library_types_of(const library_product& p, float_products how) {
  const auto result = [&]() -> std::optional<cudaDataType_t> {
    switch (p.result) {
      case dtype::f64:
        return CUDA_R_64F;
      case dtype::f32:
        return CUDA_R_32F;
      case dtype::bf16:
        return CUDA_R_16BF;
      case dtype::f16:
        return CUDA_R_16F;
      case dtype::i32:
        return CUDA_R_32I;
      default:
        return std::nullopt;
    }
  }();
  if (!result) return std::nullopt;
  if (p.type == dtype::i8 && p.result == dtype::i32) {
    return library_types{CUDA_R_8I, CUDA_R_32I, CUDA_R_32I, CUBLAS_COMPUTE_32I};
  }
  if (p.type == dtype::f8_e4m3 && p.result != dtype::f64 && p.result != dtype::i32) {
    return library_types{CUDA_R_8F_E4M3, *result, CUDA_R_32F, CUBLAS_COMPUTE_32F};
  }
  if (p.type != p.result || p.type == dtype::i32) return std::nullopt;
  if (p.type == dtype::f64) {
    return library_types{*result, *result, CUDA_R_64F, CUBLAS_COMPUTE_64F};
  }
  const bool tf32 = p.type == dtype::f32 && how == float_products::tf32;
  return library_types{*result, *result, CUDA_R_32F,
                       tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F};
}

inline cublasLtMatmulMatrixScale_t library_mode(library_scales how) {
  switch (how) {
    case library_scales::outer:
      return CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    case library_scales::line_128:
      return CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
    case library_scales::block_128:
      return CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F;
    case library_scales::none:
    case library_scales::tensor:
      break;
  }
  return CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
}

// The descriptors of one product, freed at the end.
struct library_description {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;

  library_description(const library_types& t, const library_product& p) {
    require_library(cublasLtMatmulDescCreate(&operation, t.compute, t.scale), p);
    // Row-major and stored as is: the library sees its transpose, which is what c^T asks for.
    set_transpose(CUBLASLT_MATMUL_DESC_TRANSA, p.b.transposed, p);
    set_transpose(CUBLASLT_MATMUL_DESC_TRANSB, p.a.transposed, p);
    if (p.type == dtype::f8_e4m3) {
      set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, std::int8_t{0}, p);
      set_scales(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, p.b, p);
      set_scales(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, p.a, p);
    }
    b = layout(t.factors, p.b, p.k, p.n, p);
    a = layout(t.factors, p.a, p.m, p.k, p);
    c = layout(t.result, p.c, p.m, p.n, p);
  }
  library_description(const library_description&) = delete;
  library_description& operator=(const library_description&) = delete;
  ~library_description() {
    for (auto m : {a, b, c}) {
      if (m != nullptr) (void)cublasLtMatrixLayoutDestroy(m);
    }
    if (operation != nullptr) (void)cublasLtMatmulDescDestroy(operation);
  }

 private:
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t which, const Value& value, const library_product& p) {
    require_library(cublasLtMatmulDescSetAttribute(operation, which, &value, sizeof value), p);
  }
  void set_transpose(cublasLtMatmulDescAttributes_t which, bool transposed,
                     const library_product& p) {
    set(which, transposed ? CUBLAS_OP_T : CUBLAS_OP_N, p);
  }
  void set_scales(cublasLtMatmulDescAttributes_t mode, cublasLtMatmulDescAttributes_t pointer,
                  const library_matrix& m, const library_product& p) {
    if (m.scales == library_scales::none) return;
    set(mode, library_mode(m.scales), p);
    set(pointer, m.scale, p);
  }
  // Of a matrix [rows, columns] stored by rows (by columns where transposed).
  static cublasLtMatrixLayout_t layout(cudaDataType_t type, const library_matrix& m, index_t rows,
                                       index_t columns, const library_product& p) {
    const auto length = static_cast<std::uint64_t>(m.transposed ? rows : columns);
    const auto count = static_cast<std::uint64_t>(m.transposed ? columns : rows);
    cublasLtMatrixLayout_t made = nullptr;
    require_library(cublasLtMatrixLayoutCreate(&made, type, length, count, m.leading), p);
    const auto batches = static_cast<std::int32_t>(p.batches);
    const std::int64_t step = m.batch;
    require_library(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                     &batches, sizeof batches),
                    p);
    require_library(cublasLtMatrixLayoutSetAttribute(
                        made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step),
                    p);
    return made;
  }
};

}  // namespace deepseek
