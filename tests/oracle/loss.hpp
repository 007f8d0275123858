// SPDX-License-Identifier: Apache-2.0
// Cross entropy of logits[tokens, vocab]: the mean over counted tokens of lse - logits[target].
// Tokens whose target is `ignored` do not count; with none counted the loss and the gradient are 0.
//   gradient = (softmax - one_hot) / counted
#pragma once

#include "oracle/softmax.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace oracle {

struct loss_result {
  double loss = 0;
  std::size_t counted = 0;
  std::vector<double> gradient;   // [tokens, vocab]
  std::vector<double> per_token;  // 0 where ignored
};

inline loss_result cross_entropy(const std::vector<double>& logits,
                                 const std::vector<std::int64_t>& targets, std::size_t vocab,
                                 std::int64_t ignored = -100) {
  loss_result out;
  for (std::int64_t target : targets) out.counted += target != ignored ? 1 : 0;
  out.gradient.assign(logits.size(), 0);
  const double share = out.counted == 0 ? 0 : 1 / static_cast<double>(out.counted);
  for (std::size_t t = 0; t < targets.size(); ++t) {
    out.per_token.push_back(0);
    if (targets[t] == ignored) continue;
    const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(t * vocab);
    const std::vector<double> row(begin, begin + static_cast<std::ptrdiff_t>(vocab));
    const softmax_result s = softmax(row, 1, vocab);
    const auto target = static_cast<std::size_t>(targets[t]);
    out.per_token[t] = s.lse[0] - row.at(target);
    out.loss += share * out.per_token[t];
    for (std::size_t i = 0; i < vocab; ++i) {
      out.gradient[t * vocab + i] = share * (s.p[i] - (i == target ? 1 : 0));
    }
  }
  return out;
}

}  // namespace oracle
