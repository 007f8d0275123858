// SPDX-License-Identifier: Apache-2.0
// DeepSeek-V4's attention on one sequence, from its weights by name, scores stored one by one.
//   cq = norm(Wqa x), q_h = unit(Wqb cq), kv = norm(Wkv x); R_t turns the last r elements
//   keys of query t: R_j kv_j, t - window < j <= t, and entries i < floor((t + 1) / m) that
//   chosen(t, i) keeps; each is its own value; e^sink is one more term below
//   y = Wob concat_j (Woa_j R_-t o_j)
#pragma once

#include "oracle/compress.hpp"
#include "oracle/norm.hpp"
#include "oracle/rope.hpp"

#include <functional>
#include <map>
#include <string>

namespace oracle {

struct compressed_shape {
  std::size_t dim, heads, head_dim, rope_dim, groups, window, ratio;
  bool overlapped = false;
  std::vector<double> frequencies;  // of rope_dim / 2 pairs
  double eps = 1e-6;
};
using weights_by_name = std::map<std::string, std::vector<double>>;

namespace compressed_detail {

using reals = std::vector<double>;

// y = x W^T row by row, W [out, in].
inline reals product(const reals& x, const reals& w, std::size_t in) {
  const std::size_t rows = x.size() / in, out = w.size() / in;
  reals y(rows * out);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t o = 0; o < out; ++o) {
      for (std::size_t i = 0; i < in; ++i) y[r * out + o] += x[r * in + i] * w[o * in + i];
    }
  }
  return y;
}
// One head in its place: the last elements turned by a position.
inline void turn(double* head, const compressed_shape& s, std::int64_t position, double direction) {
  rope_shape how;
  how.dim = s.rope_dim, how.frequencies = s.frequencies, how.direction = direction;
  double* tail = head + s.head_dim - s.rope_dim;
  const reals turned = rope(reals(tail, tail + s.rope_dim), {position}, how);
  std::copy(turned.begin(), turned.end(), tail);
}

}  // namespace compressed_detail

// Entries after norm and rotation, for a compressor whose weights begin with `prefix`.
inline std::vector<double> compressed_entries(const std::vector<double>& x,
                                              const weights_by_name& w, const std::string& prefix,
                                              const compressed_shape& s) {
  using namespace compressed_detail;
  const std::size_t D = w.at(prefix + "norm.weight").size();
  reals e = compress(product(x, w.at(prefix + "wkv.weight"), s.dim),
                     product(x, w.at(prefix + "wgate.weight"), s.dim), w.at(prefix + "ape"),
                     {s.ratio, D, s.overlapped});
  e = rms_norm(e, w.at(prefix + "norm.weight"), D, s.eps);
  compressed_shape own = s;
  own.head_dim = D;
  for (std::size_t i = 0; i * D < e.size(); ++i) {
    turn(&e[i * D], own, static_cast<std::int64_t>(i * s.ratio), 1);
  }
  return e;
}

using chosen_entry = std::function<bool(std::size_t query, std::size_t entry)>;

inline std::vector<double> compressed_attention(const std::vector<double>& x,
                                                const weights_by_name& w, const compressed_shape& s,
                                                const chosen_entry& chosen) {
  using namespace compressed_detail;
  const std::size_t D = s.head_dim, n = x.size() / s.dim, rank = w.at("q_norm.weight").size();
  const reals ones(D, 1.0);
  const reals cq =
      rms_norm(product(x, w.at("wq_a.weight"), s.dim), w.at("q_norm.weight"), rank, s.eps);
  reals q = rms_norm(product(cq, w.at("wq_b.weight"), rank), ones, D, s.eps);
  reals kv = rms_norm(product(x, w.at("wkv.weight"), s.dim), w.at("kv_norm.weight"), D, s.eps);
  for (std::size_t t = 0; t < n; ++t) {
    turn(&kv[t * D], s, static_cast<std::int64_t>(t), 1);
    for (std::size_t h = 0; h < s.heads; ++h) {
      turn(&q[(t * s.heads + h) * D], s, static_cast<std::int64_t>(t), 1);
    }
  }
  const reals entries = s.ratio > 0 ? compressed_entries(x, w, "compressor.", s) : reals{};
  reals o(q.size());
  for (std::size_t t = 0; t < n; ++t) {
    for (std::size_t h = 0; h < s.heads; ++h) {
      const std::size_t at = (t * s.heads + h) * D;
      double below = std::exp(w.at("attn_sink")[h]);
      const auto see = [&](const double* key) {
        double score = 0;
        for (std::size_t d = 0; d < D; ++d) score += q[at + d] * key[d];
        const double p = std::exp(score / std::sqrt(static_cast<double>(D)));
        below += p;
        for (std::size_t d = 0; d < D; ++d) o[at + d] += p * key[d];
      };
      for (std::size_t j = 0; j <= t; ++j) {
        if (t - j < s.window) see(&kv[j * D]);
      }
      for (std::size_t i = 0; s.ratio > 0 && i < (t + 1) / s.ratio; ++i) {
        if (chosen(t, i)) see(&entries[i * D]);
      }
      for (std::size_t d = 0; d < D; ++d) o[at + d] /= below;
      turn(&o[at], s, static_cast<std::int64_t>(t), -1);
    }
  }
  const std::size_t in = s.heads * D / s.groups;
  const reals& woa = w.at("wo_a.weight");
  const std::size_t out = woa.size() / in / s.groups;
  reals z;
  for (std::size_t at = 0; at < o.size(); at += in) {
    const std::size_t j = at / in % s.groups;
    const auto first = woa.begin() + static_cast<std::ptrdiff_t>(j * out * in);
    const reals part = product(reals(o.begin() + static_cast<std::ptrdiff_t>(at),
                                     o.begin() + static_cast<std::ptrdiff_t>(at + in)),
                               reals(first, first + static_cast<std::ptrdiff_t>(out * in)), in);
    z.insert(z.end(), part.begin(), part.end());
  }
  return product(z, w.at("wo_b.weight"), s.groups * out);
}

// The entries with the k largest scores of the indexer, among the complete ones of each query.
inline chosen_entry largest_scores(const std::vector<double>& x, const weights_by_name& w,
                                   const compressed_shape& s, std::size_t k) {
  using namespace compressed_detail;
  const std::size_t rank = w.at("q_norm.weight").size(), n = x.size() / s.dim;
  const std::size_t D = w.at("indexer.compressor.norm.weight").size();
  const std::size_t H = w.at("indexer.weights_proj.weight").size() / s.dim;
  const reals cq =
      rms_norm(product(x, w.at("wq_a.weight"), s.dim), w.at("q_norm.weight"), rank, s.eps);
  reals q = product(cq, w.at("indexer.wq_b.weight"), rank);
  const reals weights = product(x, w.at("indexer.weights_proj.weight"), s.dim);
  const reals keys = compressed_entries(x, w, "indexer.compressor.", s);
  compressed_shape own = s;
  own.head_dim = D;
  std::vector<reals> scores(n);
  for (std::size_t t = 0; t < n; ++t) {
    for (std::size_t h = 0; h < H; ++h) {
      turn(&q[(t * H + h) * D], own, static_cast<std::int64_t>(t), 1);
    }
    for (std::size_t i = 0; i < (t + 1) / s.ratio; ++i) {
      double score = 0;
      for (std::size_t h = 0; h < H; ++h) {
        double dot = 0;
        for (std::size_t d = 0; d < D; ++d) dot += q[(t * H + h) * D + d] * keys[i * D + d];
        score += weights[t * H + h] * (dot > 0 ? dot : 0);
      }
      scores[t].push_back(score);
    }
  }
  return [scores, k](std::size_t t, std::size_t i) {
    std::size_t above = 0;
    for (const double other : scores[t]) above += other > scores[t][i];
    return above < k;
  };
}

}  // namespace oracle
