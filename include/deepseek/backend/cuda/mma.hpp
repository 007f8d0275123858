// SPDX-License-Identifier: Apache-2.0
// Tensor cores and asynchronous copies of sm_80 and later, as functions over a Block; all 32 lanes
// of a warp call them together. multiply_add: c [16, 8] += a [16, K] b [K, 8], K = 16 for bf16 and
// f16 (sums in float), 8 for float cut to tf32, 32 for int8 (sums in int32). A lane holds a few
// elements of each matrix; a_place, b_place, c_place say which. load_matrices: four 8 x 8 matrices
// of 16-bit elements from shared memory, as parts of a or b. swizzled: where rows of 16-byte units
// stand, so that eight rows of one column of units meet all banks.
// On a GPU these are single instructions; on any other Block the lanes exchange what they hold
// (block.gather) and compute the same sums in plain loops. Source: PTX ISA 8.5, sections 9.7.9.25,
// 9.7.14.5 (mma, ldmatrix, cp.async).
#pragma once

#include "deepseek/backend/cuda/block.hpp"
#include "deepseek/core/dtype.hpp"

namespace deepseek::mma {

// Row and column of one element of a matrix.
struct place {
  int row, column;
  friend constexpr bool operator==(const place&, const place&) = default;
};

// What the instructions say of an element type: K, and how many elements of it a register holds.
template <class T>
struct shape;
template <class T>
requires(sizeof(T) == 2) struct shape<T> {
  static constexpr int k = 16, packed = 2;
  using sum = float;
};
template <>
struct shape<float> {
  static constexpr int k = 8, packed = 1;
  using sum = float;
};
template <>
struct shape<std::int8_t> {
  static constexpr int k = 32, packed = 4;
  using sum = std::int32_t;
};

// A lane's parts: registers of four bytes.
struct a_part {
  std::uint32_t word[4];
};
struct b_part {
  std::uint32_t word[2];
};
template <class T>
struct c_part {
  typename shape<T>::sum x[4];
};

// Element i of register `word` of a lane: of a [16, K], of b [K, 8], of c [16, 8].
template <class T>
DEEPSEEK_HOST_DEVICE constexpr place a_place(int lane, int word, int i) {
  constexpr int n = shape<T>::packed;
  return {lane / 4 + word % 2 * 8, lane % 4 * n + word / 2 * 4 * n + i};
}
template <class T>
DEEPSEEK_HOST_DEVICE constexpr place b_place(int lane, int word, int i) {
  constexpr int n = shape<T>::packed;
  return {lane % 4 * n + word * 4 * n + i, lane / 4};
}
DEEPSEEK_HOST_DEVICE constexpr place c_place(int lane, int i) {
  return {lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2};
}

// The 16-byte unit of a row of `units` (a multiple of 4) where unit `unit` of row `row` stands.
// Any eight rows from a multiple of 8 on, at one unit, are in different groups of banks.
DEEPSEEK_HOST_DEVICE constexpr int swizzled(int row, int unit, int units) {
  return units % 8 == 0 ? unit ^ (row & 7) : unit ^ (row >> 1 & 3);
}

// Which row, and which unit beside the first, a lane names to load_matrices. rows_first: the four
// matrices are (rows 0-7, unit 0), (rows 8-15, unit 0), (0-7, 1), (8-15, 1), the registers of an a
// of 16 rows, or, transposed, of two b's side by side from rows of k. units_first: (rows 0-7, unit
// 0), (0-7, 1), (8-15, 0), (8-15, 1): two b's one below the other, from rows of n.
struct corner {
  int row, unit;
};
DEEPSEEK_HOST_DEVICE constexpr corner rows_first(int lane) {
  return {lane & 15, lane >> 4};
}
DEEPSEEK_HOST_DEVICE constexpr corner units_first(int lane) {
  return {(lane & 7) + (lane >> 4) * 8, lane >> 3 & 1};
}

namespace exchanged {  // the instructions in plain loops

template <class T>
constexpr float value(std::uint32_t word, int i) {
  if constexpr (sizeof(T) == 2) {
    return T::from_bits(static_cast<std::uint16_t>(word >> (16 * i)));
  } else {
    return detail::bits_as<float>(word & 0xffffe000U);  // tf32: 10 bits of fraction
  }
}
template <class T>
constexpr typename shape<T>::sum value_of(std::uint32_t word, int i) {
  if constexpr (sizeof(T) == 1) {
    return static_cast<std::int8_t>(word >> (8 * i));
  } else {
    return value<T>(word, i);
  }
}

template <class T, class Block>
void multiply_add(const Block& block, c_part<T>& c, const a_part& a, const b_part& b) {
  struct both {
    a_part a;
    b_part b;
  };
  both all[warp_size];
  block.gather(both{a, b}, all);
  constexpr int n = shape<T>::packed;
  for (int i = 0; i < 4; ++i) {
    const place at = c_place(block.lane(), i);
    for (int k = 0; k < shape<T>::k; ++k) {
      const int half = k / (4 * n), owner = k % (4 * n) / n;
      const std::uint32_t left = all[at.row % 8 * 4 + owner].a.word[at.row / 8 + 2 * half];
      const std::uint32_t right = all[at.column * 4 + owner].b.word[half];
      c.x[i] += value_of<T>(left, k % n) * value_of<T>(right, k % n);
    }
  }
}

template <bool Transposed, class Block>
void load_matrices(const Block& block, std::uint32_t (&to)[4], const void* row) {
  const void* rows[warp_size];
  block.gather(row, rows);
  for (int m = 0; m < 4; ++m) {
    std::uint16_t two[2];
    for (int i = 0; i < 2; ++i) {
      const int r = Transposed ? block.lane() % 4 * 2 + i : block.lane() / 4;
      const int c = Transposed ? block.lane() / 4 : block.lane() % 4 * 2 + i;
      two[i] = static_cast<const std::uint16_t*>(rows[m * 8 + r])[c];
    }
    to[m] = two[0] | static_cast<std::uint32_t>(two[1]) << 16;
  }
}

}  // namespace exchanged

#if defined(__CUDA_ARCH__)
namespace instruction {

__device__ inline std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

__device__ inline void multiply_add(c_part<bf16>& c, const a_part& a, const b_part& b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3])
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]),
        "r"(b.word[1]));
}
__device__ inline void multiply_add(c_part<f16>& c, const a_part& a, const b_part& b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3])
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]),
        "r"(b.word[1]));
}
__device__ inline void multiply_add(c_part<float>& c, const a_part& a, const b_part& b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3])
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]),
        "r"(b.word[1]));
}
__device__ inline void multiply_add(c_part<std::int8_t>& c, const a_part& a, const b_part& b) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(c.x[0]), "+r"(c.x[1]), "+r"(c.x[2]), "+r"(c.x[3])
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]),
        "r"(b.word[1]));
}

template <bool Transposed>
__device__ inline void load_matrices(std::uint32_t (&to)[4], const void* row) {
  const std::uint32_t at = shared_address(row);
  if constexpr (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(at)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(at)
                 : "memory");
  }
}

}  // namespace instruction
#endif

// c += a b.
template <class T, class Block>
DEEPSEEK_HOST_DEVICE void multiply_add([[maybe_unused]] const Block& block, c_part<T>& c,
                                       const a_part& a, const b_part& b) {
#if defined(__CUDA_ARCH__)
  instruction::multiply_add(c, a, b);
#else
  if constexpr (requires { block.gather(a, static_cast<a_part*>(nullptr)); }) {
    exchanged::multiply_add<T>(block, c, a, b);
  }
#endif
}

// Four 8 x 8 matrices: lane 8 m + r names row r of matrix m (16 bytes at a multiple of 16). A lane
// gets of each matrix the two elements 2 (lane % 4), + 1 of row lane / 4; transposed: of column
// lane / 4.
template <bool Transposed, class Block>
DEEPSEEK_HOST_DEVICE void load_matrices([[maybe_unused]] const Block& block, std::uint32_t (&to)[4],
                                        const void* row) {
#if defined(__CUDA_ARCH__)
  instruction::load_matrices<Transposed>(to, row);
#else
  if constexpr (requires { block.gather(row, static_cast<const void**>(nullptr)); }) {
    exchanged::load_matrices<Transposed>(block, to, row);
  }
#endif
}

// Two floats as neighbours in a register, rounded to nearest.
template <class T>
DEEPSEEK_HOST_DEVICE std::uint32_t pack(float low, float high) {
#if defined(__CUDA_ARCH__)
  std::uint32_t word;
  if constexpr (std::is_same_v<T, bf16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  }
  return word;
#else
  return T(low).bits | static_cast<std::uint32_t>(T(high).bits) << 16;
#endif
}

// 16 bytes from device memory to shared memory, without a register; zeros where not `there` (then
// `from` is not read, but must be an address). Seen after wait_copies and a sync.
template <class Block>
DEEPSEEK_HOST_DEVICE void copy_async([[maybe_unused]] const Block& block, void* to,
                                     const void* from, bool there) {
#if defined(__CUDA_ARCH__)
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(
                   instruction::shared_address(to)),
               "l"(__cvta_generic_to_global(from)), "r"(there ? 16 : 0)
               : "memory");
#else
  if constexpr (requires { block.copy_later(to, from, there); }) block.copy_later(to, from, there);
#endif
}
// The copies so far, since the last call, are one group.
template <class Block>
DEEPSEEK_HOST_DEVICE void commit_copies([[maybe_unused]] const Block& block) {
#if defined(__CUDA_ARCH__)
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  if constexpr (requires { block.commit_copies(); }) block.commit_copies();
#endif
}
// Waits until at most `Left` groups of this thread are under way.
template <int Left, class Block>
DEEPSEEK_HOST_DEVICE void wait_copies([[maybe_unused]] const Block& block) {
#if defined(__CUDA_ARCH__)
  asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
#else
  if constexpr (requires { block.wait_copies(Left); }) block.wait_copies(Left);
#endif
}

}  // namespace deepseek::mma
