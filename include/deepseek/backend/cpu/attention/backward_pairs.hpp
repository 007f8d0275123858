// SPDX-License-Identifier: Apache-2.0
// The products of attention backward (backward_rows.hpp) from pairs of bf16, sums in float: p and
// ds are rounded to bf16 before they meet do, q and k. Sums over rows take rows 2 i and 2 i + 1 of
// a tile at once, so p and ds are also kept turned, [64 keys][pairs of rows][2].
#pragma once

#include "deepseek/backend/cpu/attention/backward_rows.hpp"
#include "deepseek/backend/cpu/attention/pairs.hpp"

namespace deepseek::cpu_attention {

struct pair_backward_memory;
struct shown_rows;

template <class In, class Out, class G, class P>
class pair_backward : public backward_rows<pair_backward<In, Out, G, P>, float, In, Out, G, P> {
  using base_class = backward_rows<pair_backward<In, Out, G, P>, float, In, Out, G, P>;
  friend base_class;
  using base_class::bits_, base_class::d, base_class::d_row, base_class::ds_, base_class::dq_;
  using base_class::dv, base_class::dv_row, base_class::g_, base_class::group_, base_class::head;
  using base_class::fetch_ahead;
  using base_class::in_, base_class::kv_head, base_class::most, base_class::p_, base_class::rows;
  using base_class::scale_, base_class::sums_of, base_class::tile_index, base_class::tiles;
  using base_class::token, base_class::units, base_class::wants_keys, base_class::wants_queries;

 public:
  using strips = pair_form::strips;
  using base_class::base_class;

 private:
  using element = pair_form::element;
  using pack = simd::pack<float>;
  static constexpr index_t w = pack::width;

  // Of one key tile: keys and values turned, pairs of keys as panels.
  struct key_operands {
    element *keys_turned, *values_turned, *keys;
  };
  index_t operand_size() const {
    return pair_form::key_size(d()) + pair_form::key_size(dv()) + panels_size(d(), key_tile);
  }
  key_operands operands_of(index_t k0) const {
    element* const p = tiles_ + tile_index(k0) * operand_size();
    element* const values = p + pair_form::key_size(d());
    return {p, values, values + pair_form::key_size(dv())};
  }
  static index_t panels_size(index_t n, index_t steps) {
    return round_up(n, pair_form::columns) * steps;
  }
  index_t q_row() const { return pair_form::query_row(d()); }
  index_t do_row() const { return pair_form::query_row(dv()); }
  // Rows of a tile, filled up to whole registers of pairs; elements between two turned rows.
  index_t padded() const { return round_up(most(), 2 * w); }
  index_t turned_row() const { return padded() + 2 * w; }

  void take_operands() {
    const index_t turned = (key_tile + strips::most) * turned_row();
    const index_t panels = panels_size(d(), padded()) + panels_size(dv(), padded());
    element* p = kernels::scratch<pair_backward_memory, element>(
        static_cast<std::size_t>(padded() * (q_row() + do_row() + key_tile) + panels + 2 * turned +
                                 tiles() * operand_size()));
    tiles_ = p, p += tiles() * operand_size();
    q_ = p, p += padded() * q_row();
    do_ = p, p += padded() * do_row();
    narrow_ds_ = p, p += padded() * key_tile;
    q_panels_ = p, p += panels_size(d(), padded());
    do_panels_ = p, p += panels_size(dv(), padded());
    turned_p_ = p, p += turned;
    turned_ds_ = p;
  }
  void pack_keys(index_t k0) {
    const auto t = operands_of(k0);
    const key_tile_of at{kv_head(), k0};
    pair_form::turn_rows(in_.k, group_.range, at, t.keys_turned);
    pair_form::turn_rows(in_.v, group_.range, at, t.values_turned);
    pair_form::pack_row_pairs(in_.k, group_.range, at, t.keys);
  }
  void add_operands(index_t k0, line_stream& ahead) const {
    ahead.add(operands_of(k0).keys_turned, 0, 1, operand_size());
  }
  void begin_operands() {
    for (index_t r = 0; r < round_up(rows(), 2 * w); ++r) {
      element *const q = q_ + r * q_row(), *const d_o = do_ + r * do_row();
      if (r < rows()) {
        pair_form::read_query(row_of(in_.q, token(r), head(r)), d(), 0, q);
        pair_form::read_query(row_of(g_.d_o, token(r), head(r)), dv(), 0, d_o);
      } else {
        std::fill_n(q, q_row(), element(0));
        std::fill_n(d_o, do_row(), element(0));
      }
      if (r % 2 == 0) continue;
      spread_pair(q - q_row(), q_row(), d(), r / 2, q_panels_);
      spread_pair(d_o - do_row(), do_row(), dv(), r / 2, do_panels_);
    }
  }
  void spread_pair(const element* two, index_t row, index_t n, index_t pair,
                   element* panels) const {
    pair_form::interleave(pair_form::bytes(two), pair_form::bytes(two + row),
                          {round_up(n, pair_form::columns), padded()},
                          panels + pair * pair_form::step);
  }

  // Scores into p and do v^T into ds.
  void multiply(index_t r0, index_t count, index_t k0, key_range keys) {
    const auto t = operands_of(k0);
    pair_form::strip at{};
    at.q = q_ + r0 * q_row(), at.q_row = q_row(), at.tile = t.keys_turned, at.d = d();
    at.s = p_ + r0 * key_tile, at.rows = count, at.keys = keys;
    pair_form::scores(at, into_base<units>(scale_));
    fetch_ahead();
    at.q = do_ + r0 * do_row(), at.q_row = do_row(), at.tile = t.values_turned, at.d = dv();
    at.s = ds_ + r0 * key_tile;
    pair_form::scores(at, 1);
  }

  // p and ds rounded: ds as rows, both turned.
  void take_weights() {
    std::fill(p_ + rows() * key_tile, p_ + round_up(rows(), 2 * w) * key_tile, 0.F);
    std::fill(ds_ + rows() * key_tile, ds_ + round_up(rows(), 2 * w) * key_tile, 0.F);
    for (index_t r = 0; wants_queries() && r < rows(); ++r) {
      for (index_t j = 0; j < key_tile; j += w) {
        const auto x = simd::narrow_normal_bf16(pack::load(ds_ + r * key_tile + j));
        std::memcpy(narrow_ds_ + r * key_tile + j, &x, sizeof x);
      }
    }
    if (!wants_keys()) return;
    turn(p_, turned_p_);
    turn(ds_, turned_ds_);
  }
  void turn(const float* from, element* to) const {
    using words = simd::vector<std::int32_t>;
    for (index_t r = 0; r < rows(); r += 2 * w) {
      for (index_t j = 0; j < key_tile; j += w) {
        pack block[w];
        for (index_t i = 0; i < w; ++i) {
          const float* const two = from + (r + 2 * i) * key_tile + j;
          const auto even = simd::narrow_normal_bf16(pack::load(two));
          const auto odd = simd::narrow_normal_bf16(pack::load(two + key_tile));
          block[i] = simd::from_bits<float>(__builtin_convertvector(even, words) |
                                            (__builtin_convertvector(odd, words) << 16));
        }
        simd::transpose(block);
        for (index_t i = 0; i < w; ++i) {
          std::memcpy(to + (j + i) * turned_row() + r, &block[i], sizeof block[i]);
        }
      }
    }
  }

  void add_to_queries(index_t r0, index_t count, index_t k0, key_range keys) {
    add_queries(r0, count, operands_of(k0).keys, keys);
  }
  void add_queries(index_t r0, index_t count, const element* keys_panels, key_range keys) {
    const index_t first = first_pair(keys.low), pairs = end_of_pairs(keys.high) - first;
    pair_form::add_product({narrow_ds_ + r0 * key_tile + 2 * first, key_tile,
                            keys_panels + first * pair_form::step, key_tile, pairs},
                           count, {dq_ + r0 * d_row(), d_row()}, d());
  }
  void add_to_keys(index_t k0, key_range keys, index_t first, index_t last) {
    const auto sums = sums_of(k0);
    const index_t j = keys.low, count = keys.high - keys.low, from = 2 * first_pair(first);
    const index_t pairs = end_of_pairs(last) - from / 2, at = j * turned_row() + from;
    pair_form::add_product(
        {turned_p_ + at, turned_row(), do_panels_ + from / 2 * pair_form::step, padded(), pairs},
        count, {sums.dv + j * sums.dv_row, sums.dv_row}, dv());
    fetch_ahead();
    pair_form::add_product(
        {turned_ds_ + at, turned_row(), q_panels_ + from / 2 * pair_form::step, padded(), pairs},
        count, {sums.dk + j * sums.dk_row, sums.dk_row}, d());
  }

  bool finite(index_t k0, key_range) const {
    return pair_form::words_finite(operands_of(k0).keys, panels_size(d(), key_tile)) &&
           pair_form::words_finite(q_, rows() * q_row()) &&
           pair_form::words_finite(do_, rows() * do_row());
  }
  // The three sums row by row and key by key, with zeros in place of what is hidden.
  void add_pairs(index_t k0, key_range keys) {
    for (index_t r = 0; wants_queries() && r < rows(); ++r) {
      if (bits_[r] == 0) continue;
      element* const shown = shown_copy(operands_of(k0).keys, panels_size(d(), key_tile));
      for (index_t j = 0; j < key_tile; ++j) {
        if ((bits_[r] >> j & 1U) == 0) hide(shown, j, {d(), key_tile});
      }
      add_queries(r, 1, shown, keys);
    }
    for (index_t j = keys.low; wants_keys() && j < keys.high; ++j) {
      const auto hidden = [&](element* panels, index_t n) {
        for (index_t r = 0; r < rows(); ++r) {
          if ((bits_[r] >> j & 1U) == 0) hide(panels, r, {n, padded()});
        }
        return panels;
      };
      const auto sums = sums_of(k0);
      const index_t pairs = end_of_pairs(rows()), at = j * turned_row();
      element* const d_o = shown_copy(do_panels_, panels_size(dv(), padded()));
      pair_form::add_product({turned_p_ + at, turned_row(), hidden(d_o, dv()), padded(), pairs}, 1,
                             {sums.dv + j * sums.dv_row, sums.dv_row}, dv());
      element* const q = shown_copy(q_panels_, panels_size(d(), padded()));
      pair_form::add_product({turned_ds_ + at, turned_row(), hidden(q, d()), padded(), pairs}, 1,
                             {sums.dk + j * sums.dk_row, sums.dk_row}, d());
    }
  }
  static element* shown_copy(const element* from, index_t size) {
    auto* const to = kernels::scratch<shown_rows, element>(static_cast<std::size_t>(size));
    std::copy_n(from, size, to);
    return to;
  }
  // Row i of panels of so many columns and steps.
  static void hide(element* panels, index_t i, pair_form::panel_shape shape) {
    for (index_t c = 0; c < round_up(shape.columns, pair_form::columns); ++c) {
      panels[pair_form::place_of(i, c, shape.steps)] = 0;
    }
  }

  element *tiles_ = nullptr, *q_ = nullptr, *do_ = nullptr, *narrow_ds_ = nullptr;
  element *q_panels_ = nullptr, *do_panels_ = nullptr;
  element *turned_p_ = nullptr, *turned_ds_ = nullptr;
};

}  // namespace deepseek::cpu_attention
