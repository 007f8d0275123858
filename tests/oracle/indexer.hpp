// SPDX-License-Identifier: Apache-2.0
// The lightning indexer, pair by pair: q[queries, heads, dim], k[keys, dim], w[queries, heads] ->
//   score[t, s] = scale sum_h w[t, h] max(q[t, h] . k[s], 0), -inf where s is hidden from t,
// its gradient for a given g[queries, keys], and the keys it selects. magnitude: the same sum of
// absolute values, the size of its rounding errors.
#pragma once

#include "oracle/attention.hpp"
#include "oracle/top_k.hpp"

#include <algorithm>
#include <cstdint>

namespace oracle {

struct indexer_shape {
  std::size_t queries = 0, keys = 0, heads = 1, dim = 0;
  double scale = 1;
};

struct indexer_result {
  std::vector<double> scores, magnitude;  // [queries, keys]
};

struct indexer_gradient {
  std::vector<double> dq, dk, dw;
};

namespace detail {
inline double indexer_dot(const attention_inputs& x, const indexer_shape& s, std::size_t row,
                          std::size_t key) {
  double dot = 0;
  for (std::size_t c = 0; c < s.dim; ++c) dot += x.q.at(row * s.dim + c) * x.k.at(key * s.dim + c);
  return dot;
}
}  // namespace detail

// x.v holds w.
inline indexer_result indexer_scores(const attention_inputs& x, const indexer_shape& s,
                                     const visible_pair& visible) {
  indexer_result out{std::vector<double>(s.queries * s.keys),
                     std::vector<double>(s.queries * s.keys)};
  for (std::size_t i = 0; i < s.queries; ++i) {
    for (std::size_t j = 0; j < s.keys; ++j) {
      double &score = out.scores[i * s.keys + j], &size = out.magnitude[i * s.keys + j];
      if (!visible(i, j)) {
        score = -std::numeric_limits<double>::infinity();
        continue;
      }
      for (std::size_t h = 0; h < s.heads; ++h) {
        const double w = x.v.at(i * s.heads + h);
        const double dot = detail::indexer_dot(x, s, i * s.heads + h, j);
        if (!(dot < 0)) score += s.scale * w * dot;
        double terms = 0;
        for (std::size_t c = 0; c < s.dim; ++c) {
          terms += std::fabs(x.q[(i * s.heads + h) * s.dim + c] * x.k[j * s.dim + c]);
        }
        size += std::fabs(s.scale * w) * terms;
      }
    }
  }
  return out;
}

inline indexer_gradient indexer_backward(const attention_inputs& x, const indexer_shape& s,
                                         const visible_pair& visible,
                                         const std::vector<double>& g) {
  indexer_gradient out{std::vector<double>(x.q.size()), std::vector<double>(x.k.size()),
                       std::vector<double>(x.v.size())};
  for (std::size_t i = 0; i < s.queries; ++i) {
    for (std::size_t j = 0; j < s.keys; ++j) {
      if (!visible(i, j)) continue;
      for (std::size_t h = 0; h < s.heads; ++h) {
        const std::size_t row = i * s.heads + h;
        const double dot = detail::indexer_dot(x, s, row, j),
                     given = g.at(i * s.keys + j) * s.scale;
        if (dot <= 0) continue;
        out.dw[row] += given * dot;
        for (std::size_t c = 0; c < s.dim; ++c) {
          out.dq[row * s.dim + c] += given * x.v[row] * x.k[j * s.dim + c];
          out.dk[j * s.dim + c] += given * x.v[row] * x.q[row * s.dim + c];
        }
      }
    }
  }
  return out;
}

// The best `most` keys of each row of scores, best first; -1 where fewer are above -inf.
inline std::vector<std::int64_t> indexer_selection(const std::vector<double>& scores,
                                                   std::size_t rows, std::size_t keys,
                                                   std::size_t most) {
  const top_k_result best = top_k(scores, rows, keys, most);
  std::vector<std::int64_t> ids;
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = i * most; j < (i + 1) * most; ++j) {
      if (best.values[j] != -std::numeric_limits<double>::infinity()) ids.push_back(best.ids[j]);
    }
    ids.resize((i + 1) * most, -1);
  }
  return ids;
}

}  // namespace oracle
