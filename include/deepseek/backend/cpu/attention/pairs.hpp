// SPDX-License-Identifier: Apache-2.0
// The form of bf16 operands where the processor multiplies pairs of them (simd::dot_pairs, or whole
// tiles, tile_products.hpp): q k and p v from bf16, two steps at once, sums and softmax in float.
// Weights p are rounded to bf16 before they meet v, l adds them up unrounded; scores are scaled
// after the product, so q is exact. Keys lie in panels [d / 2][32 keys][2], values in panels [32
// pairs of keys][32 columns][2]. Sources: Dao et al. 2022 (weights in 16 bits); Micikevicius et al.
// 2018 (sums in float).
#pragma once

#include "deepseek/backend/cpu/attention/tile_products.hpp"
#include "deepseek/backend/cpu/attention/wide.hpp"
#include "deepseek/backend/cpu/kernels/dot_tile.hpp"

namespace deepseek::cpu_attention {

// A register tile as tall as that of the floats, so that 64 keys are two panels.
struct attention_pairs : kernels::bf16_pairs {
  static constexpr int vectors = 2;
  static constexpr int rows = kernels::tile_size<float>::rows;
};

// Keys as rows, queries as one register of columns.
struct turned_pairs : attention_pairs {
  static constexpr int vectors = 1;
};

struct pair_rows;
struct shown_values;
struct standing_values;

// Rows that are read once are asked for a tile ahead.
enum class reading { again, once };

struct pair_form {
  using sum = float;
  using element = std::uint16_t;
  using strip = strip_of<pair_form>;
  using strips = pair_strips;
  static constexpr index_t columns = panel<float>, step = 2 * columns;  // of a panel, elements

  static index_t query_row(index_t d) { return round_up(d, 32) + 32; }
  static index_t key_size(index_t d) { return key_tile * round_up(d, 2); }
  static index_t tile_size(index_t d, index_t dv) {
    return key_size(d) + key_tile * round_up(dv, columns);
  }

  template <class In>
  static void pack(const In& in, const attention_range& range, key_tile_of at, element* to) {
    turn_rows(in.k, range, at, to);
    pack_row_pairs(in.v, range, at, to + key_size(in.k.extent(2)));
  }
  // A tile of keys or values, turned: panels [n / 2][32 rows][2].
  template <class View>
  static void turn_rows(const View& v, const attention_range& range, key_tile_of at, element* to) {
    const index_t count = std::min(key_tile, range.keys - at.k0), n = v.extent(2);
    const index_t pairs = round_up(n, 2) / 2, row = row_size<float>(pairs);
    auto* const words = kernels::scratch<pair_rows, float>(static_cast<std::size_t>(count * row));
    for (index_t j = 0; j < count; ++j) {
      float* const pair = words + j * row;
      if (n % 2 != 0) pair[pairs - 1] = 0;
      copy_words(row_of(v, range.key_row(at.k0 + j), at.kv), n, pair);
    }
    // A pair of bf16 moves as one float would.
    kernels::pack_panels(kernels::operand<float>{words, 1, row}, pairs, count,
                         reinterpret_cast<float*>(to));
  }
  // Pairs of its rows side by side: panels [32 pairs][32 columns][2], zero beyond the keys.
  template <class View>
  static void pack_row_pairs(const View& v, const attention_range& range, key_tile_of at,
                             element* to, reading how = reading::again) {
    const index_t count = std::min(key_tile, range.keys - at.k0), n = v.extent(2);
    const index_t row = round_up(n, columns);
    auto* const two = kernels::scratch<pair_rows, element>(static_cast<std::size_t>(2 * row));
    std::fill_n(two, 2 * row, element(0));
    for (index_t j = 0; j < key_tile; j += 2) {
      const std::byte* of[2];
      for (index_t i = 0; i < 2; ++i) {
        element* const copy = two + i * row;
        of[i] = bytes(copy);
        if (j + i >= count) {
          std::fill_n(copy, n, element(0));
          continue;
        }
        const auto from = row_of(v, range.key_row(at.k0 + j + i), at.kv);
        if (const index_t later = at.k0 + j + i + key_tile;
            how == reading::once && later < range.keys) {
          const auto* const next = row_of(v, range.key_row(later), at.kv).data;
          for (index_t c = 0; c < n; c += 32) __builtin_prefetch(next + c, 0, 2);
        }
        if (from.stride == 1 && n % columns == 0) {
          of[i] = reinterpret_cast<const std::byte*>(from.data);
        } else {
          copy_words(from, n, copy);
        }
      }
      interleave(of[0], of[1], {row, key_tile}, to + j / 2 * step);
    }
  }
  // Rows a and b as the pairs of one step of panels; columns: whole panels.
  struct panel_shape {
    index_t columns, steps;
  };
  static void interleave(const std::byte* a, const std::byte* b, panel_shape shape, element* to) {
    constexpr index_t w = simd::pack<float>::width;
    using words = simd::vector<std::int32_t>;
    for (index_t c = 0; c < shape.columns; c += 2 * w) {
      element* const out = to + c / columns * columns * shape.steps + c % columns * 2;
      words x, y;
      std::memcpy(&x, a + 2 * c, sizeof x);
      std::memcpy(&y, b + 2 * c, sizeof y);
      simd::interleave_words(x, y);
      std::memcpy(out, &x, sizeof x);
      std::memcpy(out + 2 * w, &y, sizeof y);
    }
  }
  // Where panels of so many steps hold row i in column c.
  static index_t place_of(index_t i, index_t c, index_t steps = key_tile) {
    return c / columns * columns * steps + i / 2 * step + c % columns * 2 + i % 2;
  }
  // No NaN and no infinity among n elements, a multiple of a register's.
  static bool words_finite(const element* from, index_t n) {
    using words = simd::vector<std::int16_t>;
    constexpr index_t w = simd::register_bytes / 2;
    words bad{};
    for (index_t i = 0; i < n; i += w) {
      words x;
      __builtin_memcpy(&x, from + i, sizeof x);
      bad |= (x & 0x7f80) == 0x7f80;
    }
    std::uint64_t parts[sizeof(words) / 8], any = 0;
    __builtin_memcpy(parts, &bad, sizeof bad);
    for (std::uint64_t part : parts) any |= part;
    return any == 0;
  }

  // Sums c [rows][n] += a [rows][pairs] times panels.
  struct pair_product {
    const element* a;
    index_t a_row;
    const element* panels;
    index_t steps, pairs;
  };
  struct sums_at {
    float* c;
    index_t row;
  };
  static void add_product(const pair_product& p, index_t rows, sums_at to, index_t n) {
    for (index_t c = 0; c < n; c += columns) {
      multiply({bytes(p.a), p.a_row * 2, bytes(p.panels + c * p.steps), step * 2, p.pairs}, rows,
               running_sums{to.c + c, to.row});
    }
  }
  static const std::byte* bytes(const element* p) { return reinterpret_cast<const std::byte*>(p); }

  template <class E>
  static void read_query(strided_row<const E> from, index_t d, float, element* to) {
    std::fill_n(to, query_row(d), element(0));
    copy_words(from, d, to);
  }

  // Whether weigh_unscaled() saves a pass over the scores.
  static constexpr bool scales_late = multiplies_tiles;
  static void scores(const strip& at, float scale) {
    const index_t pairs = round_up(at.d, 2) / 2;
    for (index_t c = at.keys.low / columns * columns; c < at.keys.high; c += columns) {
      multiply({bytes(at.q), at.q_row * 2, bytes(at.tile + c * pairs * 2), step * 2, pairs},
               at.rows, scaled_scores{at.s + c, key_tile, simd::pack<float>::broadcast(scale)});
    }
    if constexpr (multiplies_tiles) scale_scores(at.s, at.rows, scale);
  }

  // Few rows, by keys and values where they stand; see wide_form.
  template <class In>
  static constexpr bool as_they_are = true;
  template <class In>
  static bool in_place(const In& in, const attention_range& range) {
    return in.k.stride(2) == 1 && in.v.stride(2) == 1 && in.k.extent(2) % 2 == 0 &&
           in.v.extent(2) % columns == 0 && runs_fit<float>(range);
  }
  template <class In>
  static void scores_in_place(const In& in, const attention_range& range, key_tile_of tile,
                              const strip& at, float scale) {
    using words = kernels::bf16_pairs;
    const kernels::turned_left queries{bytes(at.q), at.q_row * 2, kernels::left_word_bytes<words>,
                                       0};
    const auto next = coming_tile::keys_of(tile);
    for_each_run(in.k, range, tile, at.registers(), next, [&](index_t j, const row_run& run) {
      multiply_turned_run<words>(queries, at.rows, run, 2 * at.d, [&](index_t r, index_t i) {
        return scaled_scores{at.s + r * key_tile + j + i, key_tile,
                             simd::pack<float>::broadcast(scale)};
      });
    });
  }
  template <class In>
  static constexpr bool turns_queries = true;
  static constexpr bool always_turns = multiplies_tiles;
  static index_t turned_size(index_t d) { return d * lanes<float>; }
  static void turn_queries(const strip& at, element* turned) {
    for (index_t c = 0; c < at.d; ++c) {
      for (index_t r = 0; r < lanes<float>; ++r) {
        turned[c / 2 * 2 * lanes<float> + 2 * r + c % 2] =
            r < at.rows ? at.q[r * at.q_row + c] : element(0);
      }
    }
  }
  template <class In>
  static void turned_scores(const In& in, const attention_range& range, key_tile_of at,
                            const element* queries, float scale, float* out) {
    if constexpr (multiplies_tiles) {
      return multiply_standing_keys(in.k, range, at, bytes(queries), scale, out);
    }
    const index_t pairs = in.k.extent(2) / 2;
    for_each_strip(in.k, range, at, exact_rows<float>, [&](index_t j, const row_run& run) {
      // Spread over the product where rows lie side by side: it then costs no time (V2's latents,
      // 16 queries, a Zen 5 core: 413 us for 4096 of them when all of a strip is asked for at once,
      // 370 like this).
      const bool together = run.row == 4 * pairs;
      if (!together) fetch_strip_after(run, 4 * pairs);
      const kernels::dot_operands o{run.first,        run.row, bytes(queries),
                                    4 * lanes<float>, pairs,   together ? 4 * run.count : 0};
      kernels::multiply_dots_of<turned_pairs, 1>(
          static_cast<int>(run.count), o, run.first + run.ahead,
          scaled_scores{out + j * lanes<float>, lanes<float>, simd::pack<float>::broadcast(scale)});
    });
  }
  // Pairs of values for tiles are brought together first.
  template <class In>
  static void add_standing_values(const In& in, const attention_range& range, key_tile_of tile,
                                  const strip& at, index_t first_column,
                                  const std::uint64_t* bits) {
    if constexpr (multiplies_tiles) {
      using view_of = view<const typename decltype(In::v)::value_type, host, dyn, dyn, dyn>;
      const view_of part{in.v.data() + first_column,
                         {in.v.extent(0), in.v.extent(1), at.dv},
                         {in.v.stride(0), in.v.stride(1), in.v.stride(2)}};
      auto* const values = kernels::scratch<standing_values, element>(
          static_cast<std::size_t>(key_tile * round_up(at.dv, columns)));
      pack_row_pairs(part, range, tile, values, reading::once);
      if (bits != nullptr && !values_finite(at, values)) {
        for (index_t r = 0; r < at.rows; ++r) add_visible(at, r, bits[r], values);
        return;
      }
      add(at, 0, at.rows, values);
    } else {
      values_in_place<value_pairs, decltype(in.v), strip>{in.v, range, tile, at, first_column}.add(
          bits);
    }
  }

  template <base B>
  static void weigh(const strip& at, index_t r, std::uint64_t bits, const online_row<float>& row) {
    weigh_scores<B>(plain_scores<float>{at.s + r * key_tile}, at, r, bits, row);
  }
  template <base B>
  static void weigh_unscaled(const strip& at, index_t r, std::uint64_t bits,
                             const online_row<float>& row, float scale) {
    weigh_scores<B>(unscaled_scores<float>{at.s + r * key_tile, scale}, at, r, bits, row);
  }
  static void add_values(const strip& at) { add(at, 0, at.rows, values_of(at)); }

  // No NaN and no infinity in the pairs of keys that some row sees a key of.
  static bool values_finite(const strip& at) { return values_finite(at, values_of(at)); }
  static bool values_finite(const strip& at, const element* values) {
    const index_t first = first_pair(at.keys.low) * step;
    const index_t count = end_of_pairs(at.keys.high) * step - first;
    for (index_t c = 0; c < at.dv; c += columns) {
      if (!words_finite(values + c * key_tile + first, count)) return false;
    }
    return true;
  }
  // Row r alone, with zeros in place of the values it does not see.
  static void add_visible(const strip& at, index_t r, std::uint64_t bits) {
    add_visible(at, r, bits, values_of(at));
  }
  static void add_visible(const strip& at, index_t r, std::uint64_t bits, const element* values) {
    if (bits == 0) return;
    const index_t size = key_tile * round_up(at.dv, columns);
    auto* const shown = kernels::scratch<shown_values, element>(static_cast<std::size_t>(size));
    std::copy_n(values, size, shown);
    for (index_t j = 2 * first_pair(at.keys.low); j < 2 * end_of_pairs(at.keys.high); ++j) {
      if ((bits >> j & 1U) != 0) continue;
      for (index_t c = 0; c < round_up(at.dv, columns); ++c) shown[place_of(j, c)] = 0;
    }
    add(at, r, 1, shown);
  }

 private:
  template <base B, class Scores>
  static DEEPSEEK_INLINE void weigh_scores(const Scores& s, const strip& at, index_t r,
                                           std::uint64_t bits, const online_row<float>& row) {
    element* const p = at.p + r * key_tile;
    weigh_row<B, weights_are::narrowed>(s, bits, row, at.o_of(r), [p](auto i, simd::pack<float> x) {
      const auto rounded = simd::narrow_normal_bf16(x);
      __builtin_memcpy(p + i * simd::pack<float>::width, &rounded, sizeof rounded);
    });
  }
  static const element* values_of(const strip& at) { return at.tile + key_size(at.d); }
  // What the product gives, times the scale.
  struct scaled_scores {
    float* s;
    index_t row;
    simd::pack<float> scale;
    static constexpr bool continues() { return false; }
    kernels::tile_memory<float> memory() const { return {s, row}; }  // not yet scaled
    static DEEPSEEK_INLINE simd::vector<float> begin(int, int) { return simd::vector<float>{}; }
    DEEPSEEK_INLINE void end(int i, int j, simd::vector<float> x) const {
      (simd::pack<float>{x} * scale).store(s + i * row + j * simd::pack<float>::width);
    }
  };
  struct running_sums {
    float* o;
    index_t o_row;
    static constexpr bool continues() { return true; }
    kernels::tile_memory<float> memory() const { return {o, o_row}; }
    DEEPSEEK_INLINE float* at(int i, int j) const {
      return o + i * o_row + j * simd::pack<float>::width;
    }
    DEEPSEEK_INLINE simd::vector<float> begin(int i, int j) const {
      return simd::pack<float>::load(at(i, j)).v;
    }
    DEEPSEEK_INLINE void end(int i, int j, simd::vector<float> x) const {
      simd::pack<float>{x}.store(at(i, j));
    }
  };

  template <class Sums>
  static void multiply(const kernels::dot_operands& o, index_t rows, const Sums& sums) {
    if constexpr (multiplies_tiles) {
      constexpr int vectors = static_cast<int>(columns) / simd::tile_words;
      multiply_tile_rows<vectors>(o, rows, sums.continues(), sums.memory());
    } else {
      const int padded = kernels::padded_rows<float>(static_cast<int>(rows));
      kernels::multiply_dots_of<attention_pairs, 0>(padded, o, nullptr, sums);
    }
  }
  static void add(const strip& at, index_t r, index_t rows, const element* values) {
    const index_t first = first_pair(at.keys.low), pairs = end_of_pairs(at.keys.high) - first;
    add_product({at.p + r * key_tile + 2 * first, key_tile, values + first * step, key_tile, pairs},
                rows, {at.o + r * at.o_row, at.o_row}, at.dv);
  }

  template <class E, class To>
  static void copy_words(strided_row<const E> from, index_t n, To* to) {
    static_assert(sizeof(E) == 2);
    if (from.stride == 1) return static_cast<void>(std::memcpy(to, from.data, bytes_of(n)));
    for (index_t i = 0; i < n; ++i) {
      std::memcpy(reinterpret_cast<std::byte*>(to) + 2 * i, from.data + i * from.stride, 2);
    }
  }
  static std::size_t bytes_of(index_t n) { return static_cast<std::size_t>(n) * 2; }
};

template <class... V>
inline constexpr bool multiplies_pairs = (simd::has_dot_pairs || multiplies_tiles) &&
                                         (std::is_same_v<typename V::value_type, bf16> && ...);

// What forward takes: pairs where everything read is bf16 and the processor has the instruction.
template <class In, class Out>
using form_of =
    std::conditional_t<multiplies_pairs<decltype(In::q), decltype(In::k), decltype(In::v)>,
                       pair_form, wide_form<accumulate_t<typename decltype(Out::o)::value_type>>>;

}  // namespace deepseek::cpu_attention
