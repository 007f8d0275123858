// SPDX-License-Identifier: Apache-2.0
// Keys and values of a tile where they stand, for as few rows as a decoding step has: each is read
// once, so a packed copy would cost more than the products. Keys turn in registers (kernels/
// turned_rows.hpp); values are read row by row, two rows of bf16 interleaved in registers where
// pairs are multiplied. The sums are those of packed tiles, bit for bit. Meanwhile the rows that
// come a tile later are asked for. Any stride between rows; of pages each is a run of its own.
#pragma once

#include "deepseek/backend/cpu/attention/pack.hpp"
#include "deepseek/backend/cpu/attention/tiles.hpp"
#include "deepseek/backend/cpu/kernels/scratch.hpp"
#include "deepseek/backend/cpu/kernels/turned_rows.hpp"

#include <cstdint>
#include <span>

namespace deepseek::cpu_attention {

// Some rows of a query tile and one key tile; scores s and weights p: [rows][64].
template <class Form>
struct strip_of {
  using element = typename Form::element;
  using sum = typename Form::sum;
  const element* q;
  index_t q_row;
  const element* tile;
  index_t d, dv;
  sum* s;
  element* p;
  sum* o;
  index_t o_row, rows;
  key_range keys;  // what some row sees

  // `keys` in whole registers.
  key_range registers() const { return {keys.low / lanes<sum> * lanes<sum>, keys.high}; }
  std::span<sum> o_of(index_t r) const {
    return {o + r * o_row, static_cast<std::size_t>(round_up(dv, lanes<sum>))};
  }
};

// What is asked for while a tile is computed: the next one's keys and values, of all heads that a
// thread goes through with it.
struct coming_tile {
  kernels::line_order keys, values;

  static kernels::line_order* keys_of(key_tile_of at) {
    return at.coming == nullptr ? nullptr : &at.coming->keys;
  }
  static kernels::line_order* values_of(key_tile_of at) {
    return at.coming == nullptr ? nullptr : &at.coming->values;
  }
};

// Rows of one head that stand at one distance, in bytes. What is asked for meanwhile: order, or the
// row `ahead` bytes from each, which is read a tile later (0 where there is none).
struct row_run {
  const std::byte* first;
  index_t row, count, ahead;
  kernels::line_order* order = nullptr;

  const std::byte* at(index_t i) const { return first + i * row; }
};

// f(j, run) for the runs of `keys` of a tile, ascending; j: the run's first key, of the tile.
template <class View, class F>
void for_each_run(const View& v, const attention_range& range, key_tile_of at, key_range keys,
                  kernels::line_order* order, F f) {
  const auto place = [&](index_t j) {
    return reinterpret_cast<const std::byte*>(row_of(v, range.key_row(at.k0 + j), at.kv).data);
  };
  const index_t row = v.stride(0) * static_cast<index_t>(sizeof(typename View::value_type));
  const index_t high = std::min(keys.high, range.keys - at.k0);
  for (index_t j = keys.low, count; j < high; j += count) {
    count = std::min(high - j, range.run_of_keys(at.k0 + j));
    const std::byte* const first = place(j);
    const bool more = at.k0 + j + key_tile < range.keys;
    f(j, row_run{first, row, count, more ? place(j + key_tile) - first : 0, order});
  }
}

// Runs hold whole registers of keys, up to the last.
template <class T>
bool runs_fit(const attention_range& range) {
  return range.pages.size % lanes<T> == 0;
}

// The largest compiled number of rows that is at most `left`: nothing beyond is read.
template <class T>
constexpr index_t exact_rows(index_t left) {
  constexpr index_t most = strip_rows<T>;
  if (left >= most) return most;
  return most > 8 && left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

// f(j, run) for the keys of a tile in runs of next(how many are left), as the rows of products.
template <class View, class Next, class F>
void for_each_strip(const View& v, const attention_range& range, key_tile_of at, Next next, F f) {
  for_each_run(v, range, at, {0, key_tile}, nullptr, [&](index_t j, const row_run& run) {
    for (index_t i = 0, rows; i < run.count; i += rows) {
      rows = next(run.count - i);
      f(j + i, row_run{run.at(i), run.row, rows, run.ahead});
    }
  });
}
// All of a strip at once. Inlined: g++ leaves out calls of what does nothing but this.
DEEPSEEK_INLINE void fetch_strip_after(const row_run& run, index_t bytes) {
  for (index_t r = 0; run.ahead != 0 && r < run.count; ++r) {
    for (index_t c = 0; c < bytes; c += 64) __builtin_prefetch(run.at(r) + run.ahead + c, 0, 2);
  }
}

// Some rows of queries by a run of keys; sums(r, j): those of rows from r on and keys from j on.
template <class Words, class Sums>
void multiply_turned_run(kernels::turned_left queries, index_t rows, const row_run& run,
                         index_t bytes, Sums sums) {
  const kernels::turning_rows keys{run.first, run.row, run.count, bytes, run.ahead, run.order};
  for (index_t r = 0; r < rows; r += kernels::most_turned_rows) {
    queries.rows = static_cast<int>(std::min(rows - r, kernels::most_turned_rows));
    kernels::multiply_turned_rows<Words>(queries, keys, [&](index_t j) { return sums(r, j); });
    queries.a += queries.rows * queries.row;
  }
}

// What one step of the sum over keys is: a value, widened where it is narrow.
template <class T, class E>
struct value_steps {
  using sum = T;
  using weight = T;
  static constexpr index_t keys = 1;
  static constexpr int least = 1;  // registers
  static constexpr index_t column_bytes = lanes<T> * static_cast<index_t>(sizeof(E));

  template <int Vectors>
  static DEEPSEEK_INLINE void load(const std::byte* v, const std::byte*,
                                   simd::vector<T> (&out)[Vectors]) {
    const E* const from = reinterpret_cast<const E*>(v);
    simd::unrolled<Vectors>([&](auto j) __attribute__((always_inline)) {
      if constexpr (std::is_same_v<T, E>) {
        out[j] = simd::pack<T>::load(from + j * lanes<T>).v;
      } else {
        out[j] = simd::load_as_float(from + j * lanes<T>, lanes<T>).v;
      }
    });
  }
  static DEEPSEEK_INLINE simd::vector<T> add(simd::vector<T> acc, const weight* p,
                                             simd::vector<T> v) {
    return simd::native::fma(simd::pack<T>::broadcast(*p).v, v, acc);
  }
};
// The values of two keys by two weights.
struct value_pairs {
  using sum = float;
  using weight = std::uint16_t;
  static constexpr index_t keys = 2;
  static constexpr int least = 2;
  static constexpr index_t column_bytes = simd::register_bytes / 2;

  template <int Vectors>
  static DEEPSEEK_INLINE void load(const std::byte* a, const std::byte* b,
                                   simd::vector<std::int32_t> (&out)[Vectors]) {
    simd::unrolled<Vectors / 2>([&](auto j) __attribute__((always_inline)) {
      __builtin_memcpy(&out[2 * j], a + j * simd::register_bytes, simd::register_bytes);
      __builtin_memcpy(&out[2 * j + 1], b + j * simd::register_bytes, simd::register_bytes);
      simd::interleave_words(out[2 * j], out[2 * j + 1]);
    });
  }
  static DEEPSEEK_INLINE simd::vector<float> add(simd::vector<float> acc, const weight* p,
                                                 simd::vector<std::int32_t> v) {
    std::int32_t two;
    __builtin_memcpy(&two, p, sizeof two);
    return simd::dot_pairs(acc, two - simd::vector<std::int32_t>{}, v);
  }
};

// o [rows][dv] += weights [rows][keys] by the rows of a run.
template <class Step>
struct value_sums {
  const typename Step::weight* p;
  index_t p_row;
  typename Step::sum* o;
  index_t o_row;
  row_run run;  // from the column of o on
};

// `rows` of the compiled ones are there: the last counts again in place of the others.
template <class Step, int Rows, int Vectors>
__attribute__((noinline)) void add_value_rows(const value_sums<Step>& s, index_t rows) {
  using T = typename Step::sum;
  using loaded = std::conditional_t<Step::keys == 2, std::int32_t, T>;
  constexpr index_t w = lanes<T>;
  constexpr index_t bytes = Vectors * Step::column_bytes;
  alignas(simd::register_bytes) static constexpr std::byte nothing[bytes] = {};
  simd::vector<T> acc[Rows * Vectors];
  const typename Step::weight* p[Rows];
  simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
    const index_t row = std::min<index_t>(i, rows - 1);
    p[i] = s.p + row * s.p_row;
    simd::unrolled<Vectors>([&](auto j) __attribute__((always_inline)) {
      acc[i * Vectors + j] = simd::pack<T>::load(s.o + row * s.o_row + j * w).v;
    });
  });
  const std::byte* at = s.run.first;
  kernels::line_order order = s.run.order != nullptr ? *s.run.order : kernels::line_order{};
  for (index_t k = 0; k < s.run.count; k += Step::keys, at += Step::keys * s.run.row) {
    const std::byte* const second = k + 1 < s.run.count ? at + s.run.row : nothing;
    simd::vector<loaded> v[Vectors];
    Step::template load<Vectors>(at, second, v);
    if (s.run.order != nullptr) {
      kernels::fetch_next<Step::keys * bytes>(order);
    } else {
      for (index_t line = 0; line < bytes; line += 64) {
        __builtin_prefetch(at + s.run.ahead + line, 0, 2);
        if constexpr (Step::keys == 2) {
          __builtin_prefetch(at + s.run.row + s.run.ahead + line, 0, 2);
        }
      }
    }
    simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
      simd::unrolled<Vectors>([&](auto j) __attribute__((always_inline)) {
        acc[i * Vectors + j] = Step::add(acc[i * Vectors + j], p[i] + k, v[j]);
      });
    });
  }
  if (s.run.order != nullptr) *s.run.order = order;
  simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
    if (i >= rows) return;
    simd::unrolled<Vectors>([&](auto j) __attribute__((always_inline)) {
      simd::pack<T>{acc[i * Vectors + j]}.store(s.o + i * s.o_row + j * w);
    });
  });
}

// All columns, in registers' size; columns: a multiple of Step::least registers.
template <class Step, int Rows>
void add_value_columns(value_sums<Step> s, index_t rows, index_t columns) {
  constexpr int most = simd::register_count == 32 ? 16 : 8;
  constexpr int vectors = std::max(Step::least, std::min(8, most / Rows));
  constexpr index_t w = lanes<typename Step::sum>;
  for (index_t here; columns > 0; columns -= here * w) {
    here = columns >= vectors * w ? vectors : Step::least;
    if (here == vectors) {
      add_value_rows<Step, Rows, vectors>(s, rows);
    } else {
      add_value_rows<Step, Rows, Step::least>(s, rows);
    }
    s.o += here * w;
    s.run.first += here * Step::column_bytes;
  }
}
template <class Step>
void add_values_of(value_sums<Step> s, index_t rows, index_t columns) {
  for (index_t here; rows > 0; rows -= here, s.p += here * s.p_row, s.o += here * s.o_row) {
    here = std::min<index_t>(rows, 8);
    if (here == 1) add_value_columns<Step, 1>(s, here, columns);
    if (here == 2) add_value_columns<Step, 2>(s, here, columns);
    if (here > 2 && here <= 4) add_value_columns<Step, 4>(s, here, columns);
    if (here > 4) add_value_columns<Step, 8>(s, here, columns);
  }
}

// No NaN and no infinity among `columns` of the values, from the one at run.first on.
template <class T, class E>
bool values_finite_in(const row_run& run, index_t columns) {
  using step = value_steps<T, E>;
  auto sum = simd::pack<T>::zero();
  for (index_t j = 0; j < run.count; ++j) {
    for (index_t c = 0; c < columns; c += lanes<T>) {
      simd::vector<T> v[1];
      step::template load<1>(run.at(j) + c / lanes<T> * step::column_bytes, nullptr, v);
      sum = fma(simd::pack<T>{v[0]}, simd::pack<T>::zero(), sum);
    }
  }
  return reduce_sum(sum) == T(0);
}

struct shown_rows;

// A strip's rows by values where they stand.
template <class Step, class View, class Strip>
struct values_in_place {
  using E = typename View::value_type;
  const View& v;
  const attention_range& range;
  key_tile_of tile;
  const Strip& at;       // at.dv columns
  index_t first_column;  // of v

  // In whole steps.
  key_range keys() const {
    return {at.keys.low / Step::keys * Step::keys, round_up(at.keys.high, Step::keys)};
  }
  template <class F>
  void each_run(F f) const {
    for_each_run(v, range, tile, keys(), coming_tile::values_of(tile), [&](index_t j, row_run run) {
      run.first += first_column * static_cast<index_t>(sizeof(E));
      f(j, run);
    });
  }

  // bits: what each row sees; null: all rows see all keys of the tile that there are.
  void add(const std::uint64_t* bits) const {
    if (bits != nullptr && !finite()) {
      for (index_t r = 0; r < at.rows; ++r) add_visible(r, bits[r]);
      return;
    }
    each_run([&](index_t j, const row_run& run) {
      add_values_of<Step>({at.p + j, key_tile, at.o, at.o_row, run}, at.rows, at.dv);
    });
  }

 private:
  bool finite() const {
    bool all = true;
    each_run([&](index_t, const row_run& run) {
      all = all && values_finite_in<typename Step::sum, E>(run, at.dv);
    });
    return all;
  }
  // Row r alone, with zeros in place of the values it does not see.
  void add_visible(index_t r, std::uint64_t bits) const {
    if (bits == 0) return;
    const auto row = static_cast<index_t>(sizeof(E)) * at.dv;
    auto* const shown =
        kernels::scratch<shown_rows, std::byte>(static_cast<std::size_t>(key_tile * row));
    std::fill_n(shown, key_tile * row, std::byte{0});
    index_t last = 0;
    each_run([&](index_t j, const row_run& run) {
      for (index_t i = 0; i < run.count; ++i) {
        if ((bits >> (j + i) & 1U) == 0) continue;
        __builtin_memcpy(shown + (j + i) * row, run.at(i), static_cast<std::size_t>(row));
      }
      last = j + run.count;
    });
    const index_t first = keys().low;
    add_values_of<Step>({at.p + r * key_tile + first,
                         key_tile,
                         at.o + r * at.o_row,
                         at.o_row,
                         {shown + first * row, row, last - first, 0}},
                        1, at.dv);
  }
};

// Whether queries turn, not keys.
template <class Form, class In>
bool queries_turn(index_t rows) {
  constexpr index_t most = Form::always_turns ? 0 : lanes<typename Form::sum> / 2;
  return Form::template turns_queries<In> && rows > most;
}

// The scores of a strip. queries: turned ones, where queries_turn says so.
template <class Form, class In>
void scores_in_place(const In& in, const attention_range& range, key_tile_of tile,
                     const strip_of<Form>& at, const typename Form::element* queries,
                     typename Form::sum scale) {
  using T = typename Form::sum;
  if constexpr (Form::template turns_queries<In>) {
    if (queries_turn<Form, In>(at.rows)) {
      constexpr index_t w = lanes<T>;
      alignas(64) T turned[key_tile * w];
      Form::turned_scores(in, range, tile, queries, scale, turned);
      for (index_t j = 0; j < key_tile; j += w) {
        simd::pack<T> block[w];
        for (index_t i = 0; i < w; ++i) block[i] = simd::pack<T>::load(turned + (j + i) * w);
        simd::transpose(block);
        for (index_t i = 0; i < at.rows; ++i) block[i].store(at.s + i * key_tile + j);
      }
      return;
    }
  }
  Form::scores_in_place(in, range, tile, at, scale);
}

}  // namespace deepseek::cpu_attention
