// SPDX-License-Identifier: Apache-2.0
// compressor<config>: tokens to entries, one for each complete window of `ratio` tokens: kv = Wkv
// x, gate = Wgate x, a softmax over the window's tokens per channel (ops/compress.hpp), RMSNorm,
// and the rotary embedding of the last rope_dim at the window's first position. y [entries,
// head_dim]: as many as count(call, tokens) says, which is what this call completes. Decoding keeps
// kv and gate of the last tokens (recent_rows). Names: wkv, wgate, norm, ape. Not done here:
// DeepSeek's rounding of entries through 8- and 4-bit floats. Source: DeepSeek-V4's published
// inference code as ported by others.
#pragma once

#include "deepseek/layers/norm.hpp"
#include "deepseek/layers/recent_rows.hpp"
#include "deepseek/layers/rotary.hpp"
#include "deepseek/layers/side_by_side.hpp"
#include "deepseek/ops/add.hpp"
#include "deepseek/ops/compress.hpp"

namespace deepseek {

struct compressor_config {
  index_t dim = 0;       // of a token
  index_t head_dim = 0;  // of an entry
  index_t rope_dim = 0;  // its last elements that are rotated, even
  index_t ratio = 0;     // tokens of a window, >= 1
  overlap windows = overlap::absent;
  double theta = 1e4;
  rope_scaling scaling = {};
  double eps = 1e-6;
  bool operator==(const compressor_config&) const = default;
};

// A tensor [ratio, W] that is added to the gates.
template <index_t Ratio, index_t W>
struct window_bias {
  static constexpr index_t out = W;
  static constexpr const char* label = "ape";
  template <class T, class S>
  struct parameters {
    using layer = window_bias;
    tensor<accumulate_t<T>, S, Ratio, W> weight;
    static constexpr auto fields() { return std::tuple{named("", &parameters::weight)}; }
  };
};

// Offsets of the entries of packed sequences (in scratch), and how many this call completes.
template <class Space>
struct entry_numbering {
  sequence_offsets<Space> sequences;
  index_t entries;
};
template <class Call>
entry_numbering<typename Call::space> entry_numbers(const Call& c, index_t tokens, index_t ratio) {
  const index_t n = c.options.sequences.extent(0), start = c.options.start;
  if (c.options.moving.moves()) return {{}, tokens};  // that of each token's window, whole or not
  if (n == 0) return {{}, (start + tokens) / ratio - start / ratio};
  auto offsets = c.scratch.template make<std::int32_t, dyn>(n);
  const index_t entries = ops::compressed_offsets(c.backend, c.options.sequences, ratio, offsets);
  return {as_const(offsets), entries};
}

template <compressor_config C, class F = plain>
struct compressor {
  static_assert(C.ratio >= 1, "deepseek::compressor: ratio is not positive; write .ratio = 4");
  static_assert(C.rope_dim >= 0 && C.rope_dim <= C.head_dim && C.rope_dim % 2 == 0,
                "deepseek::compressor: rope_dim is odd or not within head_dim (rotary embedding "
                "turns pairs); write an even .rope_dim <= .head_dim");
  static constexpr index_t D = C.head_dim, out = D;
  static constexpr index_t W = C.windows == overlap::present ? 2 * D : D;
  static constexpr const char* label = "compressor";
  template <class G>
  using with_format = compressor<C, G>;

  template <class Of>
  struct parts {
    using layer = compressor;
    each<Of, linear<C.dim, W, F>> wkv, wgate;
    each<Of, rms_norm<D, norm_config{.eps = C.eps}>> norm;
    each<Of, window_bias<C.ratio, W>> ape;
    static constexpr auto fields() {
      return std::tuple{named("wkv", &parts::wkv), named("wgate", &parts::wgate),
                        named("norm", &parts::norm), named("ape", &parts::ape)};
    }
  };
  template <class T, class S>
  struct saved {
    view<T, S, dyn, W> kv, gate;
    view<T, S, dyn, D> raw;  // before the norm
  };
  template <class T, class S>
  struct state {
    static constexpr index_t keep = (W / D) * C.ratio;
    recent_rows<T, S, W, keep, C.ratio> kv, gate;
    static constexpr bool steps_alike = true;
    static constexpr index_t rewinds = decltype(kv)::rewinds;
    void reserve(index_t capacity) {
      kv.reserve(capacity);
      gate.reserve(capacity);
    }
  };

  // Of the last rope_dim of a head.
  static constexpr rope_spec rotation(rope_turn direction = rope_turn::forward) {
    return {.theta = C.theta,
            .turn = direction,
            .first = D - C.rope_dim,
            .count = C.rope_dim,
            .scaling = C.scaling};
  }

  template <class Call>
  static auto count(const Call& c, index_t tokens) {
    return entry_numbers(c, tokens, C.ratio);
  }

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, K& k) {
    using T = typename Y::value_type;
    const index_t tokens = x.extent(0);
    const scope freed(c.scratch);
    auto& memory = c.template arena_for<K>();
    auto kv = memory.template make<T, dyn, W>(tokens),
         gate = memory.template make<T, dyn, W>(tokens);
    auto raw = memory.template make<T, dyn, D>(y.extent(0));
    side_by_side(run_of(c.in(0), p.wkv, x, kv, k.wkv), run_of(c.in(1), p.wgate, x, gate, k.wgate));
    if constexpr (keeps_state<K>) {
      const auto all = k.own.kv.append(c, kv), gates = k.own.gate.append(c, gate);
      auto how = spec(c);
      how.first = all.start / C.ratio;
      how.first_at = all.at;
      ops::compress(c.backend, compress_views{all.rows, gates.rows, p.ape.weight}, raw, how);
    } else {
      const index_t start = c.options.start;
      require(start % C.ratio == 0, error_code::invalid_argument, "compressor: begins at position ",
              start, " without a cache; begin at a multiple of ", C.ratio);
      ops::compress(c.backend, compress_views{kv, gate, p.ape.weight}, raw, spec(c));
    }
    run_forward(c.in(2), p.norm, as_const(raw), y, k.norm);
    turn(c, y, tokens, rope_turn::forward);
    if constexpr (keeps_tape<K>) k.own = {kv, gate, raw};
  }

  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k,
                       G& g) {
    using T = typename DY::value_type;
    const index_t tokens = x.extent(0);
    const scope freed(c.scratch);
    auto dkv = c.scratch.template make<T, dyn, W>(tokens);
    auto dgate = c.scratch.template make<T, dyn, W>(tokens);
    auto d = c.scratch.template make<T, dyn, D>(dy.extent(0));
    auto dx_part = c.scratch.template make<T, dyn, C.dim>(tokens);
    const auto& s = k.own;
    ops::copy(c.backend, dy, d);
    turn(c, d, tokens, rope_turn::inverse);
    run_backward(c.in(2), p.norm, as_const(s.raw), as_const(d), d, k.norm, g.norm);
    ops::compress_backward(c.backend, compress_views{s.kv, s.gate, p.ape.weight}, d,
                           compress_views{dkv, dgate, g.ape.weight}, spec(c));
    run_backward(c.in(0), p.wkv, x, as_const(dkv), dx, k.wkv, g.wkv);
    run_backward(c.in(1), p.wgate, x, as_const(dgate), dx_part, k.wgate, g.wgate);
    ops::add(c.backend, dx_part, dx);
  }

 private:
  template <class Call>
  static compress_spec<typename Call::space> spec(const Call& c) {
    return {C.ratio, C.windows, c.options.sequences, 0};
  }
  // Rotates entries in place, each by the position of its window's first token.
  template <class Call, class V>
  static void turn(const Call& c, const V& y, index_t tokens, rope_turn direction) {
    if constexpr (C.rope_dim > 0) {
      const scope freed(c.scratch);
      auto at = c.scratch.template make<std::int32_t, dyn>(y.extent(0));
      if (c.options.moving.moves()) {
        ops::positions(c.backend, c.options.moving.at, c.options.sequences, at, C.ratio,
                       {.ratio = C.ratio});
      } else {
        const auto& sequences = count(c, tokens).sequences;
        ops::positions(c.backend, c.options.start / C.ratio, sequences, at, C.ratio);
      }
      const auto heads = as_heads<1, D>(y);
      ops::rope(c.backend, heads, at, heads, rotation(direction));
    }
  }
};

}  // namespace deepseek
