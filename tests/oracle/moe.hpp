// SPDX-License-Identifier: Apache-2.0
// The routing of a mixture of experts, token by token.
//   gate: scores of the experts, the `active` largest of score + bias in the best groups, their
//   scores as weights (or divided by their sum), times a scale permutation: rows sorted by expert,
//   tokens in order within one; combine: y_t = sum_k w[t,k] row(t,k), k in order balance loss:
//   sum_e f_e P_e, f_e = E/(K T) * rows of e, P_e = mean probability of e
#pragma once

#include "oracle/softmax.hpp"
#include "oracle/top_k.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace oracle {

enum class gate_weights { as_they_are, divided_by_sum };
enum class gate_scores { softmax, sigmoid, sqrt_softplus };
enum class group_rank { best, sum_of_two };

struct gate_shape {
  std::size_t tokens = 0, experts = 0, active = 0;
  gate_weights weights = gate_weights::as_they_are;
  double scale = 1;
  gate_scores score = gate_scores::softmax;
  std::vector<double> bias = {};  // [experts] or empty: no bias
  std::size_t groups = 1, top_groups = 1;
  group_rank rank = group_rank::best;
};

struct gate_result {
  std::vector<std::int64_t> ids;    // [tokens, active]
  std::vector<double> weights;      // [tokens, active]
  std::vector<double> probability;  // [tokens, experts]
  std::vector<double> group_value;  // [tokens, groups]
};

inline double gate_score_of(double z, gate_scores how) {
  if (how == gate_scores::sigmoid) return 1 / (1 + std::exp(-z));
  return std::sqrt(z > 30 ? z + std::exp(-z) : std::log1p(std::exp(z)));
}

// Experts of groups that are not among the best get -infinity. `biased` is one row.
inline void keep_best_groups(std::vector<double>& biased, const gate_shape& s, gate_result& out) {
  const std::size_t size = s.experts / s.groups;
  std::vector<double> value;
  for (std::size_t g = 0; g < s.groups; ++g) {
    const auto first = biased.begin() + static_cast<std::ptrdiff_t>(g * size);
    std::vector<double> sorted(first, first + static_cast<std::ptrdiff_t>(size));
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    value.push_back(sorted[0] + (s.rank == group_rank::sum_of_two && size > 1 ? sorted[1] : 0));
  }
  out.group_value.insert(out.group_value.end(), value.begin(), value.end());
  const top_k_result kept = top_k(value, 1, s.groups, s.top_groups);
  for (std::size_t e = 0; e < s.experts; ++e) {
    const auto g = static_cast<std::int64_t>(e / size);
    if (std::find(kept.ids.begin(), kept.ids.end(), g) == kept.ids.end()) {
      biased[e] = -std::numeric_limits<double>::infinity();
    }
  }
}

inline gate_result gate_top_k(const std::vector<double>& logits, const gate_shape& s) {
  gate_result out;
  if (s.score == gate_scores::softmax) {
    out.probability = softmax(logits, s.tokens, s.experts).p;
  } else {
    for (double z : logits) out.probability.push_back(gate_score_of(z, s.score));
  }
  for (std::size_t t = 0; t < s.tokens; ++t) {
    const double* row = out.probability.data() + t * s.experts;
    std::vector<double> biased(row, row + s.experts);
    for (std::size_t e = 0; e < s.bias.size(); ++e) biased[e] += s.bias[e];
    keep_best_groups(biased, s, out);
    const top_k_result best = top_k(biased, 1, s.experts, s.active);
    double sum = 0;
    for (std::int64_t e : best.ids) sum += row[e];
    const double divisor = s.weights == gate_weights::divided_by_sum ? sum : 1;
    for (std::int64_t e : best.ids) {
      out.ids.push_back(e);
      out.weights.push_back(row[e] * s.scale / divisor);
    }
  }
  return out;
}

struct permutation {
  std::vector<std::size_t>
      offsets;  // [experts + 1]: rows of expert e are offsets[e] ... offsets[e+1]
  std::vector<std::size_t> token;   // [rows]: which token a sorted row is
  std::vector<std::size_t> row_of;  // [tokens, active]: where it went
};

inline permutation permute(const std::vector<std::int64_t>& ids, std::size_t tokens,
                           std::size_t active, std::size_t experts) {
  permutation out;
  out.row_of.assign(tokens * active, 0);
  out.offsets.push_back(0);
  for (std::size_t e = 0; e < experts; ++e) {
    for (std::size_t slot = 0; slot < tokens * active; ++slot) {
      if (ids.at(slot) != static_cast<std::int64_t>(e)) continue;
      out.row_of[slot] = out.token.size();
      out.token.push_back(slot / active);
    }
    out.offsets.push_back(out.token.size());
  }
  return out;
}

inline std::vector<double> gather_rows(const std::vector<double>& x, const permutation& order,
                                       std::size_t dim) {
  std::vector<double> y;
  for (std::size_t token : order.token) {
    for (std::size_t c = 0; c < dim; ++c) y.push_back(x.at(token * dim + c));
  }
  return y;
}

inline std::vector<double> combine(const std::vector<double>& rows,
                                   const std::vector<double>& weights, const permutation& order,
                                   std::size_t active, std::size_t dim) {
  const std::size_t tokens = weights.size() / active;
  std::vector<double> y(tokens * dim);
  for (std::size_t slot = 0; slot < weights.size(); ++slot) {
    for (std::size_t c = 0; c < dim; ++c) {
      y[slot / active * dim + c] += weights[slot] * rows.at(order.row_of.at(slot) * dim + c);
    }
  }
  return y;
}

struct balance_shape {
  std::size_t tokens = 0, experts = 0;
  std::size_t groups = 0;                // 0: one for each expert
  std::size_t top_groups = 0;            // > 0: f counts tokens sent to a group, not assignments
  bool divided = false;                  // P from scores divided by their sum
  std::vector<std::size_t> starts = {};  // of the sequences, then the end; empty: one sequence
};
struct balance {
  std::vector<double> fraction, probability;  // f, P of the last sequence
  double loss = 0;                            // mean over the sequences that have tokens
};

inline void count_for_balance(balance& out, const std::vector<std::int64_t>& chosen,
                              std::size_t size, const balance_shape& s, double tokens) {
  std::vector<std::int64_t> seen;
  for (std::int64_t id : chosen) {
    const std::int64_t d = id / static_cast<std::int64_t>(size);
    const bool again = std::find(seen.begin(), seen.end(), d) != seen.end();
    seen.push_back(d);
    if (s.top_groups > 0 && again) continue;
    const double most = static_cast<double>(s.top_groups > 0 ? s.top_groups : chosen.size());
    out.fraction.at(static_cast<std::size_t>(d)) +=
        static_cast<double>(out.fraction.size()) / (most * tokens);
  }
}

inline balance balance_loss(const std::vector<double>& scores, const std::vector<std::int64_t>& ids,
                            const balance_shape& s) {
  const std::size_t groups = s.groups > 0 ? s.groups : s.experts, size = s.experts / groups;
  const std::size_t active = ids.size() / s.tokens;
  const auto starts = s.starts.empty() ? std::vector<std::size_t>{0, s.tokens} : s.starts;
  balance out;
  double loss = 0, sequences = 0;
  for (std::size_t q = 0; q + 1 < starts.size(); ++q) {
    if (starts[q] == starts[q + 1]) continue;
    const double tokens = static_cast<double>(starts[q + 1] - starts[q]);
    out.fraction.assign(groups, 0);
    out.probability.assign(groups, 0);
    for (std::size_t t = starts[q]; t < starts[q + 1]; ++t) {
      const auto at = ids.begin() + static_cast<std::ptrdiff_t>(t * active);
      count_for_balance(out, {at, at + static_cast<std::ptrdiff_t>(active)}, size, s, tokens);
      double sum = 0;
      for (std::size_t e = 0; e < s.experts; ++e) sum += scores.at(t * s.experts + e);
      for (std::size_t e = 0; e < s.experts; ++e) {
        out.probability[e / size] += scores[t * s.experts + e] / (s.divided ? sum : 1) / tokens;
      }
    }
    sequences += 1;
    for (std::size_t d = 0; d < groups; ++d) loss += out.fraction[d] * out.probability[d];
  }
  out.loss = loss / sequences;
  return out;
}

}  // namespace oracle
