// SPDX-License-Identifier: Apache-2.0
// dynamic_head_attention<config, Pattern, HeadGate>: multi-head attention in which a gate says how
// many heads count: g = sigmoid(w . m + b), mask by ops/head_mask.hpp (hard: the first
// clamp(round(H g), 1, H) heads; soft: sigmoid((H g - h) / temperature)), y = Wo (mask o).
// m is the mean of the sequence's tokens (head_gate_by::sequence: one number for all of them, which
// looks ahead and cannot decode) or the token itself (head_gate_by::token, causal).
// The hard mask is trained straight through: backward takes the slope of the soft one. Heads that
// are masked are still computed: only a backend that skips them would save time.
// Names: wq, wk, wv, wo, mix.weight, mix.bias. Source: Bengio et al. 2013 (straight-through).
#pragma once

#include "deepseek/layers/fused_attention.hpp"
#include "deepseek/ops/head_mask.hpp"
#include "deepseek/ops/scale.hpp"

namespace deepseek {

enum class head_gate_by { sequence, token };

struct head_gate_config {
  head_gate_by by = head_gate_by::token;
  mask_edge edge = mask_edge::hard;
  double temperature = 1;  // > 0: how wide the edge is, in heads
  bool operator==(const head_gate_config&) const = default;
};

// The weights of fused_attention with one branch: a mask over heads.
template <head_gate_config C = head_gate_config{}>
struct head_gate {
  static_assert(C.temperature > 0,
                "deepseek::head_gate: temperature is not positive; write .temperature = 1");
  static constexpr bool looks_back = C.by == head_gate_by::token;
  static constexpr head_mask_rule rule{C.edge, C.temperature};

  template <index_t Dim, index_t Heads, index_t Branches>
  struct on {
    static_assert(Branches == 1,
                  "deepseek::head_gate: several branches (the mask is over the heads of one); use "
                  "dynamic_head_attention or token_gates<>");
    static constexpr index_t out = 1;
    static constexpr const char* label = "mix";

    template <class Of>
    struct parts {
      using layer = on;
      each<Of, linear<Dim, 1, plain, bias::present>> gate;
      static constexpr auto fields() { return std::tuple{named("", &parts::gate)}; }
    };
    // A row for each token, or for each sequence.
    template <class T, class S>
    struct saved {
      view<T, S, dyn, Dim> mean;
      view<T, S, dyn, 1> z;
      view<accumulate_t<T>, S, dyn, 1> g;
    };

    template <class T, class Call, class P, class X, class K>
    static auto forward(const Call& c, const P& p, const X& x, K& kept) {
      using A = accumulate_t<T>;
      auto& memory = c.template arena_for<K>();
      const index_t n = looks_back ? x.extent(0) : sequences_of(c);
      const auto mean = memory.template make<T, dyn, Dim>(looks_back ? 0 : n);
      const auto z = memory.template make<T, dyn, 1>(n);
      const auto g = memory.template make<A, dyn, 1>(n);
      const auto mask = memory.template make<A, dyn, Heads>(x.extent(0));
      if constexpr (looks_back) {
        run_forward(c.in(0), p.gate, x, z, kept.gate);
      } else {
        for_each_sequence(c, x.extent(0), [&](index_t s, index_t first, index_t count) {
          sum_rows(c, rows(x, first, count), rows(mean, s, 1));
          if (count > 0) ops::scale(c.backend, 1 / static_cast<double>(count), rows(mean, s, 1));
        });
        run_forward(c.in(0), p.gate, as_const(mean), z, kept.gate);
      }
      ops::sigmoid(c.backend, z, g);
      masks_of(c, g, mask);
      if constexpr (keeps_tape<K>) kept.own = {mean, z, g};
      return by_head(mask);
    }
    template <class Call, class P, class X, class Weights, class DW, class DX, class K, class G>
    static void backward(const Call& c, const P& p, const X& x, const Weights&, const DW& dw,
                         const DX& dx, K& kept, G& g) {
      using T = typename DX::value_type;
      using A = typename DW::value_type;
      const scope freed(c.scratch);
      const auto& s = kept.own;
      const index_t n = s.z.extent(0);
      const auto dg = c.scratch.template make<A, dyn, 1>(n);
      const auto dz = c.scratch.template make<T, dyn, 1>(n);
      const auto dmask = c.scratch.template make<A, dyn, Heads>(n);
      const view<const A, typename Call::space, dyn, Heads> by_token(dw.data(),
                                                                     {x.extent(0), Heads});
      if constexpr (looks_back) {
        ops::copy(c.backend, by_token, dmask);
      } else {
        for_each_sequence(c, x.extent(0), [&](index_t i, index_t first, index_t count) {
          sum_rows(c, rows(by_token, first, count), rows(dmask, i, 1));
        });
      }
      ops::head_mask_backward(c.backend, s.g, dmask, dg, rule);
      ops::sigmoid_backward(c.backend, s.z, dg, dz);
      if constexpr (looks_back) {
        add_backward(c.in(0), p.gate, x, as_const(dz), dx, kept.gate, g.gate);
      } else {
        const auto dmean = c.scratch.template make<T, dyn, Dim>(n);
        run_backward(c.in(0), p.gate, as_const(s.mean), as_const(dz), dmean, kept.gate, g.gate);
        for_each_sequence(c, x.extent(0), [&](index_t i, index_t first, index_t count) {
          if (count == 0) return;
          ops::scale(c.backend, 1 / static_cast<double>(count), rows(dmean, i, 1));
          ops::add(c.backend, branch_fusion::repeated(rows(dmean, i, 1), count),
                   rows(dx, first, count));
        });
      }
    }

   private:
    template <class T, class S>
    static view<T, S, dyn, 1> by_head(const view<T, S, dyn, Heads>& mask) {
      return {mask.data(), {mask.extent(0) * Heads, 1}};
    }
    template <class Call>
    static index_t sequences_of(const Call& c) {
      return std::max<index_t>(c.options.sequences.extent(0) - 1, 1);
    }
    // f(number, first row, rows) of each packed sequence.
    template <class Call, class Fn>
    static void for_each_sequence(const Call& c, index_t tokens, const Fn& f) {
      const auto& offsets = c.options.sequences;
      if (offsets.extent(0) == 0) return f(index_t{0}, index_t{0}, tokens);
      require(
          std::is_same_v<typename Call::space, host>, error_code::unsupported,
          "dynamic_head_attention: offsets of ", offsets.extent(0) - 1,
          " packed sequences stand in a device's memory, and one gate for a sequence needs them "
          "on the host; pass one sequence at a time, or gates of each token");
      for (index_t s = 0; s + 1 < offsets.extent(0); ++s) {
        f(s, static_cast<index_t>(offsets(s)), static_cast<index_t>(offsets(s + 1) - offsets(s)));
      }
    }
    // to [1, W] = the sum of the rows.
    template <class Call, class V, class To>
    static void sum_rows(const Call& c, const V& v, const To& to) {
      constexpr index_t W = To::static_extents[1];
      const view<const typename V::value_type, typename Call::space, dyn, dyn, W> one(
          v.data(), {1, v.extent(0), W}, {0, v.stride(0), v.stride(1)});
      ops::sum_heads(c.backend, one, to);
    }
    // The mask of each token.
    template <class Call, class Gates, class Mask>
    static void masks_of(const Call& c, const Gates& g, const Mask& mask) {
      if constexpr (looks_back) {
        ops::head_mask(c.backend, g, mask, rule);
      } else {
        for_each_sequence(c, mask.extent(0), [&](index_t s, index_t first, index_t count) {
          ops::head_mask(c.backend, branch_fusion::repeated(rows(g, s, 1), count),
                         rows(mask, first, count), rule);
        });
      }
    }
  };
};

template <attention_config C, class Pattern, head_gate_config G = head_gate_config{}>
struct dynamic_head_attention : fused_attention<C, head_gate<G>, plain, over<Pattern>> {};

}  // namespace deepseek
