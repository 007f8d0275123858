// SPDX-License-Identifier: Apache-2.0
// Attention of one head of 64 on one thread at lengths from 512 to 32768, for one pattern. Its work
// is that of the tiles of 64 queries by 64 keys that are visited, as if every pair of them counted:
// so the rate of a pattern over that of dense attention is how well kept tiles run.
#pragma once

#include "attention_case.hpp"

namespace bench {

template <class Base>
struct scaling_of : Base {
  static constexpr bool backward = Base::op == std::string_view("attention_backward");
  static constexpr const char* op = backward ? "attention_backward_scaling" : "attention_scaling";
  using Base::Base;

  work cost() const {
    const auto spec = Base::spec(0);
    const auto seen = ds::bind_pattern(spec.pattern, {.keys = this->s.tokens});
    const auto tiles =
        static_cast<double>(ds::cpu_attention::count_tiles(seen, this->s.tokens, this->s.tokens));
    constexpr auto pairs =
        static_cast<double>(ds::cpu_attention::key_tile * ds::cpu_attention::most_rows);
    work w = Base::cost();
    w.flops = (backward ? 2.5 : 1) * 4 * static_cast<double>(this->s.dim) * pairs * tiles;
    return w;
  }
};

template <class Case>
void add_lengths(const std::string& pattern) {
  for (const index_t tokens : scaling_tokens) {
    const attention_size s{"", tokens, 1, 1, 64};
    const auto run = [](Case& c, const ds::cpu& b) { c.run(b); };
    add_case({Case::op, "cpu", "flash", pattern + "_n" + std::to_string(tokens), 1},
             problem_on<Case>([] { return ds::cpu(); }, run, s));
  }
}

template <class P>
void add_scaling(const std::string& pattern) {
  add_lengths<scaling_of<attention_case<P>>>(pattern);
  add_lengths<scaling_of<attention_backward_case<P>>>(pattern);
}

}  // namespace bench
