// SPDX-License-Identifier: Apache-2.0
// Tiles: eight registers, named 0 .. 7, of up to 16 rows of 64 bytes, and products of whole tiles
// (AMX).
//   dot_pair_tiles<C, A, B>: C[m][n] += over the words w of a row the two bf16 of A[m][w] by the
//     two of B[w][n]. The first products of all words are one chain of fused multiply-adds from
//     zero, the second ones another; their sum is added to C. Rounded to nearest even; subnormal
//     numbers, given or made, are zero.
//   dot_byte_tiles<C, A, B>: the same of four unsigned bytes (A) by four signed ones (B), exact.
// The shapes of the tiles belong to a thread: shape_tiles() sets them, which empties all tiles, and
// a tile_scope gives them back, so that switching threads does not carry tiles about.
// request_tiles() asks the operating system for them, as the first shape_tiles() of a process does.
// DEEPSEEK_EMULATED_TILES: plain loops with the same bits, so that any machine can test what is
// built on tiles. Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "deepseek/backend/cpu/simd.hpp"
#include "deepseek/config.hpp"
#include "deepseek/core/error.hpp"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AMX_INT8__) && \
    defined(__AVX512F__) && defined(__linux__) && !defined(DEEPSEEK_EMULATED_TILES)
#define DEEPSEEK_HARDWARE_TILES
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace deepseek::simd {

inline constexpr int tile_rows = 16, tile_words = 16;

// Laid out as LDTILECFG reads it.
struct alignas(64) tile_shapes {
  std::uint8_t palette = 1, start = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t bytes[16] = {};  // of a row
  std::uint8_t rows[16] = {};

  constexpr tile_shapes& set(int tile, int of_rows, int of_words) {
    rows[tile] = static_cast<std::uint8_t>(of_rows);
    bytes[tile] = static_cast<std::uint16_t>(4 * of_words);
    return *this;
  }
};
static_assert(sizeof(tile_shapes) == 64);

// Which shapes the tiles of this thread have, by a number of the caller's; 0: they are given back.
inline std::uint32_t& shapes_of_thread() {
  thread_local std::uint32_t name = 0;
  return name;
}

#if defined(DEEPSEEK_HARDWARE_TILES)
inline constexpr bool has_tiles = true;

inline void request_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool known = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0;
  constexpr unsigned bf16_tiles = 1U << 22, tiles = 1U << 24, byte_tiles = 1U << 25;
  constexpr unsigned all = bf16_tiles | tiles | byte_tiles;
  require(known && (d & all) == all, error_code::unsupported,
          "processor: it lacks amx_tile, amx_bf16 or amx_int8, which this program was compiled ",
          "for; compile with -march=native on this machine, or with -mno-amx-tile");
  constexpr long request_permission = 0x1023, tile_data = 18;
  require(syscall(SYS_arch_prctl, request_permission, tile_data) == 0, error_code::unsupported,
          "processor: the operating system refuses the tiles of AMX to this process, which it was ",
          "compiled for; compile with -mno-amx-tile");
}

inline void load_shapes(const tile_shapes& shapes) {
  [[maybe_unused]] static const bool allowed = (request_tiles(), true);
  asm volatile("ldtilecfg %0" : : "m"(shapes));
}
inline void release_shapes() {
  asm volatile("tilerelease" : : : "memory");
}
template <int Tile>
DEEPSEEK_INLINE void zero_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(Tile));
}
template <int Tile>
DEEPSEEK_INLINE void load_tile(const void* p, std::ptrdiff_t row) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(row), "i"(Tile) : "memory");
}
template <int Tile>
DEEPSEEK_INLINE void store_tile(void* p, std::ptrdiff_t row) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(row), "i"(Tile) : "memory");
}
template <int C, int A, int B>
DEEPSEEK_INLINE void dot_pair_tiles() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}
template <int C, int A, int B>
DEEPSEEK_INLINE void dot_byte_tiles() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}

#elif defined(DEEPSEEK_EMULATED_TILES)
inline constexpr bool has_tiles = true;

struct emulated_tile {
  std::int32_t words[tile_rows][tile_words] = {};
};
inline emulated_tile& tile_of_thread(int tile) {
  thread_local emulated_tile tiles[8];
  return tiles[tile];
}
inline tile_shapes& emulated_shapes() {
  thread_local tile_shapes shapes;
  return shapes;
}
inline void load_shapes(const tile_shapes& shapes) {
  emulated_shapes() = shapes;
  for (int t = 0; t < 8; ++t) tile_of_thread(t) = {};
}
inline void release_shapes() {}
inline void request_tiles() {}

template <int Tile>
void zero_tile() {
  tile_of_thread(Tile) = {};
}
template <int Tile>
void load_tile(const void* p, std::ptrdiff_t row) {
  const tile_shapes& s = emulated_shapes();
  zero_tile<Tile>();
  for (int i = 0; i < s.rows[Tile]; ++i) {
    __builtin_memcpy(tile_of_thread(Tile).words[i], static_cast<const std::byte*>(p) + i * row,
                     s.bytes[Tile]);
  }
}
template <int Tile>
void store_tile(void* p, std::ptrdiff_t row) {
  const tile_shapes& s = emulated_shapes();
  for (int i = 0; i < s.rows[Tile]; ++i) {
    __builtin_memcpy(static_cast<std::byte*>(p) + i * row, tile_of_thread(Tile).words[i],
                     s.bytes[Tile]);
  }
}

inline float flushed(float x) {
  return std::fabs(x) < 0x1p-126F ? std::copysign(0.0F, x) : x;
}
// One of the two bf16 of a word.
inline float half_of(std::int32_t word, bool upper) {
  const auto bits = static_cast<std::uint32_t>(word);
  return flushed(std::bit_cast<float>(upper ? bits & 0xffff0000U : bits << 16));
}
inline std::int32_t add_pairs(std::int32_t sum, const std::int32_t* a, const emulated_tile& b,
                              int n, int words) {
  float chain[2] = {};
  for (int w = 0; w < words; ++w) {
    for (int half = 0; half < 2; ++half) {
      const float x = half_of(a[w], half == 1), y = half_of(b.words[w][n], half == 1);
      chain[half] = flushed(std::fma(x, y, chain[half]));
    }
  }
  const float added = flushed(chain[0] + chain[1]);
  return std::bit_cast<std::int32_t>(flushed(flushed(std::bit_cast<float>(sum)) + added));
}
inline std::int32_t add_bytes(std::int32_t sum, const std::int32_t* a, const emulated_tile& b,
                              int n, int words) {
  auto total = static_cast<std::uint32_t>(sum);
  for (int w = 0; w < words; ++w) {
    for (int byte = 0; byte < 32; byte += 8) {
      const int x = static_cast<std::uint8_t>(a[w] >> byte);
      const int y = static_cast<std::int8_t>(b.words[w][n] >> byte);
      total += static_cast<std::uint32_t>(x * y);
    }
  }
  return static_cast<std::int32_t>(total);
}
// The shapes fit each other, as the processor demands.
template <int C, int A, int B, class F>
void add_tiles(F&& f) {
  const tile_shapes& s = emulated_shapes();
  require(s.rows[C] == s.rows[A] && s.bytes[C] == s.bytes[B] && s.bytes[A] == 4 * s.rows[B],
          error_code::invalid_argument, "emulated tiles: ", C, ", ", A, ", ", B, " do not fit");
  for (int m = 0; m < s.rows[C]; ++m) {
    for (int n = 0; n < s.bytes[C] / 4; ++n) {
      std::int32_t& sum = tile_of_thread(C).words[m][n];
      sum = f(sum, tile_of_thread(A).words[m], tile_of_thread(B), n, s.rows[B]);
    }
  }
}
template <int C, int A, int B>
void dot_pair_tiles() {
  add_tiles<C, A, B>(add_pairs);
}
template <int C, int A, int B>
void dot_byte_tiles() {
  add_tiles<C, A, B>(add_bytes);
}

#else
inline constexpr bool has_tiles = false;

inline void request_tiles() {}
inline void load_shapes(const tile_shapes&) {}
inline void release_shapes() {}
#endif

// make() returns the shapes of this name; nothing happens where the tiles have them already.
template <class Make>
DEEPSEEK_INLINE void shape_tiles(std::uint32_t name, Make&& make) {
  if (shapes_of_thread() == name) return;
  load_shapes(make());
  shapes_of_thread() = name;
}

// Gives the tiles of the thread back at its end.
struct tile_scope {
  tile_scope() = default;
  tile_scope(const tile_scope&) = delete;
  tile_scope& operator=(const tile_scope&) = delete;
  ~tile_scope() {
    if constexpr (!has_tiles) return;
    if (shapes_of_thread() == 0) return;
    release_shapes();
    shapes_of_thread() = 0;
  }
};

}  // namespace deepseek::simd
