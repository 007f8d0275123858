// SPDX-License-Identifier: Apache-2.0
// Products by cuBLASLt: float (optionally through tf32), double, f16, bf16; sums in float (double
// for double); int8 with sums in int32, exact; e4m3 with scales, where the context was told to. The
// algorithm chosen for each shape is kept, also that there is none; the workspace is one block of
// the context.
#pragma once

#include "deepseek/backend/cuda/library_description.cuh"
#include "deepseek/core/tensor.hpp"

#include <map>
#include <tuple>

namespace deepseek {

class product_library {
 public:
  product_library(float_products how, fp8_products of_codes) : how_(how), of_codes_(of_codes) {
    const cublasStatus_t status = cublasLtCreate(&handle_);
    require(status == CUBLAS_STATUS_SUCCESS, error_code::device,
            "cuda: cuBLASLt does not start: ", cublasLtGetStatusString(status));
  }
  product_library(const product_library&) = delete;
  product_library& operator=(const product_library&) = delete;
  ~product_library() { (void)cublasLtDestroy(handle_); }

  // Whether run() would take it. Looks at the addresses' alignment, not at the numbers.
  bool offers(const library_product& p) {
    const auto types = types_of(p);
    if (!types) return false;
    const key k = key_of(p);
    if (const auto at = algorithms_.find(k); at != algorithms_.end()) return at->second.has_value();
    return ask(k, p, library_description(*types, p)).has_value();
  }

  // False: the library has no algorithm for it.
  bool run(const library_product& p, cudaStream_t stream) {
    const auto types = types_of(p);
    if (!types) return false;
    const library_description d(*types, p);
    const key k = key_of(p);
    const auto at = algorithms_.find(k);
    const auto found = at != algorithms_.end() ? at->second : ask(k, p, d);
    if (!found) return false;
    const factors one(types->scale, 1), zero(types->scale, 0);
    void* c = const_cast<void*>(p.c.data);
    const cublasStatus_t status = cublasLtMatmul(
        handle_, d.operation, one.at(), p.b.data, d.b, p.a.data, d.a, p.adds ? one.at() : zero.at(),
        c, d.c, c, d.c, &*found, workspace_.data(), workspace_.bytes(), stream);
    require_library(status, p);
    return true;
  }

 private:
  using algorithm = std::optional<cublasLtMatmulAlgo_t>;

  // alpha or beta, in the type that the library reads.
  class factors {
   public:
    factors(cudaDataType_t type, int value)
        : type_(type), whole_(value), f32_(static_cast<float>(value)), f64_(value) {}
    const void* at() const {
      if (type_ == CUDA_R_32I) return &whole_;
      return type_ == CUDA_R_64F ? static_cast<const void*>(&f64_) : &f32_;
    }

   private:
    cudaDataType_t type_;
    std::int32_t whole_;
    float f32_;
    double f64_;
  };

  std::optional<library_types> types_of(const library_product& p) const {
    if (!fits(p)) return std::nullopt;
    if (p.type == dtype::f8_e4m3 && of_codes_ == fp8_products::f32) return std::nullopt;
    return library_types_of(p, how_);
  }
  // Extents and leading dimensions of the library are 32-bit.
  static bool fits(const library_product& p) {
    constexpr index_t most = std::numeric_limits<std::int32_t>::max();
    return p.m <= most && p.n <= most && p.k <= most && p.batches <= most && p.a.leading <= most &&
           p.b.leading <= most && p.c.leading <= most;
  }

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
    const std::size_t element = size_of(p.type), of_c = size_of(p.result);
    return {p.m,
            p.n,
            p.k,
            p.batches,
            p.a.leading,
            p.b.leading,
            p.c.leading,
            kind_of(p),
            alignment_of(p.a, element),
            alignment_of(p.b, element),
            alignment_of(p.c, of_c)};
  }
  algorithm ask(const key& k, const library_product& p, const library_description& d) {
    cublasLtMatmulPreference_t wishes = nullptr;
    require_library(cublasLtMatmulPreferenceCreate(&wishes), p);
    const std::size_t bytes = workspace_.bytes();
    const std::size_t element = size_of(p.type);
    const std::uint32_t aligned[3] = {alignment_of(p.b, element), alignment_of(p.a, element),
                                      alignment_of(p.c, size_of(p.result))};
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
    algorithm chosen;
    if (status == CUBLAS_STATUS_SUCCESS && count > 0) chosen = found.algo;
    algorithms_.emplace(k, chosen);
    return chosen;
  }

  static constexpr index_t workspace_bytes = index_t{32} << 20;
  float_products how_;
  fp8_products of_codes_;
  cublasLtHandle_t handle_ = nullptr;
  storage<std::byte, device> workspace_{workspace_bytes};
  std::map<key, algorithm> algorithms_;
};

}  // namespace deepseek
