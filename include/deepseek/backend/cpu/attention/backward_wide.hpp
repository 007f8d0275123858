// SPDX-License-Identifier: Apache-2.0
// The products of attention backward (backward_rows.hpp) in the type of the sums, float or double;
// elements of 16 bits are widened when they are packed.
#pragma once

#include "deepseek/backend/cpu/attention/backward_rows.hpp"

namespace deepseek::cpu_attention {

struct wide_backward_memory;

template <class T, class In, class Out, class G, class P>
class wide_backward : public backward_rows<wide_backward<T, In, Out, G, P>, T, In, Out, G, P> {
  using base_class = backward_rows<wide_backward<T, In, Out, G, P>, T, In, Out, G, P>;
  friend base_class;
  using base_class::bits_, base_class::d, base_class::d_row, base_class::ds_, base_class::dq_;
  using base_class::dv, base_class::dv_row, base_class::g_, base_class::group_, base_class::head;
  using base_class::fetch_ahead;
  using base_class::in_, base_class::keys_in, base_class::kv_head, base_class::most;
  using base_class::p_, base_class::rows, base_class::scale_, base_class::sums_of;
  using base_class::tile_index, base_class::tiles, base_class::token, base_class::units;
  using base_class::wants_keys;

 public:
  using strips = register_strips<T>;
  using base_class::base_class;

 private:
  // Of one key tile: keys and values turned, keys as panels of rows.
  struct key_operands {
    T *keys_turned, *values_turned, *keys;
  };
  index_t operand_size() const { return key_tile * (d() + dv() + round_up(d(), panel<T>)); }
  key_operands operands_of(index_t k0) const {
    T* const p = tiles_ + tile_index(k0) * operand_size();
    return {p, p + key_tile * d(), p + key_tile * (d() + dv())};
  }

  void take_operands() {
    const index_t dp = round_up(d(), panel<T>), dvp = round_up(dv(), panel<T>);
    T* p = kernels::scratch<wide_backward_memory, T>(static_cast<std::size_t>(
        most() * (d_row() + dv_row() + dp + dvp) + tiles() * operand_size()));
    tiles_ = p, p += tiles() * operand_size();
    q_ = p, p += most() * d_row();
    do_ = p, p += most() * dv_row();
    q_panels_ = p, p += most() * dp;
    do_panels_ = p;
  }
  void pack_keys(index_t k0) {
    const auto t = operands_of(k0);
    const index_t first = group_.range.key + k0, count = keys_in(k0);
    pack_columns(in_.k, first, kv_head(), count, t.keys_turned);
    pack_columns(in_.v, first, kv_head(), count, t.values_turned);
    pack_rows(in_.k, first, kv_head(), count, key_tile, t.keys);
  }
  void add_operands(index_t k0, line_stream& ahead) const {
    ahead.add(operands_of(k0).keys_turned, 0, 1, operand_size());
  }
  void begin_operands() {
    const T score_scale = into_base<units>(scale_);
    for (index_t r = 0; r < round_up(rows(), strips::most); ++r) {
      T *q = q_ + r * d_row(), *d_o = do_ + r * dv_row();
      std::fill_n(q, d_row(), T(0));
      std::fill_n(d_o, dv_row(), T(0));
      if (r >= rows()) continue;
      const auto q_from = row_of(in_.q, token(r), head(r));
      const auto do_from = row_of(g_.d_o, token(r), head(r));
      read_row<T>(q_from, d(), q);
      for (index_t c = 0; c < d(); ++c) q[c] *= score_scale;
      read_row<T>(do_from, dv(), d_o);
      spread_row<T>(q_from, d(), r, most(), q_panels_);
      spread_row<T>(do_from, dv(), r, most(), do_panels_);
    }
  }

  // Scores into p and do v^T into ds.
  void multiply(index_t r0, index_t count, index_t k0, key_range keys) {
    const auto t = operands_of(k0);
    const product<T> scores{q_ + r0 * d_row(),  d_row(), 1, t.keys_turned, d(), d(),
                            p_ + r0 * key_tile, key_tile};
    const product<T> value_gradients{do_ + r0 * dv_row(), dv_row(), 1, t.values_turned, dv(), dv(),
                                     ds_ + r0 * key_tile, key_tile};
    multiply_strip(scores, count, keys.low, keys.high, kernels::start::zero);
    fetch_ahead();
    multiply_strip(value_gradients, count, keys.low, keys.high, kernels::start::zero);
  }
  void take_weights() {}

  void add_to_queries(index_t r0, index_t count, index_t k0, key_range keys) {
    const product<T> sums{ds_ + r0 * key_tile + keys.low,
                          key_tile,
                          1,
                          operands_of(k0).keys + keys.low * panel<T>,
                          key_tile,
                          keys.high - keys.low,
                          dq_ + r0 * d_row(),
                          d_row()};
    multiply_strip(sums, count, 0, d(), kernels::start::from_c);
  }
  void add_to_keys(index_t k0, key_range keys, index_t first, index_t last) {
    const auto sums = sums_of(k0);
    const index_t j = keys.low, count = keys.high - keys.low;
    const product<T> to_dv{p_ + first * key_tile + j,     1,          key_tile,
                           do_panels_ + first * panel<T>, most(),     last - first,
                           sums.dv + j * sums.dv_row,     sums.dv_row};
    const product<T> to_dk{ds_ + first * key_tile + j,   1,          key_tile,
                           q_panels_ + first * panel<T>, most(),     last - first,
                           sums.dk + j * sums.dk_row,    sums.dk_row};
    multiply_strip(to_dv, count, 0, dv(), kernels::start::from_c);
    fetch_ahead();
    multiply_strip(to_dk, count, 0, d(), kernels::start::from_c);
  }

  bool finite(index_t k0, key_range keys) const {
    const T* const k = operands_of(k0).keys + keys.low * panel<T>;
    return panels_finite(k, key_tile, keys.high - keys.low, d()) &&
           panels_finite(q_panels_, most(), rows(), d()) &&
           panels_finite(do_panels_, most(), rows(), dv());
  }
  // The three sums pair by pair, in the order of the products.
  void add_pairs(index_t k0, key_range) {
    const auto sums = sums_of(k0);
    const T* const keys = operands_of(k0).keys;
    for (index_t r = 0; r < rows(); ++r) {
      for (std::uint64_t bits = bits_[r]; bits != 0; bits &= bits - 1) {
        const index_t j = std::countr_zero(bits);
        const T p = p_[r * key_tile + j], ds = ds_[r * key_tile + j];
        for (index_t c = 0; wants_keys() && c < dv(); ++c) {
          T& to = sums.dv[j * sums.dv_row + c];
          to = chain(p, do_[r * dv_row() + c], to);
        }
        for (index_t c = 0; c < d(); ++c) {
          const index_t in_panel = c / panel<T> * panel<T>, rest = c % panel<T>;
          T &to_key = sums.dk[j * sums.dk_row + c], &to_query = dq_[r * d_row() + c];
          if (wants_keys()) {
            to_key = chain(ds, q_panels_[in_panel * most() + r * panel<T> + rest], to_key);
          }
          to_query = chain(ds, keys[in_panel * key_tile + j * panel<T> + rest], to_query);
        }
      }
    }
  }

  T *tiles_ = nullptr, *q_ = nullptr, *do_ = nullptr, *q_panels_ = nullptr;
  T* do_panels_ = nullptr;
};

}  // namespace deepseek::cpu_attention
