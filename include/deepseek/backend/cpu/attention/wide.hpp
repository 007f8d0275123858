// SPDX-License-Identifier: Apache-2.0
// What forward multiplies: two forms of the operands of a strip of rows, with the same functions.
// This one: everything in the type of the sums, float or double; 16-bit elements are widened when
// they are packed. The other: pairs.hpp.
#pragma once

#include "deepseek/backend/cpu/attention/pack.hpp"
#include "deepseek/backend/cpu/attention/softmax.hpp"

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

  std::span<sum> o_of(index_t r) const {
    return {o + r * o_row, static_cast<std::size_t>(round_up(dv, lanes<sum>))};
  }
};

// The largest compiled number of rows that is at most `left`: nothing beyond is read.
template <class T>
constexpr index_t exact_rows(index_t left) {
  constexpr index_t most = strip_rows<T>;
  if (left >= most) return most;
  return most > 8 && left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

// Towards the cache: rows that stand a tile further on (beyond the last one it does nothing).
template <class E>
void fetch_rows(const E* first, index_t row, index_t rows, index_t width) {
  constexpr index_t line = 64 / static_cast<index_t>(sizeof(E));
  for (index_t i = 0; i < rows; ++i) {
    for (index_t c = 0; c < width; c += line) __builtin_prefetch(first + i * row + c, 0, 2);
  }
}

template <class T>
struct wide_form {
  using sum = T;
  using element = T;
  using strip = strip_of<wide_form>;

  static index_t query_row(index_t d) { return row_size<T>(d); }
  // Of a packed key tile: keys turned, [d][64], and values, [64][dv].
  static index_t tile_size(index_t d, index_t dv) {
    return key_tile * (d + round_up(dv, panel<T>));
  }
  static T* values_of(T* tile, index_t d) { return tile + key_tile * d; }
  static const T* values_of(const T* tile, index_t d) { return tile + key_tile * d; }

  template <class In>
  static void pack(const In& in, const attention_range& range, key_tile_of at, T* to) {
    const index_t count = std::min(key_tile, range.keys - at.k0), d = in.k.extent(2);
    T* const values = values_of(to, d);
    if (range.run_of_keys(at.k0) >= count) {
      const index_t row = range.key_row(at.k0);
      pack_columns(in.k, row, at.kv, count, to);
      pack_rows(in.v, row, at.kv, count, key_tile, values);
      return;
    }
    std::fill_n(to, round_up(count, panel<T>) * d, T(0));
    for (index_t j = 0; j < count; ++j) {
      const index_t row = range.key_row(at.k0 + j);
      pack_column(row_of(in.k, row, at.kv), d, j, to);
      pack_rows(in.v, row, at.kv, 1, key_tile, values + j * panel<T>);
    }
  }
  // A row of queries, times the scale.
  template <class E>
  static void read_query(strided_row<const E> from, index_t d, T scale, T* to) {
    read_row<T>(from, d, to);
    for (index_t c = 0; c < d; ++c) to[c] *= scale;
  }

  static void scores(const strip& at, T) {
    const product<T> p{at.q, at.q_row, 1, at.tile, at.d, at.d, at.s, key_tile};
    multiply_strip(p, at.rows, at.keys.low, at.keys.high, kernels::start::zero);
  }

  // Few rows: keys are the rows of the product and are read where they stand, queries its columns,
  // turned: [d][a register]. The same chains.
  template <class In>
  static constexpr bool as_they_are = std::is_same_v<typename decltype(In::k)::value_type, T>&&
      std::is_same_v<typename decltype(In::v)::value_type, T>;
  template <class In>
  static bool in_place(const In& in, const attention_range& range, index_t k0) {
    return in.k.stride(2) == 1 && in.v.stride(2) == 1 && in.v.extent(2) % lanes<T> == 0 &&
           range.run_of_keys(k0) >= std::min(key_tile, range.keys - k0);
  }
  static index_t turned_size(index_t d) { return d * lanes<T>; }
  static void turn_queries(const strip& at, T* turned) {
    for (index_t c = 0; c < at.d; ++c) {
      for (index_t r = 0; r < lanes<T>; ++r) {
        turned[c * lanes<T> + r] = r < at.rows ? at.q[r * at.q_row + c] : T(0);
      }
    }
  }
  template <class In>
  static void turned_scores(const In& in, const attention_range& range, key_tile_of at,
                            const T* queries, T, T* out) {
    const T* const k = row_of(in.k, range.key_row(at.k0), at.kv).data;
    const index_t count = std::min(key_tile, range.keys - at.k0), row = in.k.stride(0);
    for (index_t j = 0, rows; j < count; j += rows) {
      rows = exact_rows<T>(count - j);
      if (range.run_of_keys(at.k0) > key_tile) {
        fetch_rows(k + (key_tile + j) * row, row, rows, in.k.extent(2));
      }
      const kernels::tile_operands<T> o{k + j * row,
                                        row,
                                        1,
                                        queries,
                                        lanes<T>,
                                        in.k.extent(2),
                                        out + j * lanes<T>,
                                        lanes<T>,
                                        kernels::start::zero};
      kernels::multiply_padded_rows<T, 1>(o, static_cast<int>(rows));
    }
  }
  template <class In>
  static bool values_finite_in_place(const In& in, const attention_range& range, key_tile_of at,
                                     key_range keys) {
    const T* const v = row_of(in.v, range.key_row(at.k0), at.kv).data;
    auto sum = simd::pack<T>::zero();
    for (index_t j = keys.low; j < keys.high; ++j) {
      for (index_t c = 0; c < in.v.extent(2); c += lanes<T>) {
        sum = fma(simd::pack<T>::load(v + j * in.v.stride(0) + c), simd::pack<T>::zero(), sum);
      }
    }
    return reduce_sum(sum) == T(0);
  }
  template <class In>
  static void add_values_in_place(const In& in, const attention_range& range, key_tile_of tile,
                                  const strip& at) {
    const index_t row = in.v.stride(0), steps = at.keys.high - at.keys.low;
    const T* const v = row_of(in.v, range.key_row(tile.k0), tile.kv).data + at.keys.low * row;
    for (index_t c = 0; c < at.dv; c += panel<T>) {
      for (index_t r = 0, rows; r < at.rows; r += rows) {
        rows = exact_rows<T>(next_strip<T>(at.rows - r));
        const kernels::tile_operands<T> o{at.p + r * key_tile + at.keys.low,
                                          key_tile,
                                          1,
                                          v + c,
                                          row,
                                          steps,
                                          at.o + r * at.o_row + c,
                                          at.o_row,
                                          kernels::start::from_c};
        if (at.dv - c > lanes<T>) {
          kernels::multiply_padded_rows<T, 2>(o, static_cast<int>(rows));
        } else {
          kernels::multiply_padded_rows<T, 1>(o, static_cast<int>(rows));
        }
      }
    }
  }

  template <base B>
  static void weigh(const strip& at, index_t r, std::uint64_t bits, online_row<T> row) {
    T* const p = at.p + r * key_tile;
    weigh_row<B, weights_are::kept>(
        at.s + r * key_tile, bits, row, at.o_of(r),
        [p](auto i, simd::pack<T> x) { x.store(p + i * simd::pack<T>::width); });
  }
  static bool values_finite(const strip& at) {
    return panels_finite(values_of(at.tile, at.d) + at.keys.low * panel<T>, key_tile,
                         at.keys.high - at.keys.low, at.dv);
  }
  static void add_values(const strip& at) {
    const T* const values = values_of(at.tile, at.d) + at.keys.low * panel<T>;
    const product<T> sums{at.p + at.keys.low,         key_tile, 1,       values, key_tile,
                          at.keys.high - at.keys.low, at.o,     at.o_row};
    multiply_strip(sums, at.rows, 0, round_up(at.dv, lanes<T>), kernels::start::from_c);
  }
  // Row r alone, key by key: the bits that zeros in place of hidden values give.
  static void add_visible(const strip& at, index_t r, std::uint64_t bits) {
    const T* const values = values_of(at.tile, at.d);
    T* const o = at.o + r * at.o_row;
    for (; bits != 0; bits &= bits - 1) {
      const index_t j = std::countr_zero(bits);
      for (index_t c = 0; c < at.dv; ++c) {
        const T v = values[c / panel<T> * panel<T> * key_tile + j * panel<T> + c % panel<T>];
        o[c] = chain(at.p[r * key_tile + j], v, o[c]);
      }
    }
  }
};

}  // namespace deepseek::cpu_attention
