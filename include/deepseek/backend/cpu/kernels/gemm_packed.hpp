// SPDX-License-Identifier: Apache-2.0
// C[m, n] = or += A[m, k] B[k, n] where B, a layer's weights, was packed once into panels: [n /
// columns][k][columns]. Same bits as gemm() on the unpacked matrix for every shape. Panels cross
// the memory once; while one is multiplied, the next is fetched. The panels' layout follows the
// instruction set of the build: pack after loading, never store them in a file.
#pragma once

#include <cstddef>
#include <span>

#include "deepseek/backend/cpu/kernels/gemm.hpp"
#include "deepseek/backend/cpu/kernels/panel_tile.hpp"

namespace deepseek::kernels {

template <class T>
constexpr std::ptrdiff_t packed_panels(std::ptrdiff_t n) {
  return (n + panel_size<T>::columns - 1) / panel_size<T>::columns;
}

// Elements that the panels of B[k, n] take.
template <class T>
constexpr std::ptrdiff_t packed_size(std::ptrdiff_t k, std::ptrdiff_t n) {
  return packed_panels<T>(n) * panel_size<T>::columns * k;
}

// Columns n0 .. of one panel. Weights W[n, k] with contiguous rows are B = {W, 1, k}.
template <class T>
void pack_weight_panel(operand<T> b, gemm_shape s, std::ptrdiff_t panel, T* panels) {
  constexpr int columns = panel_size<T>::columns;
  const std::ptrdiff_t j = panel * columns;
  const auto there = static_cast<int>(std::min<std::ptrdiff_t>(columns, s.n - j));
  pack_panel<T, columns>(b.from(0, j), s.k, there, panels + j * s.k);
}

template <class T>
void pack_weights(thread_pool& pool, operand<T> b, gemm_shape s, T* panels) {
  pool.parallel(packed_panels<T>(s.n),
                [&](std::ptrdiff_t p) { pack_weight_panel(b, s, p, panels); });
}

template <class T>
struct packed_problem {
  gemm_shape shape;
  operand<T> a;
  const T* panels;
  gemm_output<T> c;
};

// One strip fetches ahead in its panel; of several the first ones fetch the next panel.
template <class T>
fetch_plan fetch_for(const T* panel, std::ptrdiff_t panel_elements, std::ptrdiff_t steps,
                     const row_strips<T>& strips, std::ptrdiff_t strip, bool last_panel) {
  constexpr std::ptrdiff_t step_bytes = panel_size<T>::columns * sizeof(T);
  const char* const here = reinterpret_cast<const char*>(panel);
  if (strips.count == 1) return {most_fetched_lines, here + stream_ahead(strips.m <= 2)};
  const char* const next = here + panel_elements * static_cast<std::ptrdiff_t>(sizeof(T));
  const std::ptrdiff_t sharing = fetching_strips(strips.count);
  if (step_bytes > sharing * line_bytes) {
    return {last_panel || strip > 0 ? 0 : most_fetched_lines, next};
  }
  if (last_panel || strip >= sharing) return {0, here};
  return {1, next + strip * (steps * step_bytes / sharing), step_bytes / sharing};
}

// On the calling thread.
template <class T>
void tile_gemm_packed(const packed_problem<T>& p, gemm_part part) {
  constexpr std::ptrdiff_t columns = panel_size<T>::columns;
  const row_strips<T> strips(part.m1 - part.m0);
  const std::ptrdiff_t depth = p.shape.k, panel = depth * columns;
  const std::ptrdiff_t most_k =
      strips.count == 1 ? std::max<std::ptrdiff_t>(depth, 1) : panel_depth<T>;
  const gemm_output<T> c = p.c.at(part.m0, part.n0);
  tile_operands<T> o{};
  o.c_row = c.row, o.from = c.from, o.b_step = columns;
  for (std::ptrdiff_t k0 = 0; k0 == 0 || k0 < depth; k0 += most_k) {
    o.steps = std::min(most_k, depth - k0);
    const strips_of<T> a(p.a.from(part.m0, k0), strips.m, o.steps);
    for (std::ptrdiff_t n0 = part.n0; n0 < part.n1; n0 += columns) {
      const auto n = static_cast<int>(std::min(columns, part.n1 - n0));
      const bool last = n0 + columns >= part.n1;
      o.b = p.panels + n0 / columns * panel + k0 * columns;
      o.c = c.data + n0 - part.n0;
      multiply_rows(a, o, n, [&](std::ptrdiff_t strip) {
        return fetch_for(o.b, panel, o.steps, strips, strip, last);
      });
      if (k0 + o.steps >= depth) {
        finish(o.c, c.row, strips.m, n, c.then.from(0, n0 - part.n0));
      }
    }
    o.from = start::from_c;
  }
}

template <class T>
gemm_split split_of(const packed_problem<T>& p, std::ptrdiff_t wanted) {
  return split_of(row_strips<T>(p.shape.m).count, packed_panels<T>(p.shape.n), wanted);
}

template <class T>
void run_part(const packed_problem<T>& p, gemm_split split, std::ptrdiff_t task) {
  constexpr gemm_shape tile{panel_size<T>::rows, panel_size<T>::columns, 0};
  tile_gemm_packed(p, part_of(p.shape, tile, split, task));
}

template <class T>
void gemm_packed(thread_pool& pool, const packed_problem<T>& p) {
  if (p.shape.m <= 0 || p.shape.n <= 0) return;
  if (runs_serially(pool, p.shape)) return tile_gemm_packed(p, {0, p.shape.m, 0, p.shape.n});
  const gemm_split split = split_of(p, 4 * pool.threads());
  pool.parallel(split.rows * split.columns, [&](std::ptrdiff_t task) { run_part(p, split, task); });
}

// Independent products in one parallel region: the segments of experts.
template <class T>
void gemm_packed(thread_pool& pool, std::span<const packed_problem<T>> problems) {
  const std::ptrdiff_t wanted = parts_each(pool, problems.size());
  const auto split = [&](const packed_problem<T>& p) {
    return runs_serially(pool, p.shape) ? gemm_split{1, 1} : split_of(p, wanted);
  };
  std::ptrdiff_t tasks = 0;
  for (const auto& p : problems) tasks += split(p).rows * split(p).columns;
  pool.parallel(tasks, [&](std::ptrdiff_t task) {
    for (const auto& p : problems) {
      const gemm_split parts = split(p);
      if (task < parts.rows * parts.columns) return run_part(p, parts, task);
      task -= parts.rows * parts.columns;
    }
  });
}

}  // namespace deepseek::kernels
