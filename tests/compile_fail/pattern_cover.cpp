// expects: deepseek::pattern: this type does not say who sees whom
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/pattern/band.hpp>
#include <deepseek/pattern/combine.hpp>

namespace ds = deepseek;

struct even_keys {
  static constexpr bool visible(ds::index_t, ds::index_t k) { return k % 2 == 0; }
#ifdef DEEPSEEK_POSITIVE
  static constexpr ds::coverage cover(const ds::tile&) {
    return ds::coverage::partial;
  }
#endif
};

bool first_is_seen() {
  return ds::make_pattern<even_keys>({}).visible(0, 0);
}
