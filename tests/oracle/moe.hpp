// SPDX-License-Identifier: Apache-2.0
// The routing of a mixture of experts, token by token.
//   gate: softmax over the experts, the `active` largest, their probabilities as weights (or
//   divided by their sum) permutation: rows sorted by expert, tokens in order within one; combine:
//   y_t = sum_k w[t,k] row(t,k), k in order balance loss: sum_e f_e P_e, f_e = E/(K T) * rows of e,
//   P_e = mean probability of e
#pragma once

#include "oracle/softmax.hpp"
#include "oracle/top_k.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace oracle {

enum class gate_weights { as_they_are, divided_by_sum };

struct gate_shape {
  std::size_t tokens = 0, experts = 0, active = 0;
  gate_weights weights = gate_weights::as_they_are;
  double scale = 1;
};

struct gate_result {
  std::vector<std::int64_t> ids;    // [tokens, active]
  std::vector<double> weights;      // [tokens, active]
  std::vector<double> probability;  // [tokens, experts]
};

inline gate_result gate_softmax_top_k(const std::vector<double>& logits, const gate_shape& s) {
  gate_result out;
  out.probability = softmax(logits, s.tokens, s.experts).p;
  const top_k_result best = top_k(out.probability, s.tokens, s.experts, s.active);
  out.ids = best.ids;
  out.weights = best.values;
  for (std::size_t t = 0; t < s.tokens; ++t) {
    double sum = 0;
    for (std::size_t k = 0; k < s.active; ++k) sum += best.values[t * s.active + k];
    const double divisor = s.weights == gate_weights::divided_by_sum ? sum : 1;
    for (std::size_t k = 0; k < s.active; ++k) out.weights[t * s.active + k] *= s.scale / divisor;
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

struct balance {
  std::vector<double> fraction, probability;  // f, P
  double loss = 0;
};

inline balance balance_loss(const std::vector<double>& scores, const std::vector<std::int64_t>& ids,
                            std::size_t tokens, std::size_t experts) {
  balance out{std::vector<double>(experts), std::vector<double>(experts), 0};
  for (std::int64_t id : ids) {
    out.fraction.at(static_cast<std::size_t>(id)) +=
        static_cast<double>(experts) / static_cast<double>(ids.size());
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t e = 0; e < experts; ++e) {
      out.probability[e] += scores.at(t * experts + e) / static_cast<double>(tokens);
    }
  }
  for (std::size_t e = 0; e < experts; ++e) out.loss += out.fraction[e] * out.probability[e];
  return out;
}

}  // namespace oracle
