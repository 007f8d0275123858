// SPDX-License-Identifier: Apache-2.0
// Cached rows in 8 bits. fp8_row<Coded, Rest>: the bytes of one token, in this order:
//   Coded e4m3 codes in tiles of 128 | a float scale a tile, powers of two | Rest numbers in bf16.
// fp8_row<512, 64> are the 656 bytes of a latent row of V3.2 (its rotated part is not coded),
// fp8_row<128, 0> the 132 bytes of an index key. Scales: the smallest power of two that is not
// below max(amax of the tile, 1e-4) / 448. fp8_cache<S, Coded, Rest> keeps them, with the verbs of
// layers/kv_cache.hpp, but rows are read back as numbers into the caller's memory. Errors:
// nonfinite (the cache is as before), index_range. Sources: DeepSeek-V3.2-Exp (2025) and its
// published inference code (the floor of amax); FlashMLA's description of the layout.
#pragma once

#include "deepseek/layers/kv_cache.hpp"
#include "deepseek/ops/dequantize_fp8.hpp"
#include "deepseek/ops/place_rows.hpp"

namespace deepseek {

template <index_t Coded, index_t Rest>
struct fp8_row {
  static_assert(Coded > 0 && Coded % 4 == 0 && Rest >= 0 && Rest % 2 == 0,
                "deepseek::fp8_row: the scales would not lie on multiples of 4 bytes; write a "
                "multiple of 4 codes and an even rest");
  static constexpr index_t tiles = fp8_blocks_in(Coded), width = Coded + Rest;
  static constexpr index_t scale_bytes = 4 * tiles;
  static constexpr index_t bytes = Coded + scale_bytes + 2 * Rest;
  template <class S>
  using rows_of = view<std::uint8_t, S, dyn, bytes>;

  // x [n, Coded + Rest] as bytes [n, bytes].
  template <class B, class X, class S>
  static void encode(const B& b, const X& x, const rows_of<S>& to) {
    ops::quantize_fp8(b, columns<0, Coded>(x), fp8_rows{codes(to), scales(to)},
                      fp8_scales::power_of_two);
    if constexpr (Rest > 0) ops::copy(b, columns<Coded, Rest>(x), rest(to));
  }
  template <class B, class S, class Y>
  static void decode(const B& b, const rows_of<S>& from, const Y& y) {
    ops::dequantize_fp8(b, fp8_rows{codes(from), scales(from)}, columns<0, Coded>(y));
    if constexpr (Rest > 0) ops::copy(b, rest(from), columns<Coded, Rest>(y));
  }

 private:
  template <class T, index_t First, index_t Count, class S>
  static auto part(const rows_of<S>& v) {
    constexpr index_t size = static_cast<index_t>(sizeof(T));
    static_assert(bytes % size == 0 && First % size == 0);
    return view<T, S, dyn, Count>(reinterpret_cast<T*>(v.data() + First), {v.extent(0), Count},
                                  {v.stride(0) / size, 1});
  }
  template <class S>
  static auto codes(const rows_of<S>& v) {
    return part<f8_e4m3, 0, Coded>(v);
  }
  template <class S>
  static auto scales(const rows_of<S>& v) {
    return part<float, Coded, tiles>(v);
  }
  template <class S>
  static auto rest(const rows_of<S>& v) {
    return part<bf16, Coded + scale_bytes, Rest>(v);
  }
};

template <class S, index_t Coded, index_t Rest>
struct fp8_cache {
  using row = fp8_row<Coded, Rest>;
  tensor<std::uint8_t, S, dyn, row::bytes> stored;

  void reserve(index_t capacity) {
    stored = tensor<std::uint8_t, S, dyn, row::bytes>({capacity, row::bytes});
  }
  index_t capacity() const { return stored.extent(0); }
  static constexpr index_t bytes_per_token() { return row::bytes; }

  // Writes rows start .. start + n - 1.
  template <class B, class X>
  void append(const B& b, index_t start, const X& x) {
    require_fits(start, x.extent(0), capacity());
    row::encode(b, x, rows(stored.view(), start, x.extent(0)));
  }
  // The rows of a call, at its start or where that moves.
  template <class Call, class X>
  void append(const Call& c, const X& x) {
    const auto& run = c.options;
    if (!run.moving.moves()) return append(c.backend, run.start, x);
    const scope freed(c.scratch);
    const auto coded = c.scratch.template make<std::uint8_t, dyn, row::bytes>(x.extent(0));
    row::encode(c.backend, x, coded);
    ops::place_rows(c.backend, coded, run.moving.at, stored.view());
  }
  // Rows first .. first + n - 1 as numbers, n those of y.
  template <class B, class Y>
  void read(const B& b, index_t first, const Y& y) {
    require_fits(first, y.extent(0), capacity());
    row::decode(b, rows(stored.view(), first, y.extent(0)), y);
  }
};

}  // namespace deepseek
