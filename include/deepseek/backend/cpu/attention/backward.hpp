// SPDX-License-Identifier: Apache-2.0
// Attention backward for the heads that share one key-value head of one sequence: for each tile of
// rows, for each key tile that it visits, with p recomputed from lse,
//   p = e^(s - lse), dp = do v^T, ds = scale p (dp - sum(do o)), times a score modifier's slope,
//   dv += p^T do, dk += ds^T q, dq += ds k.
// Every element of dq is one chain over keys, of dk and dv one over rows, ascending: the bits do
// not depend on how tiles are dealt out. Where a masked pair could bring in a NaN, pairs are added
// one by one. Source: Dao 2023 (FlashAttention-2), section 3.1.2.
#pragma once

#include "deepseek/backend/cpu/attention/pack.hpp"
#include "deepseek/backend/cpu/attention/score.hpp"
#include "deepseek/backend/cpu/attention/softmax.hpp"
#include "deepseek/backend/cpu/attention/tiles.hpp"

namespace deepseek::cpu_attention {

// Which gradients one task makes.
enum class gradients_of { both, queries, keys };

// One key tile: keys and values turned, keys as rows, and the sums of dk and dv.
template <class T>
struct gradient_tile {
  T *keys_turned, *values_turned, *keys, *dk, *dv;
};

struct backward_memory;

template <class T, class In, class Out, class G, class P>
class backward_head {
 public:
  backward_head(const In& in, const Out& out, const G& g, const head_group<P>& group, T scale)
      : in_(in), out_(out), g_(g), group_(group), scale_(scale) {}

  // Query tiles first .. last - 1 against the keys of `among` (at tile edges).
  void run(index_t first, index_t last, key_range among, gradients_of wanted) {
    wanted_ = wanted;
    among_ = among;
    take_memory();
    if (wanted_ != gradients_of::queries) {
      for (index_t k0 = among.low; k0 < among.high; k0 += key_tile) begin_keys(k0);
    }
    for (index_t t = first; t < last; ++t) {
      const index_t i0 = t * group_.queries_per_tile();
      query_tile(i0, std::min(i0 + group_.queries_per_tile(), group_.range.queries));
    }
    if (wanted_ != gradients_of::queries) {
      for (index_t k0 = among.low; k0 < among.high; k0 += key_tile) finish_keys(k0);
    }
  }

 private:
  static constexpr base units = base_of<P>;

  index_t d() const { return in_.q.extent(2); }
  index_t dv() const { return in_.v.extent(2); }
  index_t d_row() const { return row_size<T>(d()); }
  index_t dv_row() const { return row_size<T>(dv()); }
  index_t kv_head() const { return group_.first / group_.heads; }
  index_t token(index_t r) const { return group_.range.query + i0_ + r / group_.heads; }
  index_t position(index_t r) const { return group_.range.start + i0_ + r / group_.heads; }
  index_t head(index_t r) const { return group_.first + r % group_.heads; }
  index_t keys_in(index_t k0) const { return std::min(key_tile, group_.range.keys - k0); }

  index_t tile_size() const {
    return key_tile * (d() + dv() + round_up(d(), panel<T>) + d_row() + dv_row());
  }
  gradient_tile<T> tile_of(index_t k0) const {
    T* p = tiles_ +
           (wanted_ == gradients_of::queries ? 0 : (k0 - among_.low) / key_tile * tile_size());
    gradient_tile<T> t{};
    t.dk = p;
    t.dv = t.dk + key_tile * d_row();
    t.keys = t.dv + key_tile * dv_row();
    t.keys_turned = t.keys + key_tile * round_up(d(), panel<T>);
    t.values_turned = t.keys_turned + key_tile * d();
    return t;
  }

  void take_memory() {
    most_ = round_up(std::max(most_rows, group_.heads), strip_rows<T>);
    const index_t dp = round_up(d(), panel<T>), dvp = round_up(dv(), panel<T>);
    const index_t tiles =
        wanted_ == gradients_of::queries ? 1 : (among_.high - among_.low + key_tile - 1) / key_tile;
    constexpr index_t word = sizeof(std::uint64_t) / sizeof(T);
    const index_t rows = most_ * (2 * d_row() + dv_row() + dp + dvp + 2 * key_tile + 2 + word);
    T* p = kernels::scratch<backward_memory, T>(
        static_cast<std::size_t>(rows + dv_row() + tiles * tile_size()));
    bits_ = reinterpret_cast<std::uint64_t*>(p), p += most_ * word;
    tiles_ = p, p += tiles * tile_size();
    q_ = p, p += most_ * d_row();
    dq_ = p, p += most_ * d_row();
    do_ = p, p += most_ * dv_row();
    q_panels_ = p, p += most_ * dp;
    do_panels_ = p, p += most_ * dvp;
    p_ = p, p += most_ * key_tile;
    ds_ = p, p += most_ * key_tile;
    lse_ = p, p += most_;
    delta_ = p, p += most_;
    o_ = p;
  }

  void pack_keys(index_t k0) {
    const auto t = tile_of(k0);
    const index_t first = group_.range.key + k0, count = keys_in(k0);
    pack_columns(in_.k, first, kv_head(), count, t.keys_turned);
    pack_columns(in_.v, first, kv_head(), count, t.values_turned);
    pack_rows(in_.k, first, kv_head(), count, key_tile, t.keys);
  }
  void begin_keys(index_t k0) {
    const auto t = tile_of(k0);
    pack_keys(k0);
    std::fill_n(t.dk, key_tile * d_row(), T(0));
    std::fill_n(t.dv, key_tile * dv_row(), T(0));
  }
  void finish_keys(index_t k0) {
    const auto t = tile_of(k0);
    for (index_t j = 0; j < keys_in(k0); ++j) {
      const index_t key = group_.range.key + k0 + j;
      write_row(t.dk + j * d_row(), d(), row_of(g_.dk, key, kv_head()));
      write_row(t.dv + j * dv_row(), dv(), row_of(g_.dv, key, kv_head()));
    }
  }

  void query_tile(index_t i0, index_t i1) {
    i0_ = i0;
    rows_ = (i1 - i0) * group_.heads;
    bool begun = wanted_ != gradients_of::keys;
    if (begun) begin_rows();
    for_each_key_tile(group_, i0, i1, among_, [&](index_t k0, coverage c, index_t) {
      if (!begun) begin_rows();
      begun = true;
      if (wanted_ == gradients_of::queries) pack_keys(k0);
      pair_of_tiles(k0, c);
    });
    if (wanted_ == gradients_of::keys) return;
    for (index_t r = 0; r < rows_; ++r) {
      write_row(dq_ + r * d_row(), d(), row_of(g_.dq, token(r), head(r)));
    }
  }

  void begin_rows() {
    const T score_scale = into_base<units>(scale_);
    for (index_t r = 0; r < round_up(rows_, strip_rows<T>); ++r) {
      T *q = q_ + r * d_row(), *d_o = do_ + r * dv_row();
      std::fill_n(q, d_row(), T(0));
      std::fill_n(dq_ + r * d_row(), d_row(), T(0));
      std::fill_n(d_o, dv_row(), T(0));
      if (r >= rows_) continue;
      const auto q_from = row_of(in_.q, token(r), head(r));
      const auto do_from = row_of(g_.d_o, token(r), head(r));
      read_row<T>(q_from, d(), q);
      for (index_t c = 0; c < d(); ++c) q[c] *= score_scale;
      read_row<T>(do_from, dv(), d_o);
      spread_row<T>(q_from, d(), r, most_, q_panels_);
      spread_row<T>(do_from, dv(), r, most_, do_panels_);
      lse_[r] = into_base<units>(static_cast<T>(out_.lse(token(r), head(r))));
      delta_[r] = dot_with_output(r, d_o);
    }
  }
  // sum(do o) of one row.
  T dot_with_output(index_t r, const T* d_o) {
    std::fill_n(o_, dv_row(), T(0));
    read_row<T>(row_of(out_.o, token(r), head(r)), dv(), o_);
    auto sum = simd::pack<T>::zero();
    for (index_t c = 0; c < dv(); c += lanes<T>) {
      sum = fma(simd::pack<T>::load(d_o + c), simd::pack<T>::load(o_ + c), sum);
    }
    return reduce_sum(sum);
  }

  void pair_of_tiles(index_t k0, coverage c) {
    const auto t = tile_of(k0);
    std::uint64_t any = 0;
    visible_rows(group_, {i0_, i0_ + rows_ / group_.heads}, k0, c, bits_);
    for (index_t r = 0; r < rows_; ++r) {
      // A row all of whose scores are -inf saw nothing.
      if (lse_[r] == -std::numeric_limits<T>::infinity()) bits_[r] = 0;
      any |= bits_[r];
    }
    if (any == 0) return;
    const key_range keys = range_of(any);
    for (index_t r0 = 0; r0 < rows_; r0 += strip_rows<T>) weights(r0, k0, t);
    if (c == coverage::partial && !finite(t, keys)) return add_pairs(t);
    if (wanted_ != gradients_of::keys) {
      for (index_t r0 = 0; r0 < rows_; r0 += strip_rows<T>) add_to_queries(r0, t);
    }
    if (wanted_ != gradients_of::queries) {
      for (index_t j = keys.low / strip_rows<T> * strip_rows<T>; j < keys.high;
           j += strip_rows<T>) {
        add_to_keys(j, std::min(strip_rows<T>, keys.high - j), t);
      }
    }
  }

  std::uint64_t bits_of_strip(index_t r0) const {
    std::uint64_t any = 0;
    for (index_t r = r0; r < std::min(r0 + strip_rows<T>, rows_); ++r) any |= bits_[r];
    return any;
  }

  // p and ds of one strip of rows; zero where not visible.
  void weights(index_t r0, index_t k0, const gradient_tile<T>& t) {
    T *p = p_ + r0 * key_tile, *ds = ds_ + r0 * key_tile;
    const index_t rows = std::min(strip_rows<T>, rows_ - r0);
    const std::uint64_t any = bits_of_strip(r0);
    if (any == 0) {
      std::fill_n(p, rows * key_tile, T(0));
      std::fill_n(ds, rows * key_tile, T(0));
      return;
    }
    const key_range keys = range_of(any);
    const product<T> scores{q_ + r0 * d_row(), d_row(), 1, t.keys_turned, d(), d(), p, key_tile};
    const product<T> value_gradients{
        do_ + r0 * dv_row(), dv_row(), 1, t.values_turned, dv(), dv(), ds, key_tile};
    multiply_strip(scores, rows, keys.low, keys.high, kernels::start::zero);
    multiply_strip(value_gradients, rows, keys.low, keys.high, kernels::start::zero);
    for (index_t r = 0; r < rows; ++r) {
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
      const pack p = power<units>(pack::load(p_row + j) - lse);
      pack ds = p * scale * (pack::load(ds_row + j) - delta);
      if constexpr (modifies_scores<P>) ds = ds * pack::load(slope + j);
      select_bits(bits_[r] >> j, p, zero).store(p_row + j);
      select_bits(bits_[r] >> j, ds, zero).store(ds_row + j);
    }
  }

  void add_to_queries(index_t r0, const gradient_tile<T>& t) {
    const std::uint64_t any = bits_of_strip(r0);
    if (any == 0) return;
    const key_range keys = range_of(any);
    const product<T> sums{ds_ + r0 * key_tile + keys.low,
                          key_tile,
                          1,
                          t.keys + keys.low * panel<T>,
                          key_tile,
                          keys.high - keys.low,
                          dq_ + r0 * d_row(),
                          d_row()};
    multiply_strip(sums, std::min(strip_rows<T>, rows_ - r0), 0, d(), kernels::start::from_c);
  }

  // Keys j .. j + count - 1 of the tile, from the rows that see one of them.
  void add_to_keys(index_t j, index_t count, const gradient_tile<T>& t) {
    const std::uint64_t wanted = span_bits(j, j + count, 0);
    index_t first = 0, last = rows_;
    while (first < last && (bits_[first] & wanted) == 0) ++first;
    while (last > first && (bits_[last - 1] & wanted) == 0) --last;
    if (first == last) return;
    const product<T> to_dv{p_ + first * key_tile + j,     1,       key_tile,
                           do_panels_ + first * panel<T>, most_,   last - first,
                           t.dv + j * dv_row(),           dv_row()};
    const product<T> to_dk{ds_ + first * key_tile + j,   1,      key_tile,
                           q_panels_ + first * panel<T>, most_,  last - first,
                           t.dk + j * d_row(),           d_row()};
    multiply_strip(to_dv, count, 0, dv(), kernels::start::from_c);
    multiply_strip(to_dk, count, 0, d(), kernels::start::from_c);
  }

  bool finite(const gradient_tile<T>& t, key_range keys) const {
    return panels_finite(t.keys + keys.low * panel<T>, key_tile, keys.high - keys.low, d()) &&
           panels_finite(q_panels_, most_, rows_, d()) &&
           panels_finite(do_panels_, most_, rows_, dv());
  }
  // The three sums pair by pair, in the order of the products.
  void add_pairs(const gradient_tile<T>& t) {
    for (index_t r = 0; r < rows_; ++r) {
      for (std::uint64_t bits = bits_[r]; bits != 0; bits &= bits - 1) {
        const index_t j = std::countr_zero(bits);
        const T p = p_[r * key_tile + j], ds = ds_[r * key_tile + j];
        for (index_t c = 0; wanted_ != gradients_of::queries && c < dv(); ++c) {
          T& to = t.dv[j * dv_row() + c];
          to = chain(p, do_[r * dv_row() + c], to);
        }
        for (index_t c = 0; c < d(); ++c) {
          const index_t in_panel = c / panel<T> * panel<T>, rest = c % panel<T>;
          T &to_key = t.dk[j * d_row() + c], &to_query = dq_[r * d_row() + c];
          if (wanted_ != gradients_of::queries) {
            to_key = chain(ds, q_panels_[in_panel * most_ + r * panel<T> + rest], to_key);
          }
          to_query = chain(ds, t.keys[in_panel * key_tile + j * panel<T> + rest], to_query);
        }
      }
    }
  }

  const In& in_;
  const Out& out_;
  const G& g_;
  head_group<P> group_;
  T scale_;
  gradients_of wanted_ = gradients_of::both;
  key_range among_{0, 0};
  index_t most_ = 0, i0_ = 0, rows_ = 0;
  T *tiles_ = nullptr, *q_ = nullptr, *dq_ = nullptr, *do_ = nullptr, *q_panels_ = nullptr;
  T *do_panels_ = nullptr, *p_ = nullptr, *ds_ = nullptr, *lse_ = nullptr, *delta_ = nullptr;
  T* o_ = nullptr;
  std::uint64_t* bits_ = nullptr;
};

}  // namespace deepseek::cpu_attention
