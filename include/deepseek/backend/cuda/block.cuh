// SPDX-License-Identifier: Apache-2.0
// The block of a GPU (block.hpp), and how a kernel object is launched on it.
#pragma once

#include "deepseek/backend/cuda/block.hpp"

#include <cuda_runtime.h>

namespace deepseek {

class cuda_block : public block_collectives<cuda_block> {
 public:
  __device__ cuda_block(std::byte* shared, std::byte* reserved)
      : shared_(shared), reserved_(reserved) {}

  // On the host there is no block: these are never run there, only looked at by the compiler.
  DEEPSEEK_HOST_DEVICE static int rank() { return at(0); }
  DEEPSEEK_HOST_DEVICE static int size() { return at(1); }
  DEEPSEEK_HOST_DEVICE static index_t index() { return at(2); }
  DEEPSEEK_HOST_DEVICE static index_t count() { return at(3); }

  DEEPSEEK_HOST_DEVICE static void sync() {
#if defined(__CUDA_ARCH__)
    __syncthreads();
#endif
  }
  DEEPSEEK_HOST_DEVICE static void sync_warp() {
#if defined(__CUDA_ARCH__)
    __syncwarp();
#endif
  }
  DEEPSEEK_HOST_DEVICE std::byte* shared() const {
    return shared_;
  }
  DEEPSEEK_HOST_DEVICE std::byte* reserved() const {
    return reserved_;
  }

  template <class X>
  DEEPSEEK_HOST_DEVICE static X shuffle(X x, [[maybe_unused]] int from) {
#if defined(__CUDA_ARCH__)
    return by_words(x, [from](std::uint32_t word) { return __shfl_sync(all_lanes, word, from); });
#else
    return x;
#endif
  }
  template <class X>
  DEEPSEEK_HOST_DEVICE static X shuffle_xor(X x, [[maybe_unused]] int mask) {
#if defined(__CUDA_ARCH__)
    return by_words(x,
                    [mask](std::uint32_t word) { return __shfl_xor_sync(all_lanes, word, mask); });
#else
    return x;
#endif
  }
  DEEPSEEK_HOST_DEVICE static std::uint32_t ballot([[maybe_unused]] bool yes) {
#if defined(__CUDA_ARCH__)
    return __ballot_sync(all_lanes, yes);
#else
    return 0;
#endif
  }

  template <class X>
  DEEPSEEK_HOST_DEVICE static X atomic_add([[maybe_unused]] X* at, X x) {
#if defined(__CUDA_ARCH__)
    if constexpr (sizeof(X) == 8) {
      using word = unsigned long long;
      return static_cast<X>(atomicAdd(reinterpret_cast<word*>(at), static_cast<word>(x)));
    } else {
      return atomicAdd(at, x);
    }
#else
    return x;
#endif
  }
  template <class X>
  DEEPSEEK_HOST_DEVICE static X atomic_max([[maybe_unused]] X* at, X x) {
#if defined(__CUDA_ARCH__)
    return atomicMax(at, x);
#else
    return x;
#endif
  }
  template <class X>
  DEEPSEEK_HOST_DEVICE static X atomic_exchange_if([[maybe_unused]] X* at,
                                                   [[maybe_unused]] X expected, X x) {
#if defined(__CUDA_ARCH__)
    return atomicCAS(at, expected, x);
#else
    return x;
#endif
  }

 private:
  static constexpr std::uint32_t all_lanes = 0xffffffffU;

  DEEPSEEK_HOST_DEVICE static int at([[maybe_unused]] int what) {
#if defined(__CUDA_ARCH__)
    const unsigned values[4] = {threadIdx.x, blockDim.x, blockIdx.x, gridDim.x};
    return static_cast<int>(values[what]);
#else
    return 0;
#endif
  }
  // A value as 32-bit words, each sent on its own.
  template <class X, class Send>
  DEEPSEEK_HOST_DEVICE static X by_words(X x, const Send& send) {
    static_assert(std::is_trivially_copyable_v<X> && sizeof(X) <= 16);
    constexpr int words = (sizeof(X) + 3) / 4;
    std::uint32_t parts[words] = {};
    __builtin_memcpy(parts, &x, sizeof(X));
    for (int i = 0; i < words; ++i) parts[i] = send(parts[i]);
    __builtin_memcpy(&x, parts, sizeof(X));
    return x;
  }

  std::byte* shared_;
  std::byte* reserved_;
};
static_assert(Block<cuda_block>);

template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads, 1)
    run_kernel(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(128) std::byte dynamic_shared[];
  __shared__ __align__(16) std::byte reserved[reserved_bytes];
  kernel(cuda_block(dynamic_shared, reserved));
}

}  // namespace deepseek
