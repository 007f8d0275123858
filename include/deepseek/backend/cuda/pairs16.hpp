// SPDX-License-Identifier: Apache-2.0
// Two 16-bit numbers in a register: what stored codes become on their way into tensor cores.
// choose_bytes: byte i of the result is byte (selector >> 4 i & 7) of low (0-3) or high (4-7).
// fused_pairs: a b + c of both halves, rounded once. On a GPU single instructions (PTX ISA 8.5,
// sections 9.7.4.4 and 9.7.8.7), elsewhere plain arithmetic.
#pragma once

#include "deepseek/core/dtype.hpp"

#include <cmath>

namespace deepseek::mma {

DEEPSEEK_HOST_DEVICE inline std::uint32_t choose_bytes(std::uint32_t low, std::uint32_t high,
                                                       std::uint32_t selector) {
#if defined(__CUDA_ARCH__)
  return __byte_perm(low, high, selector);
#else
  const std::uint64_t both = std::uint64_t{high} << 32U | low;
  std::uint32_t out = 0;
  for (int i = 0; i < 32; i += 8) {
    out |= static_cast<std::uint32_t>(both >> (8U * (selector >> (i / 2) & 7U)) & 0xffU) << i;
  }
  return out;
#endif
}
// The low halves of two words side by side, and the high halves.
DEEPSEEK_HOST_DEVICE inline std::uint32_t low_halves(std::uint32_t first, std::uint32_t second) {
  return choose_bytes(first, second, 0x5410U);
}
DEEPSEEK_HOST_DEVICE inline std::uint32_t high_halves(std::uint32_t first, std::uint32_t second) {
  return choose_bytes(first, second, 0x7632U);
}

// One number twice.
template <class T>
DEEPSEEK_HOST_DEVICE constexpr std::uint32_t twice(float x) {
  return T(x).bits * 0x10001U;
}

template <class T>
DEEPSEEK_HOST_DEVICE std::uint32_t fused_pairs(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
#if defined(__CUDA_ARCH__)
  std::uint32_t out;
  if constexpr (std::is_same_v<T, bf16>) {
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
  } else {
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
  }
  return out;
#else
  std::uint32_t out = 0;
  for (int i = 0; i < 32; i += 16) {
    const auto half = [&](std::uint32_t word) {
      return static_cast<double>(T::from_bits(static_cast<std::uint16_t>(word >> i)));
    };
    out |= std::uint32_t{T(std::fma(half(a), half(b), half(c))).bits} << i;
  }
  return out;
#endif
}
// a + c, and a times a power of two, zero with its sign.
template <class T>
DEEPSEEK_HOST_DEVICE std::uint32_t added_pairs(std::uint32_t a, std::uint32_t c) {
  return fused_pairs<T>(a, twice<T>(1.0F), c);
}
template <class T>
DEEPSEEK_HOST_DEVICE std::uint32_t scaled_pairs(std::uint32_t a, float by) {
  return fused_pairs<T>(a, twice<T>(by), twice<T>(-0.0F));
}

}  // namespace deepseek::mma
