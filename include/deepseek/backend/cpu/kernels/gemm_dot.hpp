// SPDX-License-Identifier: Apache-2.0
// C = A B over narrow weights by the tiles of dot_tile.hpp. One panel of B meets all rows of A (at
// most most_dot_rows of them) before the next: weights cross the memory once for so many rows, and
// while a panel is multiplied the next one is fetched. A problem P has
//   form, shape; left(m): row m of A in steps, row_bytes(): from row to row
//   weights(n0, k0, steps): those steps of the panel that begins at column n0, weight_step(n0):
//   bytes from one to the next
//   fetches: whether memory has to bring them; stored(n0, k0): from where, stored_step(n0) bytes a
//   step
//   widened(): the same problem where many rows meet a panel, if that is another one
//   open(m0, m1, n0, n): where the sums of these rows and n columns go: .sums(row, k0) for
//   multiply_dots, .close() when all of k was added
// and what gemm_tiles.hpp says where its form is one of whole tiles.
// k in steps of the form. The order of every sum is that of k: same bits for all cuts and thread
// counts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "deepseek/backend/cpu/kernels/dot_tile.hpp"
#include "deepseek/backend/cpu/kernels/fetch.hpp"
#include "deepseek/backend/cpu/kernels/gemm.hpp"
#include "deepseek/backend/cpu/kernels/gemm_tiles.hpp"
#include "deepseek/backend/cpu/thread_pool.hpp"

namespace deepseek::kernels {

// One strip fetches ahead of itself; of two or more the first ones fetch what comes next, `stored`
// bytes a step in all, in equal shares of at most a cache line a step.
template <class Form>
line_fetch dot_fetch(const dot_operands& o, std::ptrdiff_t rows, std::ptrdiff_t strip,
                     const std::byte* next, std::ptrdiff_t stored) {
  const std::ptrdiff_t strips = dot_strips<Form>(rows);
  if (strips == 1) {
    const std::ptrdiff_t ahead = rows <= 4 ? Form::few_ahead : stream_ahead(false);
    return {dot_size<Form>::lines, o.b + ahead, o.b_step};
  }
  if (next == nullptr) return {};
  constexpr bool few_ask = simd::register_count == 32;
  const std::ptrdiff_t sharing = few_ask ? narrow_fetching_strips(strips) : fetching_strips(strips);
  if (stored <= sharing * line_bytes) {
    if (strip >= sharing) return {};
    return {1, next + strip * (o.steps * stored / sharing), stored / sharing};
  }
  constexpr int lines = dot_size<Form>::lines;
  return strip == 0 ? line_fetch{lines, next, o.b_step} : line_fetch{};
}

// What the memory has to bring after these steps.
template <class P>
const std::byte* dot_next(const P& p, gemm_part part, std::ptrdiff_t n0, std::ptrdiff_t k1) {
  constexpr std::ptrdiff_t columns = dot_size<typename P::form>::columns;
  if (k1 < dot_steps<typename P::form>(p.shape.k)) return p.stored(n0, k1);
  return n0 + columns < part.n1 ? p.stored(n0 + columns, 0) : nullptr;
}

// Steps k0 .. of one panel against rows m0 .. m1; o: the panel.
template <class P, class Target>
void multiply_dot_panel(const P& p, gemm_part rows, std::ptrdiff_t k0, dot_operands o,
                        const std::byte* next, const Target& target) {
  using form = typename P::form;
  std::ptrdiff_t strip = 0;
  for (std::ptrdiff_t m = rows.m0; m < rows.m1; ++strip) {
    const int height = dot_rows<form>(rows.m1 - m);
    o.a = p.left(m) + k0 * dot_size<form>::left_bytes;
    o.missing = static_cast<int>(std::max<std::ptrdiff_t>(height - (rows.m1 - m), 0));
    line_fetch fetch;
    if constexpr (P::fetches) {
      fetch = dot_fetch<form>(o, rows.m1 - rows.m0, strip, next, p.stored_step(rows.n0));
    }
    multiply_dots<form>(height, o, fetch, target.sums(m - rows.m0, k0));
    m += height;
  }
}

template <class P>
void multiply_dot_panels(const P& p, gemm_part part) {
  using form = typename P::form;
  constexpr std::ptrdiff_t columns = dot_size<form>::columns;
  const std::ptrdiff_t steps = dot_steps<form>(p.shape.k);
  dot_operands o{};
  o.a_row = p.row_bytes();
  const std::ptrdiff_t block = dot_block(part.m1 - part.m0);
  for (std::ptrdiff_t m0 = part.m0; m0 < part.m1; m0 += block) {
    const std::ptrdiff_t m1 = std::min(part.m1, m0 + block);
    for (std::ptrdiff_t n0 = part.n0; n0 < part.n1; n0 += columns) {
      const auto target = p.open(m0, m1, n0, std::min(columns, part.n1 - n0));
      for (std::ptrdiff_t k0 = 0; k0 == 0 || k0 < steps;) {
        o.steps = std::min(form::chunk, steps - k0);
        o.b = p.weights(n0, k0, o.steps), o.b_step = p.weight_step(n0);
        const std::byte* next = nullptr;
        if constexpr (P::fetches) next = dot_next(p, part, n0, k0 + o.steps);
        multiply_dot_panel(p, {m0, m1, n0, 0}, k0, o, next, target);
        k0 += std::max<std::ptrdiff_t>(o.steps, 1);
      }
      target.close();
    }
  }
}

template <class P>
void multiply_dot_part(const P& p, gemm_part part) {
  if constexpr (TiledForm<typename P::form>) {
    multiply_tile_part(p, part);
  } else {
    if constexpr (requires { p.widened(); }) {
      if (dot_strips<typename P::form>(part.m1 - part.m0) >= P::form::widened_strips) {
        return multiply_dot_panels(p.widened(), part);
      }
    }
    multiply_dot_panels(p, part);
  }
}

template <class P>
gemm_split dot_split(const P& p, std::ptrdiff_t wanted) {
  constexpr std::ptrdiff_t rows = P::form::rows, columns = dot_size<typename P::form>::columns;
  return split_of((p.shape.m + rows - 1) / rows, (p.shape.n + columns - 1) / columns, wanted);
}
template <class P>
void run_dot_part(const P& p, gemm_split split, std::ptrdiff_t task) {
  constexpr gemm_shape tile{P::form::rows, dot_size<typename P::form>::columns, 0};
  multiply_dot_part(p, part_of(p.shape, tile, split, task));
}
template <class P>
bool dots_run_serially(const thread_pool& pool, const P& p) {
  return runs_serially(pool, {p.shape.m, p.shape.n, p.shape.k / P::form::steps});
}

template <class P>
void gemm_dot(thread_pool& pool, const P& p) {
  if (p.shape.m <= 0 || p.shape.n <= 0) return;
  if (dots_run_serially(pool, p)) return multiply_dot_part(p, {0, p.shape.m, 0, p.shape.n});
  const gemm_split split = dot_split(p, 4 * pool.threads());
  pool.parallel(split.rows * split.columns,
                [&](std::ptrdiff_t task) { run_dot_part(p, split, task); });
}

// Independent products in one parallel region: the segments of experts.
template <class P>
void gemm_dot(thread_pool& pool, std::span<const P> problems) {
  const std::ptrdiff_t wanted = parts_each(pool, problems.size());
  const auto split = [&](const P& p) {
    return dots_run_serially(pool, p) ? gemm_split{1, 1} : dot_split(p, wanted);
  };
  std::ptrdiff_t tasks = 0;
  for (const P& p : problems) tasks += split(p).rows * split(p).columns;
  pool.parallel(tasks, [&](std::ptrdiff_t task) {
    for (const P& p : problems) {
      const gemm_split parts = split(p);
      if (task < parts.rows * parts.columns) return run_dot_part(p, parts, task);
      task -= parts.rows * parts.columns;
    }
  });
}

}  // namespace deepseek::kernels
