// SPDX-License-Identifier: Apache-2.0
// C = A B by whole tiles, for the problems of gemm_dot.hpp whose form is one of tile_dots.hpp. A
// tile is multiplied faster than the third cache brings the next: a block of rows, as deep as the
// second cache holds, meets the panels of B one after the other, each once; where k is deeper, all
// sums of a block wait in memory for the next part of it. A problem P has, beside left, row_bytes,
// weights, weight_step, fetches, stored and stored_step,
//   finish(sums, m0, m1, n0, n): takes the sums of these rows and n columns
//   held(n0, n1): the same problem of these columns with its panels in memory, if they are not
// Source: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.
#pragma once

#include <algorithm>
#include <cstddef>

#include "deepseek/backend/cpu/kernels/fetch.hpp"
#include "deepseek/backend/cpu/kernels/gemm.hpp"
#include "deepseek/backend/cpu/kernels/scratch.hpp"
#include "deepseek/backend/cpu/kernels/tile_dots.hpp"

namespace deepseek::kernels {

// Sizes, measured on a Xeon of 2026 (2 MiB second cache): bytes of a block of A where it is a part
// of k and where it is all, rows of it, bytes of sums that wait, and of panels that are made for
// rows of several blocks.
struct tile_blocks {
  static constexpr std::ptrdiff_t a = 3 << 18, whole = 1 << 20, rows = 512;
  static constexpr std::ptrdiff_t sums = 4 << 20, panels = 4 << 20;
  // How far ahead of itself one strip fetches: loads of tiles run ahead by themselves (one
  // row: 17.0 GB/s of 17.8 at 2 KiB, 16.5 at 1, 16.2 at 4 and more).
  static constexpr std::ptrdiff_t ahead = 2048;
  // Steps that meet a panel before the next strip comes: with many strips what the first cache
  // holds.
  static constexpr std::ptrdiff_t chunk(std::ptrdiff_t m) { return m >= 256 ? 128 : 1024; }
};

// Rows of a block: blocks of nearly one height, whole tiles.
template <class Form>
constexpr std::ptrdiff_t tile_block_rows(std::ptrdiff_t rows) {
  return dot_block(rows, tile_blocks::rows, Form::rows);
}
// Steps of k of a block of so many rows: all that there are, or nearly even parts.
template <class Form>
constexpr std::ptrdiff_t tile_block_steps(std::ptrdiff_t rows, std::ptrdiff_t steps) {
  constexpr std::ptrdiff_t unit = 16 * simd::tile_words;
  const std::ptrdiff_t row_step = std::max<std::ptrdiff_t>(rows, 1) * dot_size<Form>::left_bytes;
  if (steps * row_step <= tile_blocks::whole) return std::max<std::ptrdiff_t>(steps, 1);
  const std::ptrdiff_t most = std::max(tile_blocks::a / row_step / unit * unit, unit);
  const std::ptrdiff_t parts = (steps + most - 1) / most;
  return ((steps + parts - 1) / parts + unit - 1) / unit * unit;
}
static_assert(tile_block_rows<bf16_tiles>(513) == 288);
static_assert(tile_block_steps<bf16_tiles>(128, 2048) == 2048 &&
              tile_block_steps<bf16_tiles>(512, 2048) == 256);

struct tile_sums;

// Steps k0 .. k1 of the panel at column n0 against rows m0 .. m1, to the sums at `c`. `next`: what
// memory has to bring after them.
template <class P>
struct panel_of_tiles {
  using form = typename P::form;
  const P& p;
  std::ptrdiff_t m0, m1, n0, k0, k1;
  tile_memory<typename form::sum> c;

  // Of several strips each fetches its share of what comes next; one fetches ahead of itself.
  tile_fetch fetch_of(std::ptrdiff_t strip, const dot_operands& o, const std::byte* next) const {
    const auto lines = [](std::ptrdiff_t bytes) { return (bytes + line_bytes - 1) / line_bytes; };
    const std::ptrdiff_t strips = dot_strips<form>(m1 - m0), block = simd::tile_words;
    if (strips == 1) {
      return {static_cast<int>(lines(block * o.b_step)), o.b + tile_blocks::ahead};
    }
    if (next == nullptr) return {};
    const std::ptrdiff_t each = lines((block * p.stored_step(n0) + strips - 1) / strips);
    const std::ptrdiff_t share = each * line_bytes * (o.steps / block);
    if (strip * share >= o.steps * p.stored_step(n0)) return {};
    return {static_cast<int>(each), next + strip * share};
  }
  void multiply(const std::byte* next) const {
    dot_operands o{};
    o.a_row = p.row_bytes();
    const std::ptrdiff_t chunk = tile_blocks::chunk(m1 - m0);
    for (std::ptrdiff_t k = k0; k == k0 || k < k1; k += chunk) {
      o.steps = std::min(chunk, k1 - k);
      o.b = p.weights(n0, k, o.steps), o.b_step = p.weight_step(n0);
      const std::byte* coming = next;
      if constexpr (P::fetches) {
        if (k + chunk < k1) coming = p.stored(n0, k + chunk);
      }
      multiply_strips(o, k, coming);
    }
  }
  void multiply_strips(dot_operands o, std::ptrdiff_t k, const std::byte* coming) const {
    std::ptrdiff_t strip = 0;
    for (std::ptrdiff_t m = m0; m < m1; ++strip) {
      const int height = dot_rows<form>(m1 - m);
      o.a = p.left(m) + k * dot_size<form>::left_bytes;
      tile_fetch fetch;
      if constexpr (P::fetches) fetch = fetch_of(strip, o, coming);
      multiply_tile_strip<form>(height, o, fetch, k > 0, {c.data + (m - m0) * c.row, c.row});
      m += height;
    }
  }
};

// Rows m0 .. m1, one block, by columns n0 .. n1, whose sums fit the memory for them.
template <class P>
void multiply_tile_columns(const P& p, gemm_part at) {
  using form = typename P::form;
  using sum = typename form::sum;
  constexpr std::ptrdiff_t columns = dot_size<form>::columns;
  const std::ptrdiff_t rows = at.m1 - at.m0, steps = dot_steps<form>(p.shape.k),
                       deep = tile_block_steps<form>(rows, steps), panel = rows * columns;
  const bool once = steps <= deep;
  const std::ptrdiff_t panels = once ? 1 : (at.n1 - at.n0 + columns - 1) / columns;
  sum* const sums = scratch<tile_sums, sum>(static_cast<std::size_t>(panels * panel));
  for (std::ptrdiff_t k0 = 0; k0 == 0 || k0 < steps; k0 += deep) {
    const std::ptrdiff_t k1 = std::min(steps, k0 + deep);
    sum* to = sums;
    for (std::ptrdiff_t n = at.n0; n < at.n1; n += columns) {
      const std::byte* next = nullptr;
      if constexpr (P::fetches) {
        if (n + columns < at.n1)
          next = p.stored(n + columns, k0);
        else if (k1 < steps)
          next = p.stored(at.n0, k1);
      }
      panel_of_tiles<P>{p, at.m0, at.m1, n, k0, k1, {to, columns}}.multiply(next);
      if (k1 == steps) {
        p.finish({to, columns}, {at.m0, at.m1, n, std::min(at.n1, n + columns)});
      }
      if (!once) to += panel;
    }
  }
}

template <class P>
void multiply_tile_rows(const P& p, gemm_part part) {
  using form = typename P::form;
  constexpr std::ptrdiff_t columns = dot_size<form>::columns;
  const std::ptrdiff_t block = tile_block_rows<form>(part.m1 - part.m0);
  const std::ptrdiff_t width =
      std::max<std::ptrdiff_t>(tile_blocks::sums / (4 * block * columns), 1) * columns;
  for (std::ptrdiff_t m0 = part.m0; m0 < part.m1; m0 += block) {
    for (std::ptrdiff_t n0 = part.n0; n0 < part.n1; n0 += width) {
      multiply_tile_columns(p,
                            {m0, std::min(part.m1, m0 + block), n0, std::min(part.n1, n0 + width)});
    }
  }
}

// Panels that are made on the way are made once for the rows of all blocks.
template <class P>
void multiply_tile_part(const P& p, gemm_part part) {
  using size = dot_size<typename P::form>;
  const simd::tile_scope given_back;
  const std::ptrdiff_t rows = part.m1 - part.m0;
  if constexpr (!P::fetches) {
    if (rows > tile_block_rows<typename P::form>(rows)) {
      const std::ptrdiff_t deep =
          std::max<std::ptrdiff_t>(dot_steps<typename P::form>(p.shape.k), 1);
      const std::ptrdiff_t width =
          std::max<std::ptrdiff_t>(tile_blocks::panels / (deep * size::step_bytes), 1) *
          size::columns;
      for (std::ptrdiff_t n0 = part.n0; n0 < part.n1; n0 += width) {
        const std::ptrdiff_t n1 = std::min(part.n1, n0 + width);
        multiply_tile_rows(p.held(n0, n1), {part.m0, part.m1, 0, n1 - n0});
      }
      return;
    }
  }
  multiply_tile_rows(p, part);
}

}  // namespace deepseek::kernels
