// expects: deepseek::scored: the second type does not change scores
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/pattern/band.hpp>
#include <deepseek/pattern/score.hpp>

namespace ds = deepseek;

struct halved {
#ifdef DEEPSEEK_POSITIVE
  template <class T>
  constexpr ds::modified_score<T> change(T s, ds::index_t, ds::index_t) const {
    return {s / 2, T(0.5)};
  }
#endif
};

bool first_is_seen() {
  return ds::make_pattern<ds::scored<ds::causal, halved>>({}).visible(0, 0);
}
