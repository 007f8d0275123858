// SPDX-License-Identifier: Apache-2.0
// What stands at the end of a model, by task. h [tokens, D] are the model's states, packed by the
// offsets of the call; S sequences.
//   generation_head<D, V>          logits [tokens, V] = W h, of the next token
//   classification_head<D, C>      logits [S, C] = W pool(h) + b, pool first, mean or last
//   tagging_head<D, Tags>          logits [tokens, Tags] = W h + b, one tag a token
//   reward_head<D>                 scalar [S, 1] = w . h_last, of a whole answer
//   contrastive_head<D, P>         unit vectors [S, P] = W pool(h) / |W pool(h)|
// Losses: ops::cross_entropy for the first three. Compositions of pool, linear and l2_normalize.
// Sources: Devlin et al. 2019, section 3 (classification, tagging); Ouyang et al. 2022, section 3.5
// (reward); Radford et al. 2021, section 2.3 (contrastive).
#pragma once

#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/l2_normalize.hpp"
#include "deepseek/layers/linear.hpp"
#include "deepseek/layers/pool.hpp"

namespace deepseek {

template <index_t D, index_t V, class F = plain>
struct generation_head : linear<D, V, F> {
  static constexpr const char* label = "head";
  template <class G>
  using with_format = generation_head<D, V, G>;
};

template <index_t D, index_t Classes, pooled_row How = pooled_row::mean, class F = plain>
struct classification_head : chain<pool<D, How>, linear<D, Classes, F, bias::present>> {
  static constexpr const char* label = "classification";
  template <class G>
  using with_format = classification_head<D, Classes, How, G>;
};

// Tags of T types of spans: O = 0, B-t = 1 + 2 t, I-t = 2 + 2 t.
constexpr index_t bio_tags(index_t types) {
  return 2 * types + 1;
}
template <index_t D, index_t Tags, class F = plain>
struct tagging_head : linear<D, Tags, F, bias::present> {
  static constexpr const char* label = "tagging";
  template <class G>
  using with_format = tagging_head<D, Tags, G>;
};

template <index_t D, class F = plain>
struct reward_head : chain<pool<D, pooled_row::last>, linear<D, 1, F>> {
  static constexpr const char* label = "reward";
  template <class G>
  using with_format = reward_head<D, G>;
};

template <index_t D, index_t P, pooled_row How = pooled_row::mean, class F = plain>
struct contrastive_head : chain<pool<D, How>, linear<D, P, F>, l2_normalize<P>> {
  static constexpr const char* label = "contrastive";
  template <class G>
  using with_format = contrastive_head<D, P, How, G>;
};

}  // namespace deepseek
