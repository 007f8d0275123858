// SPDX-License-Identifier: Apache-2.0
// hierarchical_attention<config, Local, Global>: two attention layers one after the other, the
// second on what the first gives: y = Global(Local(x)) (hierarchy::plain), or with residual sums
// h = x + Local(x), y = Global(h) (hierarchy::residual; a block adds the outer residual).
//   local_then_full<config, W>       Local sees the last W tokens, Global all earlier ones
//   local_then_summary<config, W, M> Global sees summaries of M tokens (their mean, complete ones);
//                                    a query before the first complete one gets nothing from it
// With W at least the sequence, the first is MHA of MHA. Names: local, global.
#pragma once

#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/pooled_branch.hpp"
#include "deepseek/layers/residual.hpp"

namespace deepseek {

enum class hierarchy { plain, residual };

template <hierarchy How, class Layer>
using inner_level = std::conditional_t<How == hierarchy::plain, called<"local", Layer>,
                                       residual<called<"local", Layer>>>;

template <class Local, class Global, hierarchy How = hierarchy::residual>
struct hierarchical_attention : chain<inner_level<How, Local>, called<"global", Global>> {
  static_assert(Local::out == Global::out,
                "deepseek::hierarchical_attention: the two levels have different widths; give both "
                "the same dim");
  static constexpr const char* label = "attn";
  static constexpr bool independent_rows =
      rows_are_independent<Local> && rows_are_independent<Global>;
};

template <attention_config C, index_t W, hierarchy How = hierarchy::residual>
struct local_then_full : hierarchical_attention<multi_head_attention<C, sliding<W>>,
                                                multi_head_attention<C, causal>, How> {};

template <attention_config C, index_t W, index_t M, hierarchy How = hierarchy::residual>
struct local_then_summary
    : hierarchical_attention<multi_head_attention<C, sliding<W>>,
                             fused_attention<C, fixed_weights<>, plain, pooled<M>>, How> {};

}  // namespace deepseek
