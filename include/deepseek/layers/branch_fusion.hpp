// SPDX-License-Identifier: Apache-2.0
// How fused_attention weighs its branches: o[t, h] = sum_b g[t, h, b] o_b[t, h]. A rule is a type
// with looks_back and on<dim, heads, branches>: a part with forward(c, p, x, kept) -> g, a view
// [tokens * heads, branches], and backward(c, p, x, g, dg, dx, kept, gradients), which adds to dx.
//   fixed_weights<{{0.5, 0.3, 0.2}}>   constants; without an argument all are 1: the plain sum
//   learned_weights<score>             a number for each branch: softmax or sigmoid of a bias
//   token_gates<score>                 softmax or sigmoid of Wx + b, for each token and head
// A softmax of two is g and 1 - g, g the sigmoid of their difference. Names: mix.bias, mix.weight.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/layers/head_shape.hpp"
#include "deepseek/ops/activation.hpp"
#include "deepseek/ops/fill.hpp"
#include "deepseek/ops/softmax.hpp"
#include "deepseek/ops/sum_heads.hpp"

namespace deepseek {

inline constexpr index_t most_branches = 8;

struct branch_weights {
  double of[most_branches] = {1, 1, 1, 1, 1, 1, 1, 1};
  bool operator==(const branch_weights&) const = default;
};

enum class weight_score { softmax, sigmoid };

namespace branch_fusion {

// [rows, W] of one row, repeated.
template <class T, class S, index_t N, index_t W>
view<T, S, dyn, W> repeated(const view<T, S, N, W>& row, index_t rows) {
  return {row.data(), {rows, W}, {0, row.stride(1)}};
}

template <weight_score How, class Call, class Z, class Y>
void score(const Call& c, const Z& z, const Y& y) {
  if constexpr (How == weight_score::softmax) {
    ops::softmax(c.backend, z, y);
  } else {
    ops::sigmoid(c.backend, z, y);
  }
}
// dz from dy, with z and y as score() had them.
template <weight_score How, class Call, class Z, class Y, class D, class DZ>
void score_backward(const Call& c, const Z& z, const Y& y, const D& dy, const DZ& dz) {
  if constexpr (How == weight_score::softmax) {
    ops::softmax_backward(c.backend, y, dy, dz);
  } else {
    ops::sigmoid_backward(c.backend, z, dy, dz);
  }
}

}  // namespace branch_fusion

template <branch_weights W = branch_weights{}>
struct fixed_weights {
  static constexpr bool looks_back = true;

  template <index_t Dim, index_t Heads, index_t Branches>
  struct on {
    static constexpr index_t out = Heads * Branches;
    static constexpr const char* label = "mix";

    template <class T, class Call, class P, class X, class K>
    static auto forward(const Call& c, const P&, const X& x, K&) {
      auto& memory = c.template arena_for<K>();
      const auto row = memory.template make<accumulate_t<T>, dyn, Branches>(1);
      for (index_t b = 0; b < Branches; ++b) {
        ops::fill(c.backend, W.of[b],
                  view<accumulate_t<T>, typename Call::space, 1>(row.data() + b, {1}));
      }
      return branch_fusion::repeated(row, x.extent(0) * Heads);
    }
    template <class Call, class P, class X, class W_, class DW, class DX, class K, class G>
    static void backward(const Call&, const P&, const X&, const W_&, const DW&, const DX&, K&, G&) {
    }
  };
};

template <weight_score How = weight_score::softmax>
struct learned_weights {
  static constexpr bool looks_back = true;

  template <index_t Dim, index_t Heads, index_t Branches>
  struct on {
    static constexpr index_t out = Heads * Branches;
    static constexpr const char* label = "mix";

    template <class T, class S>
    struct parameters {
      using layer = on;
      tensor<accumulate_t<T>, S, 1, Branches> bias;
      static constexpr auto fields() {
        return std::tuple{named("bias", &parameters::bias, first_value::zero)};
      }
    };

    template <class T, class Call, class P, class X, class K>
    static auto forward(const Call& c, const P& p, const X& x, K&) {
      auto& memory = c.template arena_for<K>();
      const auto row = memory.template make<accumulate_t<T>, dyn, Branches>(1);
      branch_fusion::score<How>(c, p.bias, row);
      return branch_fusion::repeated(row, x.extent(0) * Heads);
    }
    template <class Call, class P, class X, class Weights, class DW, class DX, class K, class G>
    static void backward(const Call& c, const P& p, const X&, const Weights& w, const DW& dw,
                         const DX&, K&, G& g) {
      using A = typename DW::value_type;
      const scope freed(c.scratch);
      const auto d = c.scratch.template make<A, dyn, Branches>(1);
      const view<const A, typename Call::space, dyn, dyn, Branches> all(
          dw.data(), {1, dw.extent(0), Branches});
      ops::sum_heads(c.backend, all, d);
      branch_fusion::score_backward<How>(c, p.bias.view(), rows(w, 0, 1), d, d);
      ops::add(c.backend, d, g.bias);
    }
  };
};

template <weight_score How = weight_score::softmax>
struct token_gates {
  static constexpr bool looks_back = true;

  template <index_t Dim, index_t Heads, index_t Branches>
  struct on {
    static constexpr index_t out = Heads * Branches;
    static constexpr const char* label = "mix";

    template <class Of>
    struct parts {
      using layer = on;
      each<Of, linear<Dim, out, plain, bias::present>> gate;
      static constexpr auto fields() { return std::tuple{named("", &parts::gate)}; }
    };
    template <class T, class S>
    struct saved {
      view<T, S, dyn, out> z;
    };

    template <class T, class Call, class P, class X, class K>
    static auto forward(const Call& c, const P& p, const X& x, K& kept) {
      auto& memory = c.template arena_for<K>();
      const auto z = memory.template make<T, dyn, out>(x.extent(0));
      const auto w = memory.template make<accumulate_t<T>, dyn, Branches>(x.extent(0) * Heads);
      run_forward(c.in(0), p.gate, x, z, kept.gate);
      branch_fusion::score<How>(c, by_branch(z), w);
      if constexpr (keeps_tape<K>) kept.own = {z};
      return w;
    }
    template <class Call, class P, class X, class Weights, class DW, class DX, class K, class G>
    static void backward(const Call& c, const P& p, const X& x, const Weights& w, const DW& dw,
                         const DX& dx, K& kept, G& g) {
      const scope freed(c.scratch);
      const auto dz = c.scratch.template make<typename DX::value_type, dyn, out>(x.extent(0));
      branch_fusion::score_backward<How>(c, by_branch(kept.own.z), w, dw, by_branch(dz));
      add_backward(c.in(0), p.gate, x, as_const(dz), dx, kept.gate, g.gate);
    }

   private:
    template <class T, class S>
    static view<T, S, dyn, Branches> by_branch(const view<T, S, dyn, out>& z) {
      return {z.data(), {z.extent(0) * Heads, Branches}};
    }
  };
};

}  // namespace deepseek
