// SPDX-License-Identifier: Apache-2.0
// coded_product: y = x W^T + bias for weights that are stored as codes (coded_weights.hpp) or plain
// (plain_weights.hpp), rows by experts or all of one. The sum over k is cut into slabs of 128,
// added in their order. 16-bit rows of whole packets of 16 bytes run on tensor cores
// (tensor_product.hpp). Else (float, odd sizes, f64) inside a slab stands a chain of fused
// multiply-adds over k, in two kernels that both keep to it, so a row has the same bits in every
// batch, on every device, and whichever of them runs:
//   few_rows   up to 8 rows of an expert: the weights stream through once, 16 bytes a load, warps
//              split k, no shared memory but for the slabs' sums
//   tiles      64 x 64 of y by 256 threads, k in steps of 32 through shared memory
// Numbers are widened to accumulate_t of y. Speed on hardware is unproven.
#pragma once

#include "deepseek/backend/cuda/block_place.hpp"
#include "deepseek/backend/cuda/coded_weights.hpp"
#include "deepseek/backend/cuda/row_tiles.hpp"
#include "deepseek/backend/cuda/tensor_product.hpp"

#include <cmath>

namespace deepseek {

namespace cuda_coded {

template <class Form, class X, class Y, class Bias, class Offsets>
struct problem {
  using form_type = Form;
  using x_type = typename X::value_type;
  using y_type = typename Y::value_type;
  using Acc = accumulate_t<typename Y::value_type>;
  X x;
  Form w;
  Y y;
  Bias bias;           // null data: none
  Offsets offsets;     // of the experts' rows; [0]: one has all
  fault_place faults;  // null: nothing was checked before
  bool x_whole;        // rows of x may be read 16 bytes at a time
  bool y_whole;        // and rows of y written

  DEEPSEEK_HOST_DEVICE row_tiles<Offsets> cut(index_t tile) const {
    return {offsets, y.extent(0), tile};
  }
  DEEPSEEK_HOST_DEVICE index_t slabs() const { return (w.in + slab - 1) / slab; }
  DEEPSEEK_HOST_DEVICE bool stopped() const { return faults.at != nullptr && faults.found(); }
  DEEPSEEK_HOST_DEVICE Acc biased(index_t n, Acc sum) const {
    return bias.data() != nullptr ? sum + static_cast<Acc>(bias(n)) : sum;
  }
  DEEPSEEK_HOST_DEVICE void store(index_t m, index_t n, Acc sum) const {
    if (bias.data() != nullptr) sum += static_cast<Acc>(bias(n));
    y(m, n) = static_cast<typename Y::value_type>(sum);
  }
};

// x[m, k .. k + Count - 1], of which `left` exist; zeros behind them.
template <int Count, class P>
DEEPSEEK_HOST_DEVICE void load_row(const P& p, index_t m, index_t k, index_t left,
                                   typename P::Acc (&to)[Count]) {
  if (p.x_whole && left >= Count) {
    load_elements<Count>(&p.x(m, k), to);
  } else {
    auto* from = &p.x(m, k);
#if defined(__CUDA_ARCH__)
    asm volatile("" : "+l"(from));  // or addresses of all rows are kept in registers, and spill
#endif
    for (int i = 0; i < Count; ++i) {
      to[i] = i < left ? static_cast<typename P::Acc>(from[i * p.x.stride(1)]) : typename P::Acc(0);
    }
  }
}

template <class P, int Rows>
struct few_rows {
  using Acc = typename P::Acc;
  using form = typename P::form_type;
  static constexpr int threads = 256, warps = threads / warp_size;
  static constexpr int across = 4, along = warp_size / across;  // lanes: outputs, slabs
  static constexpr int width = across * form::columns;          // outputs of a warp
  static constexpr int outputs = warps * width * Rows;          // of a block, at most
  static constexpr int owned = (outputs + threads - 1) / threads;
  P p;
  int deep;  // warps along k, a divisor of 8; the others stand side by side

  DEEPSEEK_HOST_DEVICE int block_width() const { return warps / deep * width; }
  index_t blocks() const { return p.cut(Rows).slots() * blocks_of(p.w.out, block_width()); }
  static std::size_t shared_bytes() { return warp_size * 2 * width * Rows * sizeof(Acc); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if (p.stopped()) return;
    const block_place place(block, p.cut(Rows).slots());
    const row_tile at = p.cut(Rows).find(block, place.slot);
    if (at.empty()) return;
    const index_t n0 = static_cast<index_t>(place.across) * block_width();
    const int group = block.lane() / across + block.warp() % deep * along;
    const int column = block.warp() / deep * width + block.lane() % across * form::columns;
    Acc* const sums = reinterpret_cast<Acc*>(block.shared());
    Acc totals[owned] = {};
    const int round = deep * along;
    for (index_t first = 0; first < p.slabs(); first += round) {
      Acc inner[Rows][form::columns] = {};
      if (first + group < p.slabs()) add_slab(at, n0 + column, (first + group) * slab, inner);
      unrolled<Rows>([&](int r) {
        for (int c = 0; c < form::columns; ++c) {
          sums[(group * Rows + r) * block_width() + column + c] = inner[r][c];
        }
      });
      block.sync();
      add_round(block, at, n0, first, totals, sums);
      block.sync();
    }
    for (int i = 0; i < owned; ++i) {
      const int out = block.rank() + i * threads;
      const index_t m = at.first + out / block_width(), n = n0 + out % block_width();
      if (m < at.end && n < p.w.out) p.store(m, n, totals[i]);
    }
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void add_round(const Block& block, const row_tile& at, index_t n0,
                                      index_t first, Acc (&totals)[owned], const Acc* sums) const {
    const index_t left = p.slabs() - first, round = deep * along;
    const int count = static_cast<int>(left < round ? left : round);
    for (int i = 0; i < owned; ++i) {
      const int out = block.rank() + i * threads;
      const index_t m = at.first + out / block_width(), n = n0 + out % block_width();
      if (m >= at.end || n >= p.w.out) continue;
      for (int s = 0; s < count; ++s) {
        totals[i] =
            p.w.added(totals[i], sums[s * Rows * block_width() + out], at.group, m, n, first + s);
      }
    }
  }

  // The sums of one slab for the outputs n .. n + columns - 1 and the rows of the slot; rows that
  // are missing repeat the last.
  DEEPSEEK_HOST_DEVICE void add_slab(const row_tile& at, index_t n, index_t k0,
                                     Acc (&inner)[Rows][form::columns]) const {
    if (n >= p.w.out) n = (p.w.out - 1) / form::columns * form::columns;
    for (index_t k = k0; k < k0 + slab && k < p.w.in; k += scale_steps) {
      add_steps(at, n, k, inner);
    }
  }
  DEEPSEEK_HOST_DEVICE void add_steps(const row_tile& at, index_t n, index_t k0,
                                      Acc (&inner)[Rows][form::columns]) const {
    constexpr int units = scale_steps / form::steps;
    const auto group = p.w.group(at.group, n, k0);
    const index_t left = p.w.in - k0;
    if (left >= scale_steps) {
      decltype(p.w.load(0, n, k0)) packets[units];
      for (int u = 0; u < units; ++u) packets[u] = p.w.load(at.group, n, k0 + u * form::steps);
#if defined(__CUDA_ARCH__)
#pragma unroll 1  // rows of several units at once would spill registers
#endif
      for (int u = 0; u < units; ++u) {
        Acc values[form::columns][form::steps];
        p.w.decode(packets[0], group, values);
        add_unit(at, k0 + u * form::steps, values, form::steps, inner);
        unrolled<units - 1>([&](int i) { packets[i] = packets[i + 1]; });
      }
    } else {
      for (index_t k = k0; k < p.w.in; k += form::steps) {
        Acc values[form::columns][form::steps];
        p.w.decode(p.w.load(at.group, n, k), group, values);
        const index_t rest = p.w.in - k;
        const int count = rest < form::steps ? static_cast<int>(rest) : form::steps;
        add_unit(at, k, values, count, inner);
      }
    }
  }
  DEEPSEEK_HOST_DEVICE void add_unit(const row_tile& at, index_t k,
                                     const Acc (&values)[form::columns][form::steps], int count,
                                     Acc (&inner)[Rows][form::columns]) const {
    unrolled<Rows>([&](int r) {
      Acc x[form::steps];
      const index_t m = at.first + r < at.end ? at.first + r : at.end - 1;
      load_row(p, m, k, count, x);
      for (int i = 0; i < form::steps; ++i) {
        for (int c = 0; c < form::columns; ++c) {
          if (i < count) inner[r][c] = std::fma(x[i], values[c][i], inner[r][c]);
        }
      }
    });
  }
};

template <class P>
struct tiles {
  using Acc = typename P::Acc;
  using form = typename P::form_type;
  static constexpr int threads = 256, tile = 64, step = scale_steps, each = 4;
  static constexpr int pitch = tile + each;
  P p;

  index_t blocks() const { return p.cut(tile).slots() * blocks_of(p.w.out, tile); }
  static std::size_t shared_bytes() { return 2 * step * pitch * sizeof(Acc); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if (p.stopped()) return;
    const block_place place(block, p.cut(tile).slots());
    const row_tile at = p.cut(tile).find(block, place.slot);
    if (at.empty()) return;
    const index_t n0 = place.across * tile;
    Acc* const xs = reinterpret_cast<Acc*>(block.shared());  // [step][pitch]: k by m
    Acc* const ws = xs + step * pitch;                       // [step][pitch]: k by n
    const int row = block.rank() / (tile / each) * each;
    const int column = block.rank() % (tile / each) * each;
    Acc totals[each][each] = {};
    for (index_t s = 0; s < p.slabs(); ++s) {
      Acc inner[each][each] = {};
      for (index_t k0 = s * slab; k0 < (s + 1) * slab && k0 < p.w.in; k0 += step) {
        load_rows(block, at, k0, xs);
        load_weights(block, at.group, n0, k0, ws);
        block.sync();
        const index_t left = p.w.in - k0;
        add_step(xs + row, ws + column, left < step ? static_cast<int>(left) : step, inner);
        block.sync();
      }
      for (int i = 0; i < each; ++i) {
        for (int j = 0; j < each; ++j) {
          const index_t m = at.first + row + i, n = n0 + column + j;
          if (m >= at.end || n >= p.w.out) continue;
          totals[i][j] = p.w.added(totals[i][j], inner[i][j], at.group, m, n, s);
        }
      }
    }
    for (int i = 0; i < each; ++i) {
      for (int j = 0; j < each; ++j) {
        const index_t m = at.first + row + i, n = n0 + column + j;
        if (m < at.end && n < p.w.out) p.store(m, n, totals[i][j]);
      }
    }
  }

  DEEPSEEK_HOST_DEVICE static void add_step(const Acc* xs, const Acc* ws, int steps,
                                            Acc (&inner)[each][each]) {
    for (int k = 0; k < steps; ++k) {
      Acc x[each], w[each];
      load_elements<each>(xs + k * pitch, x);
      load_elements<each>(ws + k * pitch, w);
      for (int i = 0; i < each; ++i) {
        for (int j = 0; j < each; ++j) inner[i][j] = std::fma(x[i], w[j], inner[i][j]);
      }
    }
  }
  // Rows that are missing stay what they are: their sums are never stored.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void load_rows(const Block& block, const row_tile& at, index_t k0,
                                      Acc* xs) const {
    constexpr int run = step * tile / threads;
    const int m = block.rank() / (step / run), k = block.rank() % (step / run) * run;
    if (at.first + m >= at.end) return;
    Acc values[run];
    load_row(p, at.first + m, k0 + k, p.w.in - k0 - k, values);
    for (int i = 0; i < run; ++i) xs[(k + i) * pitch + m] = values[i];
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void load_weights(const Block& block, index_t e, index_t n0, index_t k0,
                                         Acc* ws) const {
    constexpr int wide = tile / form::columns, units = wide * (step / form::steps);
    for (int u = block.rank(); u < units; u += threads) {
      const int n = u % wide * form::columns, k = u / wide * form::steps;
      if (n0 + n >= p.w.out || k0 + k >= p.w.in) continue;
      Acc values[form::columns][form::steps];
      p.w.decode(p.w.load(e, n0 + n, k0 + k), p.w.group(e, n0 + n, k0), values);
      for (int c = 0; c < form::columns; ++c) {
        for (int i = 0; i < form::steps; ++i) ws[(k + i) * pitch + n + c] = values[c][i];
      }
    }
  }
};

template <class B, class P, int Rows>
void run_few_rows(const B& b, const P& p) {
  constexpr index_t each = few_rows<P, Rows>::along;
  int deep = 1;
  while (deep < few_rows<P, Rows>::warps && deep * each < p.slabs()) deep *= 2;
  b.launch(few_rows<P, Rows>{p, deep});
}

template <class B, class P>
void run_product(const B& b, const P& p) {
  if (cuda_tensor::run_product(b, p)) return;
  const index_t rows = p.y.extent(0), experts = p.cut(1).groups();
  const index_t most = p.offsets.extent(0) == 0 ? 32 : 8 * experts;
  if constexpr (P::form_type::single_rows) {
    if (rows <= experts && rows <= most) return run_few_rows<B, P, 1>(b, p);
  }
  if (rows > most) {
    b.launch(tiles<P>{p});
  } else if (rows <= 2 * experts) {
    run_few_rows<B, P, 2>(b, p);
  } else if (rows <= 4 * experts) {
    run_few_rows<B, P, 4>(b, p);
  } else {
    run_few_rows<B, P, 8>(b, p);
  }
}

template <class X>
bool rows_are_whole(const X& x) {
  constexpr auto bytes = static_cast<index_t>(sizeof(typename X::value_type));
  return x.stride(1) == 1 && begins_at_packet(x.data()) && x.stride(0) * bytes % packet_bytes == 0;
}

// offsets: of the experts, or {}: one has all rows; or counted_groups.
template <class B>
using offsets_view = view<const std::int32_t, typename B::space, dyn>;

// Offsets of every extent share one function.
template <class B, class Offsets>
auto groups_of(const Offsets& offsets) {
  if constexpr (std::is_convertible_v<Offsets, offsets_view<B>>) {
    return offsets_view<B>(offsets);
  } else {
    return offsets;
  }
}

// run(problem) of these operands.
template <class B, class X, class Form, class Offsets, class Y, class Bias, class Run>
auto with_problem(const X& x, const Form& w, const Offsets& offsets, const Y& y, const Bias& bias,
                  fault_place faults, const Run& run) {
  using S = typename B::space;
  using x_view = view<const typename X::value_type, S, dyn, dyn>;
  using y_view = view<typename Y::value_type, S, dyn, dyn>;
  const auto groups = groups_of<B>(offsets);
  const auto with = [&](const auto& add) {
    using bias_view = std::remove_cvref_t<decltype(add)>;
    return run(problem<Form, x_view, y_view, bias_view, std::remove_const_t<decltype(groups)>>{
        x, w, y, add, groups, faults, rows_are_whole(x), rows_are_whole(y)});
  };
  if constexpr (std::is_same_v<Bias, none>) {
    return with(view<const typename Y::value_type, S, dyn>{});
  } else {
    return with(view<const typename Bias::value_type, S, dyn>(bias));
  }
}

template <class B, class X, class Form, class Y, class Bias, class Offsets = offsets_view<B>>
void coded_product(const B& b, const X& x, const Form& w, const Offsets& offsets, const Y& y,
                   const Bias& bias, fault_place faults = {}) {
  with_problem<B>(x, w, offsets, y, bias, faults, [&](const auto& p) { run_product(b, p); });
}
// On tensor cores, where those can: false, and nothing is done, otherwise.
template <class B, class X, class Form, class Y, class Offsets>
bool tensor_product(const B& b, const X& x, const Form& w, const Offsets& offsets, const Y& y) {
  return with_problem<B>(x, w, offsets, y, none{}, {},
                         [&](const auto& p) { return cuda_tensor::run_product(b, p); });
}

}  // namespace cuda_coded

}  // namespace deepseek
