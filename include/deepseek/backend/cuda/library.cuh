// SPDX-License-Identifier: Apache-2.0
// Dense products by cuBLASLt: float (optionally through tf32), double, f16, bf16; sums in float
// (double for double). cuBLASLt is column-major, so c = a b is asked as c^T = b^T a^T. The chosen
// algorithm of each shape is kept; the workspace is one block of the context.
#pragma once

#include "deepseek/backend/cuda/error.cuh"
#include "deepseek/backend/cuda/product.hpp"
#include "deepseek/core/tensor.hpp"

#include <cublasLt.h>

#include <map>
#include <tuple>

namespace deepseek {

enum class float_products { f32, tf32 };  // how products of floats are computed

inline void require_library(cublasStatus_t status, const library_product& p) {
  require(status == CUBLAS_STATUS_SUCCESS, error_code::device, "cuda: cuBLASLt: product of a[", p.m,
          ", ", p.k, "] by b[", p.k, ", ", p.n, "], ", p.batches, " times, in ", to_string(p.type),
          ": ", cublasLtGetStatusString(status));
}

class product_library {
 public:
  explicit product_library(float_products how) : how_(how) {
    const cublasStatus_t status = cublasLtCreate(&handle_);
    require(status == CUBLAS_STATUS_SUCCESS, error_code::device,
            "cuda: cuBLASLt does not start: ", cublasLtGetStatusString(status));
  }
  product_library(const product_library&) = delete;
  product_library& operator=(const product_library&) = delete;
  ~product_library() { (void)cublasLtDestroy(handle_); }

  // False: the library has no algorithm for it.
  bool run(const library_product& p, cudaStream_t stream) {
    const auto types = types_of(p.type);
    if (!types || !fits(p)) return false;
    description d(*types, how_ == float_products::tf32 && p.type == dtype::f32, p);
    const auto found = algorithm_for(p, d);
    if (!found) return false;
    const float one = 1, zero = 0;
    const double wide_one = 1, wide_zero = 0;
    const bool wide = p.type == dtype::f64;
    const void* alpha = wide ? static_cast<const void*>(&wide_one) : &one;
    const void* none = wide ? static_cast<const void*>(&wide_zero) : &zero;
    void* c = const_cast<void*>(p.c.data);
    const cublasStatus_t status = cublasLtMatmul(
        handle_, d.operation, alpha, p.b.data, d.b, p.a.data, d.a, p.adds ? alpha : none, c, d.c, c,
        d.c, &*found, workspace_.data(), workspace_.bytes(), stream);
    require_library(status, p);
    return true;
  }

 private:
  struct type_set {
    cudaDataType_t data, scale;
    cublasComputeType_t compute;
  };
  static std::optional<type_set> types_of(dtype type) {
    switch (type) {
      case dtype::f64:
        return type_set{CUDA_R_64F, CUDA_R_64F, CUBLAS_COMPUTE_64F};
      case dtype::f32:
        return type_set{CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F};
      case dtype::bf16:
        return type_set{CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F};
      case dtype::f16:
        return type_set{CUDA_R_16F, CUDA_R_32F, CUBLAS_COMPUTE_32F};
      default:
        return std::nullopt;
    }
  }
  // Extents and leading dimensions of the library are 32-bit.
  static bool fits(const library_product& p) {
    constexpr index_t most = std::numeric_limits<std::int32_t>::max();
    return p.m <= most && p.n <= most && p.k <= most && p.batches <= most && p.a.leading <= most &&
           p.b.leading <= most && p.c.leading <= most;
  }

  // The descriptors of one product, freed at the end.
  struct description {
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;

    description(const type_set& t, bool tf32, const library_product& p) {
      const auto compute = tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : t.compute;
      require_library(cublasLtMatmulDescCreate(&operation, compute, t.scale), p);
      // Row-major and stored as is: the library sees its transpose, which is what c^T asks for.
      set_transpose(CUBLASLT_MATMUL_DESC_TRANSA, p.b.transposed, p);
      set_transpose(CUBLASLT_MATMUL_DESC_TRANSB, p.a.transposed, p);
      b = layout(t.data, p.b, p.k, p.n, p);
      a = layout(t.data, p.a, p.m, p.k, p);
      c = layout(t.data, p.c, p.m, p.n, p);
    }
    description(const description&) = delete;
    description& operator=(const description&) = delete;
    ~description() {
      for (auto m : {a, b, c}) {
        if (m != nullptr) (void)cublasLtMatrixLayoutDestroy(m);
      }
      if (operation != nullptr) (void)cublasLtMatmulDescDestroy(operation);
    }

    void set_transpose(cublasLtMatmulDescAttributes_t which, bool transposed,
                       const library_product& p) {
      const cublasOperation_t how = transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
      require_library(cublasLtMatmulDescSetAttribute(operation, which, &how, sizeof how), p);
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

  // Alignment in bytes, up to 16, of what the algorithm may assume.
  static unsigned alignment_of(const library_matrix& m, std::size_t element) {
    auto bits = reinterpret_cast<std::uintptr_t>(m.data) |
                static_cast<std::uintptr_t>(m.leading) * element |
                static_cast<std::uintptr_t>(m.batch) * element | 16U;
    return static_cast<unsigned>(bits & (~bits + 1));
  }
  using key = std::tuple<index_t, index_t, index_t, index_t, index_t, index_t, index_t, int,
                         unsigned, unsigned, unsigned>;
  static key key_of(const library_product& p) {
    const std::size_t element = size_of(p.type);
    const int flags = static_cast<int>(p.type) * 8 + (p.a.transposed ? 1 : 0) +
                      (p.b.transposed ? 2 : 0) + (p.adds ? 4 : 0);
    return {p.m,
            p.n,
            p.k,
            p.batches,
            p.a.leading,
            p.b.leading,
            p.c.leading,
            flags,
            alignment_of(p.a, element),
            alignment_of(p.b, element),
            alignment_of(p.c, element)};
  }
  std::optional<cublasLtMatmulAlgo_t> algorithm_for(const library_product& p,
                                                    const description& d) {
    const key k = key_of(p);
    if (const auto at = algorithms_.find(k); at != algorithms_.end()) return at->second;
    cublasLtMatmulPreference_t wishes = nullptr;
    require_library(cublasLtMatmulPreferenceCreate(&wishes), p);
    const std::size_t bytes = workspace_.bytes();
    const std::size_t element = size_of(p.type);
    const std::uint32_t aligned[3] = {alignment_of(p.b, element), alignment_of(p.a, element),
                                      alignment_of(p.c, element)};
    const auto wish = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
      (void)cublasLtMatmulPreferenceSetAttribute(wishes, what, &value, sizeof value);
    };
    wish(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, bytes);
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, aligned[0]);
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, aligned[1]);
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, aligned[2]);
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, aligned[2]);
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_, d.operation, d.b, d.a, d.c, d.c, wishes, 1, &found, &count);
    (void)cublasLtMatmulPreferenceDestroy(wishes);
    std::optional<cublasLtMatmulAlgo_t> algorithm;
    if (status == CUBLAS_STATUS_SUCCESS && count > 0) algorithm = found.algo;
    algorithms_.emplace(k, algorithm);
    return algorithm;
  }

  static constexpr index_t workspace_bytes = index_t{32} << 20;
  float_products how_;
  cublasLtHandle_t handle_ = nullptr;
  storage<std::byte, device> workspace_{workspace_bytes};
  std::map<key, std::optional<cublasLtMatmulAlgo_t>> algorithms_;
};

}  // namespace deepseek
