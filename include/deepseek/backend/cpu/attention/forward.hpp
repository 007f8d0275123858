// SPDX-License-Identifier: Apache-2.0
// Attention forward for one tile of rows (tiles.hpp): for each key tile visited, scores of one
// strip of rows in registers' size, the online softmax, then the weighted sum of values:
//   m' = max s where that passes m by more than a slack, else m (softmax.hpp),
//   a = e^(m - m'), p = e^(s - m'), l = a l + sum p, o = a o + p v,
// and at the end o / l and lse = m + log l. A row that saw nothing has m = -inf, l = 0: o = 0. Each
// row's arithmetic is its own, in the order of keys. A masked value that is not finite is left out
// pair by pair. Sources: Milakov and Gimelshein 2018; Dao 2023 (FlashAttention-2), section 3.1;
// the slack: Zadouri et al. 2026 (FlashAttention-4).
#pragma once

#include "deepseek/backend/cpu/attention/fetch.hpp"
#include "deepseek/backend/cpu/attention/key_slots.hpp"
#include "deepseek/backend/cpu/attention/pairs.hpp"
#include "deepseek/backend/cpu/attention/wide.hpp"
#include "deepseek/backend/cpu/simd_tiles.hpp"

namespace deepseek::cpu_attention {

// The packed key tiles of one head of a sequence. slots: each is packed when it is first asked for;
// null: all are there, in order.
template <class Form>
struct packed_tiles {
  using element = typename Form::element;
  element* memory = nullptr;
  key_slots* slots = nullptr;

  template <class In>
  const element* get(const In& in, const attention_range& range, key_tile_of at) const {
    const index_t size = Form::tile_size(in.k.extent(2), in.v.extent(2));
    if (const element* const there = find(at.k0, size)) return there;
    element* const tile = memory + slots->open(at.k0) * size;
    Form::pack(in, range, at, tile);
    return tile;
  }
  // Null: not packed.
  const element* find(index_t k0, index_t size) const {
    const index_t at = slots == nullptr ? k0 / key_tile : slots->slot(k0);
    return at < 0 ? nullptr : memory + at * size;
  }
  // The query tile has read it.
  void leave(index_t k0, index_t query_tile) const {
    if (slots == nullptr || !slots->closes_after(k0, query_tile)) return;
    if (slots->is_open(k0)) slots->close(k0);
  }
};

struct forward_memory;
struct forward_operands;

template <base B, class T, class Out>
void write_log_sum(const Out& out, online_row<T> row, index_t token, index_t head) {
  if constexpr (is_view<std::remove_cvref_t<decltype(out.lse)>>) {
    out.lse(token, head) = log_sum<B>(row);
  }
}

// The rows of one task and their thread's memory.
template <class Form, class In, class Out, class P>
class forward_tile {
  using T = typename Form::sum;
  using element = typename Form::element;

 public:
  forward_tile(const In& in, const Out& out, const head_group<P>& group, T scale)
      : in_(in), out_(out), group_(group), scale_(into_base<units>(scale)) {
    const index_t most = round_up(std::max(most_rows, group.heads), Form::strips::most);
    const index_t strip = (together * Form::strips::most + lanes<T>)*key_tile;
    constexpr index_t word = sizeof(std::uint64_t) / sizeof(T);
    T* memory = kernels::scratch<forward_memory, T>(
        static_cast<std::size_t>(most * (o_row() + lanes<T> + 1 + word) + strip));
    bits_ = reinterpret_cast<std::uint64_t*>(memory);
    o_ = memory + most * word;
    s_ = o_ + most * o_row();
    sums_ = s_ + strip;
    tops_ = sums_ + most * lanes<T>;
    q_ = kernels::scratch<forward_operands, element>(
        static_cast<std::size_t>(most * q_row() + strip + tile_size()));
    own_tile_ = q_ + most * q_row();
    p_ = own_tile_ + tile_size();
    if constexpr (std::is_same_v<element, T>) p_ = s_;
  }

  // Queries i0 .. i1 - 1. `packed`: the sequence's key tiles, or none where each is read once.
  void run(index_t i0, index_t i1, const packed_tiles<Form>& packed) {
    const simd::tile_scope given_back;
    i0_ = i0;
    rows_ = (i1 - i0) * group_.heads;
    begin();
    const auto visit = [&](index_t k0, coverage c, index_t next) {
      visible_rows(group_, {i0, i1}, k0, c, bits_);
      const element* const tile = tile_of(packed, k0);
      look_ahead(packed, i1, next);
      for (index_t r = 0; r < rows_;) r = strips(r, {tile, k0, c});
      packed.leave(k0, i0 / group_.queries_per_tile());
    };
    for_each_key_tile(group_, i0, i1, {0, group_.range.keys}, visit);
    for (index_t r = 0; r < rows_; ++r) finish(r);
  }

 private:
  static constexpr base units = base_of<P>;
  static constexpr index_t together = Form::strips::together;
  static constexpr bool scales_late = Form::scales_late && !modifies_scores<P>;

  struct visited_tile {
    const element* packed;
    index_t k0;
    coverage c;
  };
  struct row_range {
    index_t first, count;
  };

  index_t d() const { return in_.q.extent(2); }
  index_t dv() const { return in_.v.extent(2); }
  index_t q_row() const { return Form::query_row(d()); }
  index_t o_row() const { return row_size<T>(dv()); }
  index_t tile_size() const { return Form::tile_size(d(), dv()); }
  index_t kv_head() const { return group_.first / (in_.q.extent(1) / in_.k.extent(1)); }
  index_t query(index_t r) const { return i0_ + r / group_.heads; }
  index_t position(index_t r) const { return group_.range.start + query(r); }
  index_t head(index_t r) const { return group_.first + r % group_.heads; }
  online_row<T> state_of(index_t r) const { return {tops_ + r, sums_ + r * lanes<T>}; }

  void begin() {
    const index_t padded = round_up(rows_, Form::strips::most);
    for (index_t r = 0; r < padded; ++r) {
      element* q = q_ + r * q_row();
      if (r < rows_) {
        Form::read_query(row_of(in_.q, group_.range.query + query(r), head(r)), d(), scale_, q);
        state_of(r).begin();
      } else {
        std::fill_n(q, q_row(), element(0));
      }
      std::fill_n(o_ + r * o_row(), o_row(), T(0));
    }
  }

  const element* tile_of(const packed_tiles<Form>& packed, index_t k0) {
    if (packed.memory != nullptr) return packed.get(in_, group_.range, {kv_head(), k0});
    Form::pack(in_, group_.range, {kv_head(), k0}, own_tile_);
    return own_tile_;
  }

  // What is read after the present key tile: the next one, packed or not, and where that is the
  // next query tile's, its queries too.
  void look_ahead(const packed_tiles<Form>& packed, index_t i1, index_t next) {
    ahead_.clear();
    if (packed.memory == nullptr) return;
    if (next >= group_.range.keys) {
      if (packed.slots == nullptr) return;
      next = first_tile(group_, i1);
      if (next >= group_.range.keys) return;
      ahead_.add(in_.q, rows_from(group_, i1));
      ahead_.add(out_.o, rows_from(group_, i1));
    }
    if (const element* const tile = packed.find(next, tile_size())) {
      ahead_.add(tile, 0, 1, tile_size());
    } else {
      ahead_.add(in_.k, group_.range, {kv_head(), next});
      ahead_.add(in_.v, group_.range, {kv_head(), next});
    }
    ahead_.spread_over(rows_);
  }

  // slot: where its scores are kept.
  strip_of<Form> strip_at(row_range rows, index_t slot, const element* tile, key_range keys) const {
    const index_t at = slot * Form::strips::most * key_tile;
    return {q_ + rows.first * q_row(), q_row(), tile,       d(), dv(), s_ + at, p_ + at,
            o_ + rows.first * o_row(), o_row(), rows.count, keys};
  }
  std::uint64_t any_bit(index_t r0, index_t rows) const {
    std::uint64_t any = 0;
    for (index_t r = r0; r < r0 + rows; ++r) any |= bits_[r];
    return any;
  }

  // The next strips from row r on, step by step; returns the row after them.
  index_t strips(index_t r, const visited_tile& tile) {
    row_range rows[together];
    strip_of<Form> at[together];
    index_t count = 0;
    for (index_t taken = 0; taken < together && r < rows_; ++taken) {
      const row_range next{r, Form::strips::next(rows_ - r)};
      r += next.count;
      const std::uint64_t any = any_bit(next.first, next.count);
      if (any == 0) continue;
      rows[count] = next;
      at[count] = strip_at(next, count, tile.packed, range_of(any));
      ++count;
    }
    for (index_t i = 0; i < count; ++i) Form::scores(at[i], scales_late ? T(1) : scale_);
    for (index_t i = 0; i < count; ++i) weigh(at[i], rows[i].first, tile.k0);
    for (index_t i = 0; i < count; ++i) add_values(at[i], rows[i].first, tile.c);
    return r;
  }
  void add_values(const strip_of<Form>& at, index_t r0, coverage c) {
    if (c == coverage::partial && !Form::values_finite(at)) return add_visible(at, r0);
    Form::add_values(at);
  }
  // From scores to weights.
  void weigh(const strip_of<Form>& at, index_t r0, index_t k0) {
    for (index_t r = 0; r < at.rows; ++r) {
      ahead_.fetch();
      if constexpr (modifies_scores<P>) {
        modify_row<units, T>(group_.bound((r0 + r) % group_.heads),
                             {at.s + r * key_tile, nullptr, at.keys, position(r0 + r), k0});
      }
      if constexpr (scales_late) {
        Form::template weigh_unscaled<units>(at, r, bits_[r0 + r], state_of(r0 + r), scale_);
      } else {
        Form::template weigh<units>(at, r, bits_[r0 + r], state_of(r0 + r));
      }
    }
  }
  void add_visible(const strip_of<Form>& at, index_t r0) {
    for (index_t r = 0; r < at.rows; ++r) Form::add_visible(at, r, bits_[r0 + r]);
  }

  void finish(index_t r) {
    T* o = o_ + r * o_row();
    divide_by_sum(state_of(r), std::span<T>(o, static_cast<std::size_t>(dv())));
    const index_t token = group_.range.query + query(r);
    write_row(o, dv(), row_of(out_.o, token, head(r)));
    write_log_sum<units>(out_, state_of(r), token, head(r));
  }

  const In& in_;
  const Out& out_;
  head_group<P> group_;
  T scale_;
  element *q_, *own_tile_, *p_;
  T *o_, *s_, *sums_, *tops_;
  std::uint64_t* bits_;
  line_stream ahead_;
  index_t i0_ = 0, rows_ = 0;
};

}  // namespace deepseek::cpu_attention
