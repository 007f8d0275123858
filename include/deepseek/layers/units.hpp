// SPDX-License-Identifier: Apache-2.0
// Units: what a layer can lose and still be a layer of its kind, only smaller. A unit is slices of
// several tensors that go together; a layer type says which:
//   neurons  row of W1 (and W3, b1), column of W2                  swiglu, mlp
//   heads    rows of Wq, Wk, Wv, columns of Wo; a whole group of query heads with its key-value
//   head
//            (multi_head_attention); rows of Wq or Wq_b and Wkv_b, columns of Wo (latent_attention)
//   experts  an expert's tensors, its row of the gate              moe (gates without a table)
//   rows     row of W, its bias: an output                         linear
// Masks, removal and scores are written once over this description (layers/prune.hpp,
// train/pruning.hpp). A layer of one's own joins by specializing units_of.
#pragma once

#include "deepseek/layers/attention.hpp"
#include "deepseek/layers/latent_attention.hpp"
#include "deepseek/layers/mlp.hpp"
#include "deepseek/layers/moe.hpp"

namespace deepseek {

enum class unit_kind { neurons, heads, experts, rows };

inline constexpr int leading_axis = -1;
struct unit_slice {
  const char* name;  // of the tensor, below the layer's path
  int axis;          // counted from the last extent: 0 columns, 1 rows; or leading_axis
  index_t width;     // neighbours along that axis that are one unit's
  field_role role = field_role::trained;  // state goes along and is not scored
};

// Specializations have `kind`, `count`, `one` (the type with a single unit: what must agree between
// a layer and its smaller form), slices(f, p...): f(unit_slice, tensors...) for each tensor, and
// inputs(k): the activity of the linear layer whose input columns are units, `input_width` each.
template <class Layer>
struct units_of {};
template <class Layer>
concept HasUnits = requires {
  { units_of<Layer>::count } -> std::convertible_to<index_t>;
};

template <class Layer>
concept HasInputs = HasUnits<Layer> && requires {
  { units_of<Layer>::input_width } -> std::convertible_to<index_t>;
};

template <index_t I, index_t O, class F, bias Bias>
struct units_of<linear<I, O, F, Bias>> {
  static constexpr unit_kind kind = unit_kind::rows;
  static constexpr index_t count = O;
  using one = linear<I, 1, F, Bias>;
  template <class V, class... P>
  static void slices(const V& f, P&... p) {
    f(unit_slice{"weight", 1, 1}, p.weight...);
    if constexpr (Bias == bias::present) f(unit_slice{"bias", 0, 1}, p.bias...);
  }
};

template <index_t D, index_t H, class F, swiglu_config C>
struct units_of<swiglu<D, H, F, C>> {
  static constexpr unit_kind kind = unit_kind::neurons;
  static constexpr index_t count = H, input_width = 1;
  using one = swiglu<D, 1, F, C>;
  template <class V, class... P>
  static void slices(const V& f, P&... p) {
    f(unit_slice{"w1.weight", 1, 1}, p.w1.weight...);
    f(unit_slice{"w3.weight", 1, 1}, p.w3.weight...);
    f(unit_slice{"w2.weight", 0, 1}, p.w2.weight...);
  }
  template <class K>
  static const auto& inputs(const K& k) {
    return k.w2.own;
  }
};

template <index_t D, index_t H, activation Act, class F>
struct units_of<mlp<D, H, Act, F>> {
  static constexpr unit_kind kind = unit_kind::neurons;
  static constexpr index_t count = H, input_width = 1;
  using one = mlp<D, 1, Act, F>;
  template <class V, class... P>
  static void slices(const V& f, P&... p) {
    f(unit_slice{"w1.weight", 1, 1}, p.w1.weight...);
    f(unit_slice{"w1.bias", 0, 1}, p.w1.bias...);
    f(unit_slice{"w2.weight", 0, 1}, p.w2.weight...);
  }
  template <class K>
  static const auto& inputs(const K& k) {
    return k.w2.own;
  }
};

// The same heads, sizes written out, one key-value head with its query heads.
constexpr attention_config one_head_group(attention_config c) {
  const index_t width = c.width(), group = c.heads / c.kv();
  c.heads = group;
  c.kv_heads = 1;
  c.head_dim = width;
  return c;
}
template <attention_config C, class Pattern, class F>
struct units_of<multi_head_attention<C, Pattern, F>> {
  static constexpr unit_kind kind = unit_kind::heads;
  static constexpr index_t count = C.kv(), group = C.heads / C.kv();
  static constexpr index_t input_width = group * C.width();
  using one = multi_head_attention<one_head_group(C), Pattern, F>;
  template <class V, class... P>
  static void slices(const V& f, P&... p) {
    f(unit_slice{"wq.weight", 1, input_width}, p.wq.weight...);
    f(unit_slice{"wk.weight", 1, C.width()}, p.wk.weight...);
    f(unit_slice{"wv.weight", 1, C.width()}, p.wv.weight...);
    f(unit_slice{"wo.weight", 0, input_width}, p.wo.weight...);
    if constexpr (C.projection_bias == bias::present) {
      f(unit_slice{"wq.bias", 0, input_width}, p.wq.bias...);
      f(unit_slice{"wk.bias", 0, C.width()}, p.wk.bias...);
      f(unit_slice{"wv.bias", 0, C.width()}, p.wv.bias...);
    }
    if constexpr (C.sink == sinks::present) {
      f(unit_slice{"attn_sink.logits", 0, group, field_role::state}, p.attn_sink.logits...);
    }
  }
  template <class K>
  static const auto& inputs(const K& k) {
    return k.wo.own;
  }
};

constexpr mla_config one_head(mla_config c) {
  c.heads = 1;
  return c;
}
template <mla_config C, class Pattern, class F>
struct units_of<latent_attention<C, Pattern, F>> {
  static constexpr unit_kind kind = unit_kind::heads;
  static constexpr index_t count = C.heads, input_width = C.v_dim;
  using one = latent_attention<one_head(C), Pattern, F>;
  template <class V, class... P>
  static void slices(const V& f, P&... p) {
    if constexpr (C.q_rank == 0) {
      f(unit_slice{"wq.weight", 1, C.key_dim()}, p.wq.weight...);
    } else {
      f(unit_slice{"wq_b.weight", 1, C.key_dim()}, p.wq_b.weight...);
    }
    f(unit_slice{"wkv_b.weight", 1, C.nope_dim + C.v_dim}, p.wkv_b.weight...);
    f(unit_slice{"wo.weight", 0, C.v_dim}, p.wo.weight...);
  }
  template <class K>
  static const auto& inputs(const K& k) {
    return k.wo.own;
  }
};

constexpr moe_config one_expert(moe_config c) {
  c.routed = 1;
  return c;
}
template <moe_config C, class Gate, class Expert, class Shared>
struct units_of<moe<C, Gate, Expert, Shared>> {
  static constexpr unit_kind kind = unit_kind::experts;
  static constexpr index_t count = C.routed;
  using one = moe<one_expert(C), Gate, Expert, Shared>;
  template <class V, class... P>
  static void slices(const V& f, P&... p) {
    f(unit_slice{"gate.weight", leading_axis, 1, field_role::state}, p.gate.weight...);
    f(unit_slice{"gate.load", leading_axis, 1, field_role::state}, p.gate.load...);
    if constexpr ((requires { p.gate.choice.bias; } && ...)) {
      f(unit_slice{"gate.bias", leading_axis, 1, field_role::state}, p.gate.choice.bias...);
    } else {
      static_assert((!has_fields<std::remove_cvref_t<decltype(p.gate.choice)>> && ...),
                    "deepseek::units: this gate keeps more than a bias for each expert (a table of "
                    "tokens would name experts that are gone); prune neurons or heads instead");
    }
    visit(
        [&](const tensor_name& at, auto&... t) {
          const std::string name = "experts." + at.path;
          f(unit_slice{name.c_str(), leading_axis, 1}, t...);
        },
        p.experts...);
  }
};

}  // namespace deepseek
