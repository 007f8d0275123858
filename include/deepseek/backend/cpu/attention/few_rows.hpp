// SPDX-License-Identifier: Apache-2.0
// Attention forward of so few rows (a decoding step: the heads that share one key-value head) that
// keys and values are read where they stand, each once. Two ways to go through them, one result:
//   all heads of a thread tile after tile, so that memory is read in order;
//   where threads outnumber the heads, each step of forward.hpp as a parallel region over what it
//   can be cut along: scores over key tiles, weights over rows, values over columns. A maximum that
//   is raised hands the next step the factor of the sums so far.
// Every number is computed as forward.hpp does, in the same order: the bits are those of a prefill,
// for any number of threads. Memory: of the second way, the scores of all keys.
#pragma once

#include "deepseek/backend/cpu/attention/forward.hpp"
#include "deepseek/backend/cpu/simd_tiles.hpp"

#include <algorithm>
#include <span>

namespace deepseek::cpu_attention {

// Memory handed out piece by piece; from null: only counted.
struct pieces {
  std::byte* memory = nullptr;
  std::size_t used = 0;

  template <class T>
  T* take(index_t n) {
    std::byte* const at = memory == nullptr ? nullptr : memory + used;
    used += static_cast<std::size_t>(round_up(n * static_cast<index_t>(sizeof(T)), 64));
    return reinterpret_cast<T*>(at);
  }
};

// Columns of values that are one task, at most.
inline constexpr index_t most_columns = 256;

// The rows of one key-value head of one sequence.
template <class Form, class In, class Out, class P>
class few_rows {
  using T = typename Form::sum;
  using element = typename Form::element;
  struct tile_at {
    index_t k0;
    coverage c;
  };

 public:
  // Scores are kept of one tile, or of all.
  enum class scores_of { one_tile, all_tiles };
  few_rows(const In& in, const Out& out, const head_group<P>& group, T scale, scores_of kept,
           pieces& memory)
      : in_(in),
        out_(out),
        group_(group),
        scale_(into_base<units>(scale)),
        kept_(kept == scores_of::one_tile ? 1 : group.key_tiles()) {
    const index_t tiles = group.key_tiles();
    tiles_ = memory.take<tile_at>(tiles);
    bits_ = memory.take<std::uint64_t>(tiles * rows());
    factors_ = memory.take<T>(kept == scores_of::one_tile ? 0 : tiles * rows());
    tops_ = memory.take<T>(rows());
    sums_ = memory.take<T>(rows() * lanes<T>);
    o_ = memory.take<T>(kept == scores_of::one_tile ? rows() * o_row() : 0);
    s_ = memory.take<T>(kept_ * strip());
    p_ = std::is_same_v<element, T> ? reinterpret_cast<element*>(s_)
                                    : memory.take<element>(kept_ * strip());
    q_ = memory.take<element>(rows() * q_row());
    turned_ = memory.take<element>(Form::turned_size(d()));
  }

  index_t rows() const { return group_.range.queries * group_.heads; }
  index_t tiles() const { return count_; }
  index_t first_key(index_t t) const { return tiles_[t].k0; }

  // First: the queries, and which key tiles they visit.
  void begin() {
    if (rows() == 0) return;
    for (index_t r = 0; r < rows(); ++r) {
      Form::read_query(row_of(in_.q, token(r), head(r)), d(), scale_, q_ + r * q_row());
      state_of(r).begin();
    }
    if (queries_turn<Form, In>(rows())) Form::turn_queries(strip_at(0, {}), turned_);
    const index_t n = group_.range.queries;
    for_each_key_tile(group_, 0, n, {0, group_.range.keys}, [&](index_t k0, coverage c, index_t) {
      std::uint64_t* const bits = bits_ + count_ * rows();
      visible_rows(group_, {0, n}, k0, c, bits);
      if (std::any_of(bits, bits + rows(), [](std::uint64_t b) { return b != 0; })) {
        tiles_[count_++] = {k0, c};
      }
    });
  }

  // All of it: begin, then every tile in order, then finish.
  void begin_sums() { std::fill_n(o_, rows() * o_row(), T(0)); }
  void visit(index_t t, coming_tile* coming) const {
    scores(t, coming);
    auto at = strip_at(t);
    at.o = o_, at.o_row = o_row();
    for (index_t r = 0; r < rows(); ++r) weigh(at, t, r);
    add_values(at, t, 0, coming);
  }
  // Whether the tile at k0 lies in rows of `heads` neighbouring heads, this one first; then `to` is
  // how to ask for it.
  bool comes(index_t k0, index_t heads, coming_tile& to) const {
    return heads > 1 && lies_in_rows(in_.k, k0, heads, to.keys) &&
           lies_in_rows(in_.v, k0, heads, to.values);
  }
  void finish() const {
    for (index_t r = 0; r < rows(); ++r) {
      write_columns(o_ + r * o_row(), r, 0, dv());
      write_log_sum<units>(out_, state_of(r), token(r), head(r));
    }
  }

  // Or by steps, of all tiles: the scores of each, ...
  void scores(index_t t, coming_tile* coming = nullptr) const {
    const auto at = strip_at(t);
    scores_in_place<Form>(in_, group_.range, place_of(t, coming), at, turned_, scale_);
    if constexpr (modifies_scores<P>) {
      for (index_t r = 0; r < rows(); ++r) {
        const index_t position = group_.range.start + r / group_.heads;
        modify_row<units, T>(group_.bound(r % group_.heads),
                             {at.s + r * key_tile, nullptr, at.keys, position, tiles_[t].k0});
      }
    }
  }
  // ... the weights of row r, ...
  void weights(index_t r) const {
    alignas(64) T factor[lanes<T>];
    for (index_t t = 0; t < count_; ++t) {
      auto at = strip_at(t);
      at.o = factor, at.o_row = 0, at.dv = lanes<T>;
      simd::pack<T>::broadcast(1).store(factor);
      weigh(at, t, r);
      factors_[t * rows() + r] = factor[0];
    }
    write_log_sum<units>(out_, state_of(r), token(r), head(r));
  }
  // ... and some columns of the result.
  void values(index_t first, index_t columns) const {
    alignas(64) T o[lanes<T> * most_columns] = {};
    for (index_t t = 0; t < count_; ++t) {
      raise(o, factors_ + t * rows());
      auto at = strip_at(t);
      at.o = o, at.o_row = most_columns, at.dv = columns;
      add_values(at, t, first);
    }
    for (index_t r = 0; r < rows(); ++r) write_columns(o + r * most_columns, r, first, columns);
  }

 private:
  static constexpr base units = base_of<P>;

  index_t d() const { return in_.q.extent(2); }
  index_t dv() const { return in_.v.extent(2); }
  index_t q_row() const { return Form::query_row(d()); }
  index_t o_row() const { return row_size<T>(dv()); }
  index_t strip() const { return rows() * key_tile; }
  index_t token(index_t r) const { return group_.range.query + r / group_.heads; }
  index_t head(index_t r) const { return group_.first + r % group_.heads; }
  online_row<T> state_of(index_t r) const { return {tops_ + r, sums_ + r * lanes<T>}; }
  const std::uint64_t* bits_of(index_t t) const { return bits_ + t * rows(); }
  index_t kv_head() const { return group_.first / (in_.q.extent(1) / in_.k.extent(1)); }
  key_tile_of place_of(index_t t, coming_tile* coming = nullptr) const {
    return {kv_head(), tiles_[t].k0, coming};
  }
  template <class View>
  bool lies_in_rows(const View& v, index_t k0, index_t heads, kernels::line_order& to) const {
    constexpr auto size = static_cast<index_t>(sizeof(typename View::value_type));
    const attention_range& range = group_.range;
    const index_t width = heads * v.extent(2) * size;
    if (k0 >= range.keys || range.run_of_keys(k0) < std::min(key_tile, range.keys - k0) ||
        v.stride(2) != 1 || v.stride(1) != v.extent(2) || width % kernels::ordered_bytes != 0) {
      return false;
    }
    const auto first = row_of(v, range.key_row(k0), kv_head());
    to = {kernels::as_bytes(first.data), width, v.stride(0) * size - width, width};
    return true;
  }
  // What some row sees of tile t, which is not nothing.
  key_range keys_of(index_t t) const {
    std::uint64_t any = 0;
    for (index_t r = 0; r < rows(); ++r) any |= bits_of(t)[r];
    return range_of(any);
  }
  strip_of<Form> strip_at(index_t t) const { return strip_at(t, keys_of(t)); }
  strip_of<Form> strip_at(index_t t, key_range keys) const {
    const index_t at = t % kept_ * strip();
    return {q_, q_row(), nullptr, d(), dv(), s_ + at, p_ + at, nullptr, 0, rows(), keys};
  }
  void weigh(const strip_of<Form>& at, index_t t, index_t r) const {
    Form::template weigh<units>(at, r, bits_of(t)[r], state_of(r));
  }
  void add_values(const strip_of<Form>& at, index_t t, index_t first_column,
                  coming_tile* coming = nullptr) const {
    Form::add_standing_values(in_, group_.range, place_of(t, coming), at, first_column,
                              tiles_[t].c == coverage::partial ? bits_of(t) : nullptr);
  }
  void raise(T* o, const T* factors) const {
    for (index_t r = 0; r < rows(); ++r) {
      if (factors[r] == T(1)) continue;
      T* const row = o + r * most_columns;
      const auto factor = simd::pack<T>::broadcast(factors[r]);
      for (index_t c = 0; c < most_columns; c += lanes<T>) {
        (simd::pack<T>::load(row + c) * factor).store(row + c);
      }
    }
  }
  void write_columns(T* o, index_t r, index_t first, index_t count) const {
    divide_by_sum(state_of(r), std::span<T>(o, static_cast<std::size_t>(count)));
    auto to = row_of(out_.o, token(r), head(r));
    to.data += first * to.stride;
    write_row(o, count, to);
  }

  const In& in_;
  const Out& out_;
  head_group<P> group_;
  T scale_;
  index_t kept_;
  tile_at* tiles_;
  std::uint64_t* bits_;
  T *factors_, *tops_, *sums_, *o_, *s_;
  element *p_, *q_, *turned_;
  index_t count_ = 0;
};

// All of some heads of a sequence, tile after tile.
template <class Rows>
void attend(std::span<Rows> heads) {
  const simd::tile_scope given_back;
  for (Rows& rows : heads) {
    rows.begin();
    rows.begin_sums();
  }
  index_t visited[most_rows] = {};
  const auto next_key = [&](std::size_t i, index_t more = 0) {
    const index_t t = visited[i] + more;
    return t < heads[i].tiles() ? heads[i].first_key(t) : no_key;
  };
  // The first tile of some head at or after k0, or only after it.
  const auto next_tile = [&](index_t k0, bool after) {
    index_t next = no_key;
    for (std::size_t i = 0; i < heads.size(); ++i) {
      next = std::min(next, next_key(i, after && next_key(i) == k0 ? 1 : 0));
    }
    return next;
  };
  for (index_t k0 = next_tile(0, false), next; k0 != no_key; k0 = next) {
    next = next_tile(k0, true);
    coming_tile coming;
    const bool known =
        next != no_key && heads[0].comes(next, static_cast<index_t>(heads.size()), coming);
    for (std::size_t i = 0; i < heads.size(); ++i) {
      if (next_key(i) == k0) heads[i].visit(visited[i]++, known ? &coming : nullptr);
    }
  }
  for (const Rows& rows : heads) rows.finish();
}

}  // namespace deepseek::cpu_attention
