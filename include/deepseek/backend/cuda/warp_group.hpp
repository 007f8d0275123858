// SPDX-License-Identifier: Apache-2.0
// Products of a warp group, four warps of 128 threads, on sm_90a: c [64, N] += a [64, 16] b [16, N]
// of bf16 or f16 in float, with b (and a) read from shared memory where a `matrix` says. Warp w of
// the group has rows 16 w .. 16 w + 15 of c, each lane as in mma.hpp: c[n] is columns 8 n .. 8 n +
// 7. The products run beside the threads: fence, multiply_add ..., commit, then wait; until then
// nobody touches c, a's registers or what the matrices say. All threads of the group call together.
// A matrix is rows of 128 bytes whose 16-byte units are swizzled: unit u of row r stands at u ^ (r
// mod 8); eight rows are a core of 1024 bytes, at a multiple of 1024.
// Where not compiled for sm_90a, `compiled` is false and nothing here may run. On the simulated
// device the block's group_... functions interpret the descriptors. Source: PTX ISA 8.5, section
// 9.7.15 (wgmma: register fragments, matrix descriptor, canonical layouts).
#pragma once

#include "deepseek/backend/cuda/mma.hpp"

namespace deepseek::warp_group {

inline constexpr int size = 4 * warp_size;

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
inline constexpr bool compiled = false;
#else
inline constexpr bool compiled = true;
#endif

inline constexpr int row_bytes = 128, core_bytes = 8 * row_bytes;

// Which neighbours the rows in memory hold: what is summed over, or columns of b.
enum class rows_hold { sums, columns };

// The 64-bit matrix descriptor.
template <rows_hold Rows>
struct matrix_of {
  std::uint64_t word;

  // The same, `bytes` further on.
  DEEPSEEK_HOST_DEVICE constexpr matrix_of operator+(int bytes) const {
    return {word + static_cast<std::uint64_t>(bytes / 16)};
  }
  DEEPSEEK_HOST_DEVICE static constexpr matrix_of of(std::uint32_t address, int leading,
                                                     int stride) {
    constexpr std::uint64_t swizzle_128 = std::uint64_t{1} << 62;
    return {swizzle_128 | static_cast<std::uint64_t>(stride / 16) << 32 |
            static_cast<std::uint64_t>(leading / 16) << 16 | (address & 0x3ffffU) >> 4};
  }
};
using matrix = matrix_of<rows_hold::sums>;
using column_matrix = matrix_of<rows_hold::columns>;

// Where p stands in the shared memory of the block.
template <class Block>
DEEPSEEK_HOST_DEVICE std::uint32_t shared_address([[maybe_unused]] const Block& block,
                                                  const void* p) {
#if defined(__CUDA_ARCH__)
  return mma::instruction::shared_address(p);
#else
  if constexpr (requires { block.shared_address(p); }) {
    return block.shared_address(p);
  } else {
    return 0;
  }
#endif
}

// Rows of 64 elements that are summed over: a [64, 16], or b as [N, 16].
template <class Block>
DEEPSEEK_HOST_DEVICE matrix rows_of_sums(const Block& block, const void* p) {
  return matrix::of(shared_address(block, p), 16, core_bytes);
}
// b as [16, N]: rows of 64 neighbouring columns; the next 64 columns stand `next` bytes further on.
template <class Block>
DEEPSEEK_HOST_DEVICE column_matrix rows_of_columns(const Block& block, const void* p, int next) {
  return column_matrix::of(shared_address(block, p), next, core_bytes);
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
namespace instruction {

template <class T>
struct name;
template <>
struct name<bf16> {
  static constexpr const char text[] = "bf16";
};
template <>
struct name<f16> {
  static constexpr const char text[] = "f16";
};
#define DEEPSEEK_SUMS_OF(n) "+f"(c[n].x[0]), "+f"(c[n].x[1]), "+f"(c[n].x[2]), "+f"(c[n].x[3])
#define DEEPSEEK_SUMS_OF_2(n) DEEPSEEK_SUMS_OF(n), DEEPSEEK_SUMS_OF((n) + 1)
#define DEEPSEEK_SUMS_OF_4(n) DEEPSEEK_SUMS_OF_2(n), DEEPSEEK_SUMS_OF_2((n) + 2)
#define DEEPSEEK_SUMS_OF_8(n) DEEPSEEK_SUMS_OF_4(n), DEEPSEEK_SUMS_OF_4((n) + 4)
// N = 64, a and b as rows that are summed over.
template <class T>
__device__ inline void multiply_add(mma::c_part<T> (&c)[8], matrix a, matrix b, bool adds) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %34, 0; "
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.%35.%35 {%0, %1, %2, %3, %4, %5, %6, "
      "%7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, p, 1, 1, 0, 0;}"
      : DEEPSEEK_SUMS_OF_8(0)
      : "l"(a.word), "l"(b.word), "r"(static_cast<int>(adds)), "C"(name<T>::text));
}
// a in registers, b as rows of columns.
template <class T>
__device__ inline void multiply_add(mma::c_part<T> (&c)[8], const mma::a_part& a, column_matrix b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.%37.%37 {%0, %1, %2, %3, %4, %5, %6, "
      "%7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
      : DEEPSEEK_SUMS_OF_8(0)
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "l"(b.word),
        "C"(name<T>::text));
}

template <class T>
__device__ inline void multiply_add(mma::c_part<T> (&c)[16], const mma::a_part& a,
                                    column_matrix b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.%69.%69 {%0, %1, %2, %3, %4, %5, %6, "
      "%7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, "
      "%40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, "
      "%56, %57, %58, %59, %60, %61, %62, %63}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
      : DEEPSEEK_SUMS_OF_8(0), DEEPSEEK_SUMS_OF_8(8)
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "l"(b.word),
        "C"(name<T>::text));
}

// N = 256, a as rows that are summed over, b either way.
template <class T, rows_hold Rows>
__device__ inline void multiply_add(mma::c_part<T> (&c)[32], matrix a, matrix_of<Rows> b,
                                    bool adds) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %130, 0; "
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.%131.%131 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, "
      "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, "
      "%34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, "
      "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, "
      "%66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, "
      "%82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, "
      "%98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, "
      "%125, %126, %127}, %128, %129, p, 1, 1, 0, %132;}"
      : DEEPSEEK_SUMS_OF_8(0), DEEPSEEK_SUMS_OF_8(8), DEEPSEEK_SUMS_OF_8(16), DEEPSEEK_SUMS_OF_8(24)
      : "l"(a.word), "l"(b.word), "r"(static_cast<int>(adds)), "C"(name<T>::text),
        "n"(Rows == rows_hold::columns ? 1 : 0));
}

#undef DEEPSEEK_SUMS_OF
#undef DEEPSEEK_SUMS_OF_2
#undef DEEPSEEK_SUMS_OF_4
#undef DEEPSEEK_SUMS_OF_8

}  // namespace instruction
#endif

// c = a b (+ c where `adds`).
template <class T, int N, rows_hold Rows, class Block>
DEEPSEEK_HOST_DEVICE void multiply_add([[maybe_unused]] const Block& block, mma::c_part<T> (&c)[N],
                                       matrix a, matrix_of<Rows> b, bool adds) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  instruction::multiply_add(c, a, b, adds);
#else
  if constexpr (requires { block.group_multiply(c, N, a, b, adds); }) {
    block.group_multiply(c, N, a, b, adds);
  }
#endif
}
// c += a b, a [64, 16] in registers as mma.hpp has it, each warp its 16 rows.
template <class T, int N, class Block>
DEEPSEEK_HOST_DEVICE void multiply_add([[maybe_unused]] const Block& block, mma::c_part<T> (&c)[N],
                                       const mma::a_part& a, column_matrix b) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  instruction::multiply_add(c, a, b);
#else
  if constexpr (requires { block.group_multiply(c, N, a, b); }) block.group_multiply(c, N, a, b);
#endif
}

// The compiler keeps no copy of c across this point.
template <class T, int N>
DEEPSEEK_HOST_DEVICE void hold([[maybe_unused]] mma::c_part<T> (&c)[N]) {
#if defined(__CUDA_ARCH__)
  DEEPSEEK_UNROLL
  for (int i = 0; i < 4 * N; ++i) asm volatile("" : "+f"(c[i / 4].x[i % 4])::"memory");
#endif
}
// What the threads wrote to c and to a's registers is there for the products that follow.
template <class T, int N, class Block>
DEEPSEEK_HOST_DEVICE void fence([[maybe_unused]] const Block& block, mma::c_part<T> (&c)[N]) {
  hold(c);
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
  if constexpr (requires { block.group_fence(); }) block.group_fence();
#endif
}
// The products since the last call are one lot.
template <class Block>
DEEPSEEK_HOST_DEVICE void commit([[maybe_unused]] const Block& block) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
  if constexpr (requires { block.group_commit(); }) block.group_commit();
#endif
}
// Waits for all lots but the last: what only those before it read may be written over.
template <class Block>
DEEPSEEK_HOST_DEVICE void wait_for_earlier([[maybe_unused]] const Block& block) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
#else
  if constexpr (requires { block.group_wait(1); }) block.group_wait(1);
#endif
}
// Waits for all lots; c, which they wrote, may be used again.
template <class T, int N, class Block>
DEEPSEEK_HOST_DEVICE void wait([[maybe_unused]] const Block& block, mma::c_part<T> (&c)[N]) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#else
  if constexpr (requires { block.group_wait(0); }) block.group_wait(0);
#endif
  hold(c);
}

// A word of shared memory for products to read: there once this thread has published it.
template <class Block>
DEEPSEEK_HOST_DEVICE void put([[maybe_unused]] const Block& block, [[maybe_unused]] void* to,
                              [[maybe_unused]] std::uint32_t word) {
#if defined(__CUDA_ARCH__)
  *static_cast<std::uint32_t*>(to) = word;
#else
  if constexpr (requires { block.group_put(to, word); }) block.group_put(to, word);
#endif
}
// What this thread has put is there for products of those who learn of it by a barrier hereafter.
template <class Block>
DEEPSEEK_HOST_DEVICE void publish([[maybe_unused]] const Block& block) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#else
  if constexpr (requires { block.group_publish(); }) block.group_publish();
#endif
}

// A barrier of the threads of this group alone.
template <class Block>
DEEPSEEK_HOST_DEVICE void sync([[maybe_unused]] const Block& block) {
#if defined(__CUDA_ARCH__)
  asm volatile("bar.sync %0, 128;" ::"r"(block.warp() / 4 + 1) : "memory");
#else
  if constexpr (requires { block.group_sync(); }) block.group_sync();
#endif
}

// From here on the threads of this group have `Count` registers each, a multiple of 8: fewer or
// more than at the launch. All groups of a block together have no more than at the launch.
template <int Count, class Block>
DEEPSEEK_HOST_DEVICE void give_registers([[maybe_unused]] const Block& block) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
#else
  if constexpr (requires { block.group_registers(-Count); }) block.group_registers(-Count);
#endif
}
template <int Count, class Block>
DEEPSEEK_HOST_DEVICE void take_registers([[maybe_unused]] const Block& block) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
#else
  if constexpr (requires { block.group_registers(Count); }) block.group_registers(Count);
#endif
}

}  // namespace deepseek::warp_group
