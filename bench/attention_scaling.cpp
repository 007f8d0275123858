// SPDX-License-Identifier: Apache-2.0
// Time of attention against the length of the sequence, one head of 64, one thread: linear where
// every query sees a bounded number of keys, quadratic where it sees all before it.
#include "attention_case.hpp"

namespace bench {
namespace {

template <class Base>
struct scaling_of : Base {
  static constexpr const char* op = Base::op == std::string_view("attention")
                                        ? "attention_scaling"
                                        : "attention_backward_scaling";
  using Base::Base;
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
void add_pattern(const std::string& pattern) {
  add_lengths<scaling_of<attention_case<P>>>(pattern);
  add_lengths<scaling_of<attention_backward_case<P>>>(pattern);
}

}  // namespace

void add_cases() {
  add_pattern<dense_pattern>("causal");
  add_pattern<local_pattern>("local");
  add_pattern<block_pattern>("block");
  add_pattern<random_pattern>("random");
}

}  // namespace bench
