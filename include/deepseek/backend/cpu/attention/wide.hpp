// SPDX-License-Identifier: Apache-2.0
// What forward multiplies: two forms of the operands of a strip of rows, with the same functions.
// This one: everything in the type of the sums, float or double; 16-bit elements are widened when
// they are packed. The other: pairs.hpp.
#pragma once

#include "deepseek/backend/cpu/attention/in_place.hpp"
#include "deepseek/backend/cpu/attention/softmax.hpp"

namespace deepseek::cpu_attention {

// How keys are multiplied as they turn: one T of a query by one element of a key.
template <class E, class T>
using turning_words = std::conditional_t<
    std::is_same_v<E, T>, kernels::element_words<T>,
    std::conditional_t<std::is_same_v<E, f16>, kernels::f16_steps, kernels::bf16_pairs>>;
// Elements that in_place.hpp reads where sums are in T.
template <class E, class T>
inline constexpr bool read_in_place = std::is_same_v<E, T> ||
                                      (std::is_same_v<T, float> &&
                                       (std::is_same_v<E, f16> ||
                                        (std::is_same_v<E, bf16> && !simd::has_dot_pairs)));

template <class T>
struct wide_form {
  using sum = T;
  using element = T;
  using strip = strip_of<wide_form>;
  using strips = register_strips<T>;

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

  static constexpr bool scales_late = false;
  static void scores(const strip& at, T) {
    const product<T> p{at.q, at.q_row, 1, at.tile, at.d, at.d, at.s, key_tile};
    multiply_strip(p, at.rows, at.keys.low, at.keys.high, kernels::start::zero);
  }

  // Few rows, by keys and values where they stand.
  template <class In>
  static constexpr bool as_they_are = read_in_place<typename decltype(In::k)::value_type, T>&&
      read_in_place<typename decltype(In::v)::value_type, T>;
  template <class In>
  static bool in_place(const In& in, const attention_range& range) {
    return in.k.stride(2) == 1 && in.v.stride(2) == 1 && in.k.extent(2) % 2 == 0 &&
           in.v.extent(2) % lanes<T> == 0 && runs_fit<T>(range);
  }
  template <class In>
  static void scores_in_place(const In& in, const attention_range& range, key_tile_of tile,
                              const strip& at, T) {
    using K = typename decltype(In::k)::value_type;
    using words = turning_words<K, T>;
    const kernels::turned_left queries{kernels::as_bytes(at.q),
                                       at.q_row * static_cast<index_t>(sizeof(T)),
                                       kernels::left_word_bytes<words>, 0};
    const auto bytes = at.d * static_cast<index_t>(sizeof(K));
    const auto next = coming_tile::keys_of(tile);
    for_each_run(in.k, range, tile, at.registers(), next, [&](index_t j, const row_run& run) {
      multiply_turned_run<words>(queries, at.rows, run, bytes, [&](index_t r, index_t i) {
        return kernels::sums_in_c<T>{at.s + r * key_tile + j + i, key_tile, key_tile,
                                     kernels::start::zero};
      });
    });
  }
  // More rows: keys are the rows of the product and queries its columns, turned: [d][a register].
  // The same chains.
  template <class In>
  static constexpr bool turns_queries = std::is_same_v<typename decltype(In::k)::value_type, T>;
  static constexpr bool always_turns = false;
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
    const index_t d = in.k.extent(2);
    constexpr auto size = static_cast<index_t>(sizeof(T));
    for_each_strip(in.k, range, at, exact_rows<T>, [&](index_t j, const row_run& run) {
      fetch_strip_after(run, d * size);
      const kernels::tile_operands<T> o{reinterpret_cast<const T*>(run.first),
                                        run.row / size,
                                        1,
                                        queries,
                                        lanes<T>,
                                        d,
                                        out + j * lanes<T>,
                                        lanes<T>,
                                        kernels::start::zero};
      kernels::multiply_padded_rows<T, 1>(o, static_cast<int>(run.count));
    });
  }
  // bits: what each row sees; null: all see all.
  template <class In>
  static void add_standing_values(const In& in, const attention_range& range, key_tile_of tile,
                                  const strip& at, index_t first_column,
                                  const std::uint64_t* bits) {
    using step = value_steps<T, typename decltype(In::v)::value_type>;
    values_in_place<step, decltype(in.v), strip>{in.v, range, tile, at, first_column}.add(bits);
  }

  template <base B>
  static void weigh(const strip& at, index_t r, std::uint64_t bits, const online_row<T>& row) {
    T* const p = at.p + r * key_tile;
    weigh_row<B, weights_are::kept>(
        plain_scores<T>{at.s + r * key_tile}, bits, row, at.o_of(r),
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
