// SPDX-License-Identifier: Apache-2.0
// y[m, n] = a[m] sum_g s[n, g] (sum over k in g of (q[n, k] - z[n, g]) p[m, k]) + bias[n]: codes q
// of 4 bits in the order of int4_layout, p signed bytes. Few rows meet the words as they are stored
// (int4_few.hpp); for many, a panel of q becomes bytes once, with AVX2 alone while it is multiplied
// (int4_tile.hpp, int4_tiles.hpp), and the next one is fetched meanwhile. A group's sum is exact
// (byte products, then z times the sum of p, in floats below 2^24), one fma adds it to the
// element's. Bytes of a row lie as words give them: of 8 neighbours the even ones first. Same bits
// for all cuts and thread counts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "deepseek/backend/cpu/kernels/gemm_dot.hpp"
#include "deepseek/backend/cpu/kernels/int4_few.hpp"
#include "deepseek/backend/cpu/kernels/int4_tiles.hpp"
#include "deepseek/backend/cpu/kernels/scratch.hpp"

namespace deepseek::kernels {

// Rows of signed bytes, each `row` bytes from the next, whole words of 8; spare_rows more may be
// read.
struct signed_rows {
  static constexpr std::ptrdiff_t spare_rows = std::max(int4_few::rows - 1, int4_tile::spare_rows);
  const std::byte* codes;
  std::ptrdiff_t row;
  const float* scales;
  const float* sums;  // [m, groups]
  std::ptrdiff_t sums_row;
};

template <class Words>
struct int4_problem {
  gemm_shape shape;
  signed_rows a;
  Words b;  // int4_words of coded_weights.hpp
  const float* bias;
  float* y;
  std::ptrdiff_t y_row;
};

struct int4_bytes;
struct int4_factors;

// The codes of the panel of columns from n0 on as bytes in scratch.
template <class Words>
const std::byte* decode_int4_codes(const Words& w, std::ptrdiff_t n0) {
  constexpr std::ptrdiff_t columns = int4_tile::columns, lanes = word_block::lanes;
  auto* const bytes =
      scratch<int4_bytes, std::int32_t>(static_cast<std::size_t>(2 * w.words_deep * columns));
  for (std::ptrdiff_t j = 0; j < columns; j += simd::pack<float>::width) {
    const std::ptrdiff_t n = n0 + j;
    const std::int32_t* from = w.data + n / lanes * w.words_deep * lanes + n % lanes;
    for (std::ptrdiff_t i = 0; i < w.words_deep; ++i, from += lanes) {
      weight_word word;
      __builtin_memcpy(&word, from, sizeof word);
      const weight_word even = word & 0x0f0f0f0f, odd = (word >> 4) & 0x0f0f0f0f;
      __builtin_memcpy(bytes + 2 * i * columns + j, &even, sizeof even);
      __builtin_memcpy(bytes + (2 * i + 1) * columns + j, &odd, sizeof odd);
    }
  }
  return reinterpret_cast<const std::byte*>(bytes);
}

// The panel of columns from n0 on: scales and zero points in scratch, codes where the tile reads
// them.
template <class Words>
void decode_int4(const Words& w, std::ptrdiff_t n0, int4_tile& t) {
  using pack = simd::pack<float>;
  constexpr std::ptrdiff_t columns = int4_tile::columns;
  auto* const factors =
      scratch<int4_factors, float>(static_cast<std::size_t>(2 * w.groups_deep * columns));
  float* const zeros = factors + w.groups_deep * columns;
  for (std::ptrdiff_t j = 0; j < columns; j += pack::width) {
    const auto stored = w.factors_from(n0 + j);
    for (std::ptrdiff_t g = 0; g < w.groups_deep; ++g) {
      const auto [scale, zero] = stored.at(g);
      scale.store(factors + g * columns + j);
      (-zero).store(zeros + g * columns + j);
    }
  }
  t.scales = factors, t.minus_zeros = zeros;
  if constexpr (int4_tile::takes_words) {
    t.b = reinterpret_cast<const std::byte*>(w.data + n0 * w.words_deep);
    t.steps = w.words_deep, t.steps_each = w.group / 8;
  } else {
    t.b = decode_int4_codes(w, n0);
    t.steps = 2 * w.words_deep, t.steps_each = w.group / 4;
  }
}

template <class Words>
void finish_int4(const int4_problem<Words>& p, std::ptrdiff_t m, std::ptrdiff_t n,
                 const float* sums, bool past_caches = false) {
  using pack = simd::pack<float>;
  const pack scale = pack::broadcast(p.a.scales[m]);
  for (std::ptrdiff_t j = 0; j < std::min(int4_tile::columns, p.shape.n - n); j += pack::width) {
    const std::ptrdiff_t rest = p.shape.n - n - j;
    const pack bias = p.bias == nullptr ? pack::zero() : pack::load_up_to(p.bias + n + j, rest);
    const pack y = simd::fma(pack::load(sums + j), scale, bias);
    float* const to = p.y + m * p.y_row + n + j;
    past_caches&& rest >= pack::width ? store_past_caches(to, y) : y.store_up_to(to, rest);
  }
}

// One decoded panel against rows m0 .. m1.
template <class Words>
void multiply_int4_panel(const int4_problem<Words>& p, gemm_part at, int4_tile t,
                         const std::byte* next) {
  alignas(64) float sums[int4_tile::rows * int4_tile::columns];
  t.a_row = p.a.row, t.row_sums_row = p.a.sums_row, t.sums = sums;
  const bool past_caches = int4_tile::by_tiles && passes_caches(at.m1 - at.m0, p.y_row);
  for (std::ptrdiff_t m = at.m0; m < at.m1;) {
    const int rows = int4_rows(at.m1 - m);
    t.a = p.a.codes + m * p.a.row, t.row_sums = p.a.sums + m * p.a.sums_row;
    const std::byte* const fetch = m == at.m0 ? next : nullptr;
    if constexpr (int4_tile::by_tiles) {
      multiply_int4_by_tiles(t, rows, fetch);
    } else if (fetch != nullptr) {
      multiply_int4_rows<1>(rows, t, fetch);
    } else {
      multiply_int4_rows<0>(rows, t, nullptr);
    }
    const auto there = static_cast<int>(std::min<std::ptrdiff_t>(rows, at.m1 - m));
    for (int i = 0; i < there; ++i) {
      finish_int4(p, m + i, at.n0, sums + i * int4_tile::columns, past_caches);
    }
    m += rows;
  }
  if (past_caches) simd::end_of_streams();
}

template <class Words>
void multiply_int4_few_part(const int4_problem<Words>& p, gemm_part part) {
  constexpr std::ptrdiff_t lanes = word_block::lanes;
  alignas(64) float sums[int4_few::rows * int4_tile::columns];
  int4_tile t{};
  t.a_row = p.a.row, t.row_sums_row = p.a.sums_row;
  t.steps = p.b.words_deep, t.steps_each = p.b.group / 8;
  for (std::ptrdiff_t n0 = part.n0; n0 < part.n1; n0 += int4_tile::columns) {
    for (std::ptrdiff_t m = part.m0; m < part.m1;) {
      const int tile = int4_few::tile(part.m1 - m);
      const auto rows = static_cast<int>(std::min<std::ptrdiff_t>(tile, part.m1 - m));
      t.a = p.a.codes + m * p.a.row, t.row_sums = p.a.sums + m * p.a.sums_row;
      for (std::ptrdiff_t j = 0; j < int4_tile::columns; j += lanes) {
        t.b = reinterpret_cast<const std::byte*>(p.b.data + (n0 + j) * p.b.words_deep);
        t.sums = sums + j;
        multiply_int4_few(tile, p.b, n0 + j, t);
      }
      for (int i = 0; i < rows; ++i) finish_int4(p, m + i, n0, sums + i * int4_tile::columns);
      m += rows;
    }
  }
}

// Rows that meet a decoded panel: for whole tiles those that stay in the second cache.
constexpr std::ptrdiff_t int4_block(std::ptrdiff_t rows, std::ptrdiff_t row_bytes) {
  if constexpr (!int4_tile::by_tiles) return dot_block(rows);
  constexpr std::ptrdiff_t tile = int4_tile::rows;
  const std::ptrdiff_t most = std::clamp(tile_blocks::a / row_bytes, 4 * tile, most_dot_rows);
  return dot_block(rows, most / tile * tile, tile);
}

template <class Words>
void multiply_int4_part(const int4_problem<Words>& p, gemm_part part) {
  const simd::tile_scope given_back;
  constexpr std::ptrdiff_t columns = int4_tile::columns;
  if constexpr (int4_few::most > 0) {
    if (part.m1 - part.m0 <= int4_few::most) return multiply_int4_few_part(p, part);
  }
  const std::ptrdiff_t block = int4_block(part.m1 - part.m0, p.a.row);
  for (std::ptrdiff_t m0 = part.m0; m0 < part.m1; m0 += block) {
    for (std::ptrdiff_t n0 = part.n0; n0 < part.n1; n0 += columns) {
      int4_tile t{};
      decode_int4(p.b, n0, t);
      const std::ptrdiff_t after = n0 + columns;
      const std::byte* next = nullptr;
      if (after < part.n1 && after % word_block::lanes == 0) {
        next = reinterpret_cast<const std::byte*>(p.b.data + after * p.b.words_deep);
      }
      multiply_int4_panel(p, {m0, std::min(part.m1, m0 + block), n0, part.n1}, t, next);
    }
  }
}

// Experts' products share one parallel region.
template <class Words>
void gemm_int4(thread_pool& pool, std::span<const int4_problem<Words>> problems) {
  constexpr gemm_shape tile{int4_tile::rows, int4_tile::columns, 0};
  const auto split = [&](const int4_problem<Words>& p) {
    if (runs_serially(pool, {p.shape.m, p.shape.n, p.shape.k / 4})) return gemm_split{1, 1};
    return split_of((p.shape.m + tile.m - 1) / tile.m, (p.shape.n + tile.n - 1) / tile.n,
                    4 * pool.threads());
  };
  std::ptrdiff_t tasks = 0;
  for (const auto& p : problems) tasks += split(p).rows * split(p).columns;
  const auto run = [&](std::ptrdiff_t task) {
    for (const auto& p : problems) {
      const gemm_split parts = split(p);
      if (task < parts.rows * parts.columns) {
        return multiply_int4_part(p, part_of(p.shape, tile, parts, task));
      }
      task -= parts.rows * parts.columns;
    }
  };
  if (tasks == 1) return run(0);
  pool.parallel(tasks, run);
}

}  // namespace deepseek::kernels
