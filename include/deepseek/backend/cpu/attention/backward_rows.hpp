// SPDX-License-Identifier: Apache-2.0
// Attention backward for the heads that share one key-value head of one sequence: for each tile of
// rows, for each key tile that it visits, with p recomputed from lse,
//   p = e^(s - lse), dp = do v^T, ds = scale p (dp - sum(do o)), times a score modifier's slope,
//   dv += p^T do, dk += ds^T q, dq += ds k.
// Here: which pairs of tiles, what is visible, p and ds. The five products and their operands are
// Self's: backward_wide.hpp, backward_pairs.hpp. Every element of dq is one chain over keys, of dk
// and dv one over rows, ascending: the bits do not depend on how tiles are dealt out. Where a
// masked pair could bring in a NaN, Self leaves such pairs out one by one.
// Source: Dao 2023 (FlashAttention-2), section 3.1.2.
#pragma once

#include "deepseek/backend/cpu/attention/fetch.hpp"
#include "deepseek/backend/cpu/attention/key_slots.hpp"
#include "deepseek/backend/cpu/attention/pack.hpp"
#include "deepseek/backend/cpu/attention/score.hpp"
#include "deepseek/backend/cpu/attention/softmax.hpp"
#include "deepseek/backend/cpu/attention/tiles.hpp"
#include "deepseek/backend/cpu/simd_tiles.hpp"

#include <optional>

namespace deepseek::cpu_attention {

// Which gradients one task makes.
enum class gradients_of { both, queries, keys };

// The sums of one key tile: rows of keys.
template <class T>
struct key_sums {
  T *dk, *dv;
  index_t dk_row, dv_row;
};

struct backward_memory;

template <class Self, class T, class In, class Out, class G, class P>
class backward_rows {
 public:
  backward_rows(const In& in, const Out& out, const G& g, const head_group<P>& group, T scale)
      : in_(in), out_(out), g_(g), group_(group), scale_(scale) {}

  // Query tiles first .. last - 1 against the keys of `among` (at tile edges).
  void run(index_t first, index_t last, key_range among, gradients_of wanted) {
    const simd::tile_scope given_back;
    wanted_ = wanted;
    among_ = among;
    // In one pass over all, what is kept of a key tile is given up after its last visit.
    if (wanted_ == gradients_of::both) slots_.emplace(group_);
    if (wanted_ == gradients_of::keys) slots_.emplace(among);
    take_memory();
    for (index_t t = first; t < last; ++t) {
      const index_t i0 = t * group_.queries_per_tile();
      query_tile(i0, std::min(i0 + group_.queries_per_tile(), group_.range.queries));
    }
    for (index_t k0 = among.low; wants_keys() && k0 < among.high; k0 += key_tile) {
      if (slots_->is_closed(k0)) continue;
      if (!slots_->is_open(k0)) begin_sums(k0);
      finish_keys(k0);
    }
  }

 protected:
  static constexpr base units = base_of<P>;

  index_t d() const { return in_.q.extent(2); }
  index_t dv() const { return in_.v.extent(2); }
  index_t d_row() const { return row_size<T>(d()); }
  index_t dv_row() const { return row_size<T>(dv()); }
  index_t most() const { return round_up(std::max(most_rows, group_.heads), Self::strips::most); }
  index_t rows() const { return rows_; }
  index_t kv_head() const { return group_.first / group_.heads; }
  index_t token(index_t r) const { return group_.range.query + i0_ + r / group_.heads; }
  index_t position(index_t r) const { return group_.range.start + i0_ + r / group_.heads; }
  index_t head(index_t r) const { return group_.first + r % group_.heads; }
  index_t keys_in(index_t k0) const { return std::min(key_tile, group_.range.keys - k0); }
  // Places for key tiles: one after another takes the only one where just queries are wanted.
  index_t tiles() const {
    if (!wants_keys()) return 1;
    return (among_.high - among_.low + key_tile - 1) / key_tile;
  }
  index_t tile_index(index_t k0) const { return wants_keys() ? slots_->slot(k0) : 0; }
  bool wants_queries() const { return wanted_ != gradients_of::keys; }
  bool wants_keys() const { return wanted_ != gradients_of::queries; }
  key_sums<T> sums_of(index_t k0) const {
    T* const dk = sums_ + tile_index(k0) * sums_size();
    return {dk, dk + key_tile * tight_row<T>(d()), tight_row<T>(d()), tight_row<T>(dv())};
  }
  index_t sums_size() const { return key_tile * (tight_row<T>(d()) + tight_row<T>(dv())); }
  std::uint64_t bits_of_strip(index_t r0, index_t rows) const {
    std::uint64_t any = 0;
    for (index_t r = r0; r < r0 + rows; ++r) any |= bits_[r];
    return any;
  }

  // Between two products.
  void fetch_ahead() { ahead_.fetch(pieces_of_product); }

  const In& in_;
  const Out& out_;
  const G& g_;
  head_group<P> group_;
  T scale_;
  // Of the tile of rows: [rows][64] p and ds, dq, and what a row sees of the key tile.
  T *p_ = nullptr, *ds_ = nullptr, *dq_ = nullptr;
  std::uint64_t* bits_ = nullptr;

 private:
  Self& self() { return static_cast<Self&>(*this); }

  void take_memory() {
    constexpr index_t word = sizeof(std::uint64_t) / sizeof(T);
    const index_t row = d_row() + 2 + word, weights = round_up(most(), 32) * key_tile;
    const index_t sums = tiles() * sums_size();
    T* p = kernels::scratch<backward_memory, T>(
        static_cast<std::size_t>(most() * row + 2 * weights + 2 * dv_row() + sums));
    bits_ = reinterpret_cast<std::uint64_t*>(p), p += most() * word;
    sums_ = p, p += sums;
    dq_ = p, p += most() * d_row();
    p_ = p, p += weights;
    ds_ = p, p += weights;
    lse_ = p, p += most();
    delta_ = p, p += most();
    two_rows_ = p;
    self().take_operands();
  }

  void begin_sums(index_t k0) {
    slots_->open(k0);
    std::fill_n(sums_of(k0).dk, sums_size(), T(0));
  }
  void begin_keys(index_t k0) {
    if (wants_keys()) {
      if (slots_->is_open(k0)) return;
      begin_sums(k0);
    }
    self().pack_keys(k0);
  }
  void finish_keys(index_t k0) {
    const auto sums = sums_of(k0);
    for (index_t j = 0; j < keys_in(k0); ++j) {
      const index_t key = group_.range.key + k0 + j;
      write_row(sums.dk + j * sums.dk_row, d(), row_of(g_.dk, key, kv_head()));
      write_row(sums.dv + j * sums.dv_row, dv(), row_of(g_.dv, key, kv_head()));
    }
    slots_->close(k0);
  }

  void query_tile(index_t i0, index_t i1) {
    i0_ = i0;
    rows_ = (i1 - i0) * group_.heads;
    bool begun = wants_queries();
    if (begun) begin_rows();
    for_each_key_tile(group_, i0, i1, among_, [&](index_t k0, coverage c, index_t next) {
      if (!begun) begin_rows();
      begun = true;
      begin_keys(k0);
      const bool last = wants_keys() && slots_->closes_after(k0, i0 / group_.queries_per_tile());
      look_ahead(i1, next);
      if (last) keys_ahead(k0);
      pair_of_tiles(k0, c);
      if (last) finish_keys(k0);
    });
    if (!wants_queries()) return;
    for (index_t r = 0; r < rows_; ++r) {
      write_row(dq_ + r * d_row(), d(), row_of(g_.dq, token(r), head(r)));
    }
  }

  // What is read after the present key tile: the next one, and where that is the next query tile's,
  // its rows, too.
  void look_ahead(index_t i1, index_t next) {
    ahead_.clear();
    if (wanted_ != gradients_of::both) return;
    if (next >= group_.range.keys) {
      next = first_tile(group_, i1);
      if (next >= group_.range.keys) return;
      const auto rows = rows_from(group_, i1);
      ahead_.add(in_.q, rows);
      ahead_.add(g_.d_o, rows);
      ahead_.add(out_.o, rows);
      ahead_.add(g_.dq, rows);
    }
    if (slots_->is_open(next)) {
      self().add_operands(next, ahead_);
      ahead_.add(sums_of(next).dk, 0, 1, sums_size());
    } else {
      ahead_.add(in_.k, group_.range, {kv_head(), next});
      ahead_.add(in_.v, group_.range, {kv_head(), next});
    }
    spread_ahead();
  }
  // And what the sums of a key tile after its last visit are written to.
  void keys_ahead(index_t k0) {
    ahead_.add(g_.dk, group_.range, {kv_head(), k0});
    ahead_.add(g_.dv, group_.range, {kv_head(), k0});
    spread_ahead();
  }
  // Evenly over time, where all are visible: a piece for each row's weights, more for a product of
  // a strip (of five; keys are about as many strips as rows).
  static constexpr index_t pieces_of_product = 8;
  void spread_ahead() {
    const index_t strips = (rows_ + Self::strips::most - 1) / Self::strips::most;
    ahead_.spread_over(rows_ + 5 * pieces_of_product * strips);
  }

  void begin_rows() {
    self().begin_operands();
    std::fill_n(dq_, round_up(rows_, Self::strips::most) * d_row(), T(0));
    for (index_t r = 0; r < rows_; ++r) {
      lse_[r] = into_base<units>(static_cast<T>(out_.lse(token(r), head(r))));
      delta_[r] = dot_with_output(r);
    }
  }
  // sum(do o) of one row.
  T dot_with_output(index_t r) {
    T *const o = two_rows_, *const d_o = two_rows_ + dv_row();
    std::fill_n(two_rows_, 2 * dv_row(), T(0));
    read_row<T>(row_of(out_.o, token(r), head(r)), dv(), o);
    read_row<T>(row_of(g_.d_o, token(r), head(r)), dv(), d_o);
    auto sum = simd::pack<T>::zero();
    for (index_t c = 0; c < dv(); c += lanes<T>) {
      sum = fma(simd::pack<T>::load(d_o + c), simd::pack<T>::load(o + c), sum);
    }
    return reduce_sum(sum);
  }

  void pair_of_tiles(index_t k0, coverage c) {
    std::uint64_t any = 0;
    visible_rows(group_, {i0_, i0_ + rows_ / group_.heads}, k0, c, bits_);
    for (index_t r = 0; r < rows_; ++r) {
      // A row all of whose scores are -inf saw nothing.
      if (lse_[r] == -std::numeric_limits<T>::infinity()) bits_[r] = 0, c = coverage::partial;
      any |= bits_[r];
    }
    if (any == 0) return;
    const key_range keys = range_of(any);
    for_each_strip(0, rows_, [&](index_t r0, index_t rows) { weights(r0, rows, k0); });
    self().take_weights();
    if (c == coverage::partial && !self().finite(k0, keys)) return self().add_pairs(k0, keys);
    for_each_strip(0, wants_queries() ? rows_ : 0, [&](index_t r0, index_t rows) {
      const std::uint64_t strip = bits_of_strip(r0, rows);
      if (strip != 0) self().add_to_queries(r0, rows, k0, range_of(strip));
      fetch_ahead();
    });
    const index_t first = keys.low / Self::strips::most * Self::strips::most;
    for_each_strip(first, wants_keys() ? keys.high : first, [&](index_t j, index_t count) {
      from_rows_that_see(k0, {j, j + count});
      fetch_ahead();
    });
  }
  template <class F>
  static void for_each_strip(index_t first, index_t last, F f) {
    for (index_t r = first, rows; r < last; r += rows) {
      rows = Self::strips::next(last - r);
      f(r, rows);
    }
  }

  // p and ds of one strip of rows; zero where not visible.
  void weights(index_t r0, index_t rows, index_t k0) {
    T *p = p_ + r0 * key_tile, *ds = ds_ + r0 * key_tile;
    const std::uint64_t any = bits_of_strip(r0, rows);
    if (any == 0) {
      std::fill_n(p, rows * key_tile, T(0));
      std::fill_n(ds, rows * key_tile, T(0));
      return;
    }
    const key_range keys = range_of(any);
    self().multiply(r0, rows, k0, keys);
    fetch_ahead();
    for (index_t r = 0; r < rows; ++r) {
      ahead_.fetch();
      T slope[modifies_scores<P> ? key_tile : 1];
      if constexpr (modifies_scores<P>) {
        std::fill_n(slope, key_tile, T(1));
        modify_row<units, T>(group_.bound((r0 + r) % group_.heads),
                             {p + r * key_tile, slope, keys, position(r0 + r), k0});
      }
      weight_row(r0 + r, keys, slope);
    }
  }
  // slope: of the row's modified scores, read only where there are modifiers.
  DEEPSEEK_INLINE void weight_row(index_t r, key_range keys, const T* slope) {
    using pack = simd::pack<T>;
    const pack lse = pack::broadcast(lse_[r]), delta = pack::broadcast(delta_[r]);
    const pack scale = pack::broadcast(scale_), zero = pack::zero();
    T *p_row = p_ + r * key_tile, *ds_row = ds_ + r * key_tile;
    for (index_t j = 0; j < key_tile; j += lanes<T>) {
      if (j + lanes<T> <= keys.low || j >= keys.high) {
        zero.store(p_row + j);
        zero.store(ds_row + j);
        continue;
      }
      const pack p = power<units, weights_are::kept>(pack::load(p_row + j) - lse);
      pack ds = p * scale * (pack::load(ds_row + j) - delta);
      if constexpr (modifies_scores<P>) ds = ds * pack::load(slope + j);
      select_bits(bits_[r] >> j, p, zero).store(p_row + j);
      select_bits(bits_[r] >> j, ds, zero).store(ds_row + j);
    }
  }

  // Keys of the tile, from the rows that see one of them.
  void from_rows_that_see(index_t k0, key_range keys) {
    const std::uint64_t wanted = span_bits(keys.low, keys.high, 0);
    index_t first = 0, last = rows_;
    while (first < last && (bits_[first] & wanted) == 0) ++first;
    while (last > first && (bits_[last - 1] & wanted) == 0) --last;
    if (first < last) self().add_to_keys(k0, keys, first, last);
  }

  T *sums_ = nullptr, *lse_ = nullptr, *delta_ = nullptr, *two_rows_ = nullptr;
  gradients_of wanted_ = gradients_of::both;
  key_range among_{0, 0};
  std::optional<key_slots> slots_;  // where keys are wanted
  line_stream ahead_;
  index_t i0_ = 0, rows_ = 0;
};

}  // namespace deepseek::cpu_attention
