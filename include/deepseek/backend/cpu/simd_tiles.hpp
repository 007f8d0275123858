// SPDX-License-Identifier: Apache-2.0
// Tiles: eight registers, named 0 .. 7, of up to 16 rows of 64 bytes, and products of whole tiles
// (AMX).
//   dot_pair_tiles<C, A, B>: C[m][n] += over the words w of a row the two bf16 of A[m][w] by the
//     two of B[w][n]. The first products of all words are one chain of fused multiply-adds from
//     zero, the second ones another; their sum is added to C. Rounded to nearest even; subnormal
//     numbers, given or made, are zero.
//   dot_byte_tiles<C, A, B>: the same of four unsigned bytes (A) by four signed ones (B), exact;
//   dot_signed_tiles: signed (A) by unsigned (B).
// The shapes of the tiles belong to a thread: shape_tiles() sets them, which empties all tiles, and
// a tile_scope gives them back, so that switching threads does not carry tiles about.
// request_tiles() asks the operating system for them, as the first shape_tiles() of a process does.
// DEEPSEEK_EMULATED_TILES: plain loops with the same bits, so that any machine can test what is
// built on tiles. Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
#pragma once

#include <cstddef>
#include <cstdint>

#include "deepseek/backend/cpu/simd.hpp"
#include "deepseek/backend/cpu/simd_tiles_emulated.hpp"
#include "deepseek/config.hpp"
#include "deepseek/core/error.hpp"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AMX_INT8__) && defined(__linux__)
#if defined(__AVX512DQ__) && !defined(DEEPSEEK_EMULATED_TILES)
#define DEEPSEEK_HARDWARE_TILES
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace deepseek::simd {

// Which shapes the tiles of this thread have, by a number of the caller's; 0: they are given back.
inline std::uint32_t& shapes_of_thread() {
  thread_local std::uint32_t name = 0;
  return name;
}

#if defined(DEEPSEEK_HARDWARE_TILES)
inline constexpr bool has_tiles = true;
static_assert(compiled_for_amx);

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
template <int C, int A, int B>
DEEPSEEK_INLINE void dot_signed_tiles() {
  asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}

#else
#if defined(DEEPSEEK_EMULATED_TILES)
inline constexpr bool has_tiles = true;
#else
inline constexpr bool has_tiles = false;  // nothing calls what follows
#endif

inline void request_tiles() {}
inline void load_shapes(const tile_shapes& shapes) {
  emulated::load_shapes(shapes);
}
inline void release_shapes() {
  emulated::load_shapes({0, 0, {}, {}, {}});
}
template <int Tile>
void zero_tile() {
  emulated::of_thread().tiles[Tile] = {};
}
template <int Tile>
void load_tile(const void* p, std::ptrdiff_t row) {
  emulated::load(Tile, p, row);
}
template <int Tile>
void store_tile(void* p, std::ptrdiff_t row) {
  emulated::store(Tile, p, row);
}
template <int C, int A, int B>
void dot_pair_tiles() {
  emulated::add(C, A, B, emulated::add_pairs);
}
template <int C, int A, int B>
void dot_byte_tiles() {
  emulated::add(C, A, B, emulated::add_bytes);
}
template <int C, int A, int B>
void dot_signed_tiles() {
  emulated::add(C, A, B, emulated::add_signed_bytes);
}

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

#undef DEEPSEEK_HARDWARE_TILES
