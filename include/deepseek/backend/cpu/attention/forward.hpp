// SPDX-License-Identifier: Apache-2.0
// Attention forward for one tile of rows (tiles.hpp): for each key tile visited, scores of one
// strip of rows in registers' size, the online softmax, then the weighted sum of values:
//   m' = max(m, max s), a = e^(m - m'), p = e^(s - m'), l = a l + sum p, o = a o + p v,
// (softmax.hpp) and at the end o / l and lse = m + log l. A row that saw nothing has m = -inf, l =
// 0: o = 0. Each row's arithmetic is its own, in the order of keys. A masked value that is not
// finite is left out pair by pair. Sources: Milakov and Gimelshein 2018; Dao 2023
// (FlashAttention-2), section 3.1.
#pragma once

#include "deepseek/backend/cpu/attention/pack.hpp"
#include "deepseek/backend/cpu/attention/score.hpp"
#include "deepseek/backend/cpu/attention/softmax.hpp"
#include "deepseek/backend/cpu/attention/tiles.hpp"

namespace deepseek::cpu_attention {

// One key tile, packed: keys turned [d][64], values [64][dv].
template <class T>
struct key_value_tile {
  T* keys;
  T* values;
};
template <class T>
constexpr index_t packed_tile_size(index_t d, index_t dv) {
  return key_tile * (d + round_up(dv, panel<T>));
}
template <class T>
key_value_tile<T> tile_at(T* memory, index_t d) {
  return {memory, memory + key_tile * d};
}
template <class T, class In>
void pack_key_tile(const In& in, const attention_range& range, index_t kv, index_t k0,
                   const key_value_tile<T>& to) {
  const index_t count = std::min(key_tile, range.keys - k0);
  if (range.run_of_keys(k0) >= count) {
    const index_t row = range.key_row(k0);
    pack_columns(in.k, row, kv, count, to.keys);
    pack_rows(in.v, row, kv, count, key_tile, to.values);
    return;
  }
  const index_t d = in.k.extent(2);
  std::fill_n(to.keys, round_up(count, panel<T>) * d, T(0));
  for (index_t j = 0; j < count; ++j) {
    const index_t row = range.key_row(k0 + j);
    pack_column(row_of(in.k, row, kv), d, j, to.keys);
    pack_rows(in.v, row, kv, 1, key_tile, to.values + j * panel<T>);
  }
}

// The packed key tiles of one head of a sequence, in order; each is packed when it is first asked
// for, unless `ready` is null: then all are there.
template <class T>
struct packed_tiles {
  T* memory = nullptr;
  bool* ready = nullptr;

  template <class In>
  key_value_tile<T> get(const In& in, const attention_range& range, index_t kv, index_t k0) const {
    const index_t t = k0 / key_tile, d = in.k.extent(2);
    const auto tile = tile_at(memory + t * packed_tile_size<T>(d, in.v.extent(2)), d);
    if (ready != nullptr && !ready[t]) {
      pack_key_tile(in, range, kv, k0, tile);
      ready[t] = true;
    }
    return tile;
  }
};

struct forward_memory;

// The rows of one task and their thread's memory.
template <class T, class In, class Out, class P>
class forward_tile {
 public:
  forward_tile(const In& in, const Out& out, const head_group<P>& group, T scale)
      : in_(in), out_(out), group_(group), scale_(into_base<units>(scale)) {
    const index_t most = round_up(std::max(most_rows, group.heads), strip_rows<T>);
    const index_t strip = strip_rows<T> * key_tile;
    constexpr index_t word = sizeof(std::uint64_t) / sizeof(T);
    T* memory = kernels::scratch<forward_memory, T>(static_cast<std::size_t>(
        most * (q_row() + o_row() + 2 + word) + strip + packed_tile_size<T>(d(), dv())));
    bits_ = reinterpret_cast<std::uint64_t*>(memory);
    q_ = memory + most * word;
    o_ = q_ + most * q_row();
    s_ = o_ + most * o_row();
    own_tile_ = s_ + strip;
    state_ = reinterpret_cast<online_row<T>*>(own_tile_ + packed_tile_size<T>(d(), dv()));
  }

  // Queries i0 .. i1 - 1. `packed`: the sequence's key tiles, or none where each is read once.
  void run(index_t i0, index_t i1, const packed_tiles<T>& packed) {
    i0_ = i0;
    rows_ = (i1 - i0) * group_.heads;
    begin();
    for_each_key_tile(group_, i0, i1, {0, group_.range.keys},
                      [&](index_t k0, coverage c, index_t next) {
                        auto kv = tile_at(own_tile_, d());
                        if (packed.memory != nullptr) {
                          kv = packed.get(in_, group_.range, kv_head(), k0);
                        } else {
                          pack_key_tile(in_, group_.range, kv_head(), k0, kv);
                        }
                        const T* const later =
                            packed.memory != nullptr && next < group_.range.keys
                                ? packed.memory + next / key_tile * packed_tile_size<T>(d(), dv())
                                : nullptr;
                        visible_rows(group_, {i0, i1}, k0, c, bits_);
                        for (index_t r = 0; r < rows_; r += strip_rows<T>) {
                          if (later != nullptr) fetch(later, r);
                          strip(r, kv, k0, c);
                        }
                      });
    for (index_t r = 0; r < rows_; ++r) finish(r);
  }

 private:
  static constexpr base units = base_of<P>;

  index_t d() const { return in_.q.extent(2); }
  index_t dv() const { return in_.v.extent(2); }
  index_t q_row() const { return row_size<T>(d()); }
  index_t o_row() const { return row_size<T>(dv()); }
  index_t kv_head() const { return group_.first / (in_.q.extent(1) / in_.k.extent(1)); }
  index_t query(index_t r) const { return i0_ + r / group_.heads; }
  index_t position(index_t r) const { return group_.range.start + query(r); }
  index_t head(index_t r) const { return group_.first + r % group_.heads; }

  void begin() {
    const index_t padded = round_up(rows_, strip_rows<T>);
    for (index_t r = 0; r < padded; ++r) {
      T* q = q_ + r * q_row();
      if (r < rows_) {
        read_row<T>(row_of(in_.q, group_.range.query + query(r), head(r)), d(), q);
        for (index_t c = 0; c < d(); ++c) q[c] *= scale_;
        state_[r] = {};
      } else {
        std::fill_n(q, d(), T(0));
      }
      std::fill_n(o_ + r * o_row(), round_up(dv(), lanes<T>), T(0));
    }
  }

  // Towards the cache: what strip r of all strips fetches of the tile that comes next.
  void fetch(const T* tile, index_t r) const {
    constexpr index_t line = 64 / static_cast<index_t>(sizeof(T));
    const index_t size = packed_tile_size<T>(d(), dv());
    const index_t share = round_up(size * strip_rows<T> / rows_ + 1, line);
    const index_t first = r / strip_rows<T> * share, last = std::min(first + share, size);
    for (index_t i = first; i < last; i += line) __builtin_prefetch(tile + i, 0, 2);
  }

  void strip(index_t r0, const key_value_tile<T>& kv, index_t k0, coverage c) {
    const index_t rows = std::min(strip_rows<T>, rows_ - r0);
    const std::uint64_t* const bits = bits_ + r0;
    std::uint64_t any = 0;
    for (index_t r = 0; r < rows; ++r) any |= bits[r];
    if (any == 0) return;
    const key_range keys = range_of(any);
    const product<T> scores{q_ + r0 * q_row(), q_row(), 1, kv.keys, d(), d(), s_, key_tile};
    multiply_strip(scores, rows, keys.low, keys.high, kernels::start::zero);
    const index_t width = round_up(dv(), lanes<T>);
    for (index_t r = 0; r < rows; ++r) {
      if constexpr (modifies_scores<P>) {
        modify_row<units, T>(group_.bound((r0 + r) % group_.heads),
                             {s_ + r * key_tile, nullptr, keys, position(r0 + r), k0});
      }
      T *const s = s_ + r * key_tile, *const o = o_ + (r0 + r) * o_row();
      weigh_row<units>(s, bits[r], state_[r0 + r], o, width);
    }
    if (c == coverage::partial &&
        !panels_finite(kv.values + keys.low * panel<T>, key_tile, keys.high - keys.low, dv())) {
      for (index_t r = 0; r < rows; ++r) add_visible(r0, r, bits[r], kv);
      return;
    }
    const product<T> sums{
        s_ + keys.low,        key_tile,          1,      kv.values + keys.low * panel<T>, key_tile,
        keys.high - keys.low, o_ + r0 * o_row(), o_row()};
    multiply_strip(sums, rows, 0, width, kernels::start::from_c);
  }

  void add_visible(index_t r0, index_t r, std::uint64_t bits, const key_value_tile<T>& kv) {
    T* o = o_ + (r0 + r) * o_row();
    for (; bits != 0; bits &= bits - 1) {
      const index_t j = std::countr_zero(bits);
      for (index_t c = 0; c < dv(); ++c) {
        const T v = kv.values[c / panel<T> * panel<T> * key_tile + j * panel<T> + c % panel<T>];
        o[c] = chain(s_[r * key_tile + j], v, o[c]);
      }
    }
  }

  void finish(index_t r) {
    T* o = o_ + r * o_row();
    const auto& state = state_[r];
    const bool empty = state.sum == T(0);
    for (index_t c = 0; c < dv(); ++c) o[c] = empty ? T(0) : o[c] / state.sum;
    const index_t token = group_.range.query + query(r);
    write_row<T>(o, dv(), row_of(out_.o, token, head(r)));
    if constexpr (is_view<std::remove_cvref_t<decltype(out_.lse)>>) {
      const T top = state.top == -std::numeric_limits<T>::infinity() ? T(0) : state.top;
      out_.lse(token, head(r)) = empty ? -std::numeric_limits<T>::infinity()
                                       : out_of_base<units>(top) + std::log(state.sum);
    }
  }

  const In& in_;
  const Out& out_;
  head_group<P> group_;
  T scale_;
  T *q_, *o_, *s_, *own_tile_;
  online_row<T>* state_;
  std::uint64_t* bits_;
  index_t i0_ = 0, rows_ = 0;
};

}  // namespace deepseek::cpu_attention
