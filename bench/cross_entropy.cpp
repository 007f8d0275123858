// SPDX-License-Identifier: Apache-2.0
// cross_entropy of rows of logits, and its gradient.
#include "deepseek/ops/cross_entropy.hpp"

#include "deepseek/backend/cpu/cross_entropy.hpp"

#include "support/op_case.hpp"

namespace bench {
namespace {

struct loss_size {
  const char* name;
  index_t rows, words;
};
constexpr loss_size sizes[] = {{"n512_v256", 512, 256}, {"n512_v32000", 512, 32000}};

struct cross_entropy_case {
  static constexpr const char* op = "cross_entropy";
  matrix logits;
  integers targets;
  vec losses;

  explicit cross_entropy_case(const loss_size& s)
      : logits(filled<matrix>({s.rows, s.words}, 1, {-4, 4})),
        targets(drawn<integers>({s.rows}, 2, static_cast<std::int32_t>(s.words))),
        losses({s.rows}) {}
  template <class B>
  void run(const B& b) {
    ds::ops::cross_entropy(b, logits, targets, losses);
  }
  work cost() const {
    const double elements = static_cast<double>(logits.size());
    return {20 * elements, 4 * elements, 0, arithmetic::f32, traffic::reads};
  }
  std::vector<output> outputs() const {
    return {out(losses, static_cast<double>(logits.extent(1)))};
  }
};

struct cross_entropy_gradient_case : cross_entropy_case {
  static constexpr const char* op = "cross_entropy_gradient";
  matrix gradient;

  explicit cross_entropy_gradient_case(const loss_size& s)
      : cross_entropy_case(s), gradient({s.rows, s.words}) {}
  template <class B>
  void run(const B& b) {
    ds::ops::cross_entropy_gradient(b, logits, targets, gradient);
  }
  work cost() const {
    const double elements = static_cast<double>(logits.size());
    return {20 * elements, 8 * elements};
  }
  std::vector<output> outputs() const { return {out(gradient)}; }
};

}  // namespace

void add_cases() {
  for (const loss_size& s : sizes) {
    add_both<cross_entropy_case>(s.name, s);
    add_both<cross_entropy_gradient_case>(s.name, s);
  }
}

}  // namespace bench
