// SPDX-License-Identifier: Apache-2.0
// For which architecture the kernels of this program that a device runs were compiled, as far as
// kernels exist only there (warp_group.hpp, cluster.hpp), and the largest cluster that it runs.
#pragma once

#include "deepseek/backend/cuda/cluster.hpp"
#include "deepseek/backend/cuda/error.cuh"
#include "deepseek/backend/cuda/warp_group.hpp"

namespace deepseek {

namespace cuda_architecture {

// Its shared memory says for which architecture it was compiled; it is never run.
inline constexpr std::size_t groups_bytes = 512, clusters_bytes = 256;
template <class>
__global__ void tells_architecture(int* to) {
  constexpr std::size_t bytes = warp_group::compiled ? groups_bytes
                                : cluster::compiled  ? clusters_bytes
                                                     : sizeof(int);
  __shared__ volatile int told[bytes / sizeof(int)];
  told[0] = *to;
  *to = told[0];
}
inline bool tells_at_least(std::size_t bytes) {
  cudaFuncAttributes about{};
  const cudaError_t status = cudaFuncGetAttributes(&about, tells_architecture<void>);
  (void)cudaGetLastError();
  // Beside the 1024 bytes that the system has of a block from 9.0 on, should they be counted.
  return status == cudaSuccess && about.sharedSizeBytes % 1024 >= bytes;
}
inline bool compiled_for_warp_groups() {
  return tells_at_least(groups_bytes);
}
inline bool compiled_for_clusters() {
  return tells_at_least(clusters_bytes);
}

}  // namespace cuda_architecture

// Blocks of 512 threads that the device runs as one cluster: 1 (none), 2, 4 or 8. Small parts of a
// device may run fewer than 8.
inline int largest_cluster(int device) {
  int has = 0;
  require_cuda(cudaDeviceGetAttribute(&has, cudaDevAttrClusterLaunch, device),
               "asking for clusters", device);
  if (has == 0 || !cuda_architecture::compiled_for_clusters()) return 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(cluster::most_blocks);
  launch.blockDim = dim3(512);
  int most = 1, taken = 1;
  const cudaError_t status = cudaOccupancyMaxPotentialClusterSize(
      &most, cuda_architecture::tells_architecture<void>, &launch);
  (void)cudaGetLastError();
  if (status != cudaSuccess) return 1;
  while (taken < cluster::most_blocks && 2 * taken <= most) taken *= 2;
  return taken;
}

}  // namespace deepseek
