// SPDX-License-Identifier: Apache-2.0
// DeepSeek sparse attention by its definition, one sequence from position 0: scores of the indexer,
// the keys that each query keeps, latent attention over those, and the indexer's loss.
//   q_I = wq_b c_q, c_q the normed latent of the queries; k_I = layer_norm(wk x); the first `rope`
//   elements of k_I and of every head of q_I turned, pairs (i, i + rope / 2); w = weights_proj x;
//   scale = (heads dim)^-1/2. The Hadamard transform changes no product of q_I and k_I: left out.
#pragma once

#include "oracle/indexer.hpp"
#include "oracle/latent_attention.hpp"

namespace oracle {

struct indexer_weights {
  std::vector<double> wq_b, wk, norm_w, norm_b, weights_proj;
};
struct dsa_weights {
  mla_weights attention;
  indexer_weights indexer;
};
struct dsa_shape {
  mla_shape attention;
  std::size_t index_heads = 1, index_dim = 1, top_k = 1;
};

// The first s.dim elements of rows of `width`, turned.
inline std::vector<double> turn_first(std::vector<double> x, std::size_t width, std::size_t heads,
                                      rope_shape s) {
  const std::size_t tokens = x.size() / (width * heads);
  std::vector<std::int64_t> at(tokens);
  for (std::size_t i = 0; i < tokens; ++i) at[i] = static_cast<std::int64_t>(i);
  s.heads = heads;
  s.layout = pairing::half;
  const auto turned = rope(column_block(x, width, 0, s.dim), at, s);
  for (std::size_t r = 0; r < tokens * heads; ++r) {
    for (std::size_t i = 0; i < s.dim; ++i) x[r * width + i] = turned[r * s.dim + i];
  }
  return x;
}

// Causal scores [tokens, tokens].
inline std::vector<double> dsa_scores(const std::vector<double>& x, const dsa_weights& w,
                                      const dsa_shape& s) {
  const std::size_t dim = s.attention.dim, rank = s.attention.q_rank, n = x.size() / dim;
  const auto latent = rms_norm(linear(x, w.attention.wq_a, {}, {n, dim, rank}), w.attention.q_norm,
                               rank, s.attention.eps);
  rope_shape turn = s.attention.rotation;
  turn.dim = s.attention.heads.rope;
  attention_inputs in;
  in.q = linear(latent, w.indexer.wq_b, {}, {n, rank, s.index_heads * s.index_dim});
  in.k = layer_norm(linear(x, w.indexer.wk, {}, {n, dim, s.index_dim}), w.indexer.norm_w,
                    w.indexer.norm_b, 1e-6);
  in.v = linear(x, w.indexer.weights_proj, {}, {n, dim, s.index_heads});
  if (turn.dim > 0) {
    in.q = turn_first(in.q, s.index_dim, s.index_heads, turn);
    in.k = turn_first(in.k, s.index_dim, 1, turn);
  }
  const double scale = 1 / std::sqrt(static_cast<double>(s.index_heads * s.index_dim));
  return indexer_scores(in, {n, n, s.index_heads, s.index_dim, scale}, causal(n, n)).scores;
}

inline visible_pair selected(const std::vector<double>& scores, std::size_t n, std::size_t most) {
  const auto ids = indexer_selection(scores, n, n, most);
  return [=](std::size_t i, std::size_t j) {
    const auto row = ids.begin() + static_cast<std::ptrdiff_t>(i * most);
    return std::find(row, row + static_cast<std::ptrdiff_t>(most), static_cast<std::int64_t>(j)) !=
           row + static_cast<std::ptrdiff_t>(most);
  };
}

inline std::vector<double> dsa(const std::vector<double>& x, const dsa_weights& w,
                               const dsa_shape& s) {
  const std::size_t n = x.size() / s.attention.dim;
  return mla(x, w.attention, s.attention, selected(dsa_scores(x, w, s), n, s.top_k));
}

// The mean over queries of KL(mean of the heads' weights || softmax of the scores), both over the
// keys that `sees` shows.
inline double dsa_loss(const std::vector<double>& x, const dsa_weights& w, dsa_shape s,
                       const visible_pair& sees) {
  const std::size_t n = x.size() / s.attention.dim;
  const auto scores = dsa_scores(x, w, s);
  const latent_inputs in = mla_latents(x, w.attention, s.attention);
  const auto full = latent_heads(in, s.attention.heads);
  const attention_shape shape = heads_shape(s.attention.heads);
  double loss = 0;
  for (std::size_t i = 0; i < n; ++i) {
    std::vector<double> mean(n), p;
    for (std::size_t h = 0; h < shape.heads; ++h) {
      detail::attention_row(full, shape, sees, i, h, p);
      for (std::size_t j = 0; j < n; ++j) mean[j] += p[j] / static_cast<double>(shape.heads);
    }
    double total = 0;
    for (std::size_t j = 0; j < n; ++j) total += sees(i, j) ? std::exp(scores[i * n + j]) : 0;
    for (std::size_t j = 0; j < n; ++j) {
      if (mean[j] > 0) loss += mean[j] * std::log(mean[j] * total / std::exp(scores[i * n + j]));
    }
  }
  return loss / static_cast<double>(n);
}

}  // namespace oracle
