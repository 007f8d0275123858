// SPDX-License-Identifier: Apache-2.0
// Tensor maps (bulk_copy.hpp) by the driver, whose function is asked for when it is first needed:
// programs link no driver. Whether a device and this program have warp groups (warp_group.hpp):
// compute capability 9.0, kernels compiled for sm_90a (architecture.cuh), a driver that makes
// tensor maps.
#pragma once

#include "deepseek/backend/cuda/architecture.cuh"
#include "deepseek/backend/cuda/bulk_copy.hpp"
#include "deepseek/backend/cuda/error.cuh"

#include <cuda.h>

namespace deepseek {

namespace cuda_tiles {

using encoder = decltype(&cuTensorMapEncodeTiled);

// Null where the driver has none.
inline encoder find_encoder() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found,
                                                              12000, cudaEnableDefault, &result);
  if (status != cudaSuccess || result != cudaDriverEntryPointSuccess) found = nullptr;
  (void)cudaGetLastError();
  return reinterpret_cast<encoder>(found);
}
inline encoder shared_encoder() {
  static const encoder one = find_encoder();
  return one;
}

}  // namespace cuda_tiles

inline bool has_warp_groups(int device) {
  int major = 0, minor = 0;
  require_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
               "asking for its compute capability", device);
  require_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
               "asking for its compute capability", device);
  return major == 9 && minor == 0 && cuda_architecture::compiled_for_warp_groups() &&
         cuda_tiles::shared_encoder() != nullptr;
}

inline bulk::tile_map make_tile_map(const bulk::tile_source& s) {
  static_assert(sizeof(CUtensorMap) == sizeof(bulk::tile_map) &&
                alignof(CUtensorMap) <= alignof(bulk::tile_map));
  cuuint64_t extents[3], strides[2];
  cuuint32_t box[3];
  const cuuint32_t steps[3] = {1, 1, 1};
  for (int i = 0; i < 3; ++i) {
    extents[i] = static_cast<cuuint64_t>(s.extents[i]);
    box[i] = static_cast<cuuint32_t>(s.box[i]);
  }
  for (int i = 0; i < 2; ++i) strides[i] = static_cast<cuuint64_t>(s.strides[i]);
  CUtensorMap made{};
  const CUresult status = cuda_tiles::shared_encoder()(
      &made, CU_TENSOR_MAP_DATA_TYPE_UINT16, 3, const_cast<void*>(s.data), extents, strides, box,
      steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  require(status == CUDA_SUCCESS, error_code::device, "cuda: the driver refuses a tensor map of [",
          s.extents[2], ", ", s.extents[1], ", ", s.extents[0], "] with steps of ", s.strides[1],
          " and ", s.strides[0], " bytes (its error ", static_cast<int>(status),
          "); make the context with .warp_groups = false");
  bulk::tile_map map;
  __builtin_memcpy(map.bytes, &made, sizeof made);
  return map;
}

}  // namespace deepseek
