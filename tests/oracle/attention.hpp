// SPDX-License-Identifier: Apache-2.0
// Attention, one query and one head at a time, all scores stored: q[queries, heads, dim], k[keys,
// kv_heads, dim], v[keys, kv_heads, value_dim] -> out[queries, heads, value_dim], lse[queries,
// heads].
//   out = softmax over visible j of (scale q.k_j), times v; query head h reads key head h / (heads
//   / kv_heads).
// visible(i, j) is asked with row numbers of this call. Keys that are not visible are never read. A
// query that sees nothing (or only scores of -inf) gives 0 and -inf. magnitude = sum p |v|: the
// scale of rounding errors. change, where given: s' and ds'/ds of the score of row i and key j.
#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <vector>

namespace oracle {

struct changed_score {
  double score, slope;
};
using change_score = std::function<changed_score(double score, std::size_t query, std::size_t key)>;

struct attention_shape {
  std::size_t queries = 0, keys = 0, heads = 1, kv_heads = 1, dim = 0, value_dim = 0;
  double scale = 1;
  change_score change = {};

  changed_score changed(double score, std::size_t i, std::size_t j) const {
    return change ? change(score, i, j) : changed_score{score, 1};
  }
};

struct attention_inputs {
  std::vector<double> q, k, v;
};

struct attention_result {
  std::vector<double> out, lse, magnitude;
};

struct attention_gradient {
  std::vector<double> dq, dk, dv;
};

using visible_pair = std::function<bool(std::size_t query, std::size_t key)>;

inline visible_pair everything() {
  return [](std::size_t, std::size_t) { return true; };
}

// The last query sees the last key, whatever the lengths: j <= i + (keys - queries).
inline visible_pair causal(std::size_t queries, std::size_t keys) {
  return [=](std::size_t i, std::size_t j) { return j + queries <= i + keys; };
}

namespace detail {

// Probabilities of one query row in one head, 0 where not visible, and the slopes of its scores.
// Returns the log-sum-exp.
inline double attention_row(const attention_inputs& x, const attention_shape& s,
                            const visible_pair& visible, std::size_t i, std::size_t h,
                            std::vector<double>& p, std::vector<double>& slope) {
  constexpr double nothing = -std::numeric_limits<double>::infinity();
  const std::size_t kv = h / (s.heads / s.kv_heads);
  p.assign(s.keys, nothing);
  slope.assign(s.keys, 0);
  double top = nothing, sum = 0;
  for (std::size_t j = 0; j < s.keys; ++j) {
    if (!visible(i, j)) continue;
    double dot = 0;
    for (std::size_t c = 0; c < s.dim; ++c) {
      dot += x.q.at((i * s.heads + h) * s.dim + c) * x.k.at((j * s.kv_heads + kv) * s.dim + c);
    }
    const changed_score now = s.changed(s.scale * dot, i, j);
    p[j] = now.score;
    slope[j] = now.slope;
    top = std::fmax(top, p[j]);
  }
  for (double& e : p) {
    e = e == nothing ? 0 : std::exp(e - top);
    sum += e;
  }
  if (sum == 0) return nothing;
  for (double& e : p) e /= sum;
  return top + std::log(sum);
}
inline double attention_row(const attention_inputs& x, const attention_shape& s,
                            const visible_pair& visible, std::size_t i, std::size_t h,
                            std::vector<double>& p) {
  std::vector<double> slope;
  return attention_row(x, s, visible, i, h, p, slope);
}

}  // namespace detail

inline attention_result attention(const attention_inputs& x, const attention_shape& s,
                                  const visible_pair& visible) {
  attention_result r;
  r.out.assign(s.queries * s.heads * s.value_dim, 0);
  r.magnitude = r.out;
  r.lse.assign(s.queries * s.heads, 0);
  std::vector<double> p, slope;
  for (std::size_t i = 0; i < s.queries; ++i) {
    for (std::size_t h = 0; h < s.heads; ++h) {
      r.lse[i * s.heads + h] = detail::attention_row(x, s, visible, i, h, p, slope);
      if (r.lse[i * s.heads + h] == -std::numeric_limits<double>::infinity()) continue;
      const std::size_t kv = h / (s.heads / s.kv_heads), at = (i * s.heads + h) * s.value_dim;
      for (std::size_t j = 0; j < s.keys; ++j) {
        if (!visible(i, j)) continue;
        for (std::size_t c = 0; c < s.value_dim; ++c) {
          const double value = x.v.at((j * s.kv_heads + kv) * s.value_dim + c);
          r.out[at + c] += p[j] * value;
          r.magnitude[at + c] += p[j] * std::fabs(value);
        }
      }
    }
  }
  return r;
}

// dv_j += p_j g; dp_j = g.v_j; ds_j = p_j (dp_j - sum p dp); dq += scale ds_j k_j; dk_j += scale
// ds_j q.
inline attention_gradient attention_backward(const attention_inputs& x, const attention_shape& s,
                                             const visible_pair& visible,
                                             const std::vector<double>& g) {
  attention_gradient d{std::vector<double>(x.q.size()), std::vector<double>(x.k.size()),
                       std::vector<double>(x.v.size())};
  std::vector<double> p, slope;
  for (std::size_t i = 0; i < s.queries; ++i) {
    for (std::size_t h = 0; h < s.heads; ++h) {
      const double lse = detail::attention_row(x, s, visible, i, h, p, slope);
      if (lse == -std::numeric_limits<double>::infinity()) continue;
      const std::size_t kv = h / (s.heads / s.kv_heads);
      const std::size_t query = (i * s.heads + h) * s.dim, out = (i * s.heads + h) * s.value_dim;
      std::vector<double> dp(s.keys);
      double mean = 0;
      for (std::size_t j = 0; j < s.keys; ++j) {
        if (!visible(i, j)) continue;
        const std::size_t value = (j * s.kv_heads + kv) * s.value_dim;
        for (std::size_t c = 0; c < s.value_dim; ++c) {
          dp[j] += g.at(out + c) * x.v[value + c];
          d.dv[value + c] += p[j] * g[out + c];
        }
        mean += p[j] * dp[j];
      }
      for (std::size_t j = 0; j < s.keys; ++j) {
        if (!visible(i, j)) continue;
        const double ds = s.scale * slope[j] * p[j] * (dp[j] - mean);
        const std::size_t key = (j * s.kv_heads + kv) * s.dim;
        for (std::size_t c = 0; c < s.dim; ++c) {
          d.dq[query + c] += ds * x.k[key + c];
          d.dk[key + c] += ds * x.q[query + c];
        }
      }
    }
  }
  return d;
}

}  // namespace oracle
