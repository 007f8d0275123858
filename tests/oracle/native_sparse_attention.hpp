// SPDX-License-Identifier: Apache-2.0
// Native sparse attention, one query and head at a time, nothing shared and nothing skipped; no
// rotation. Matrices are row-major [out, in]. Entry e takes the tokens of window e and, with
// overlap, of window e - 1, weighed for each channel by a softmax of (gate + ape).
#pragma once

#include "oracle/attention.hpp"

#include <algorithm>
#include <set>

namespace oracle {

using numbers = std::vector<double>;

struct nsa_pool {
  numbers gate, ape;  // [width, dim], [stride, width], width = KV, twice that with overlap
};
struct nsa_branch {
  numbers wk, wv;  // [KV, dim]
};
struct nsa_weights {
  numbers wq, wo, gate, gate_bias;  // gate [heads * 3, dim]
  nsa_branch compressed, selected, window;
  nsa_pool pool_k, pool_v;
};
struct nsa_shape {
  std::size_t dim = 0, heads = 0, kv_heads = 0, d = 0;
  std::size_t stride = 0, block = 0, count = 0, initial = 0, recent = 0, window = 0;
  bool overlap = false;
  std::size_t kv() const { return kv_heads * d; }
};

namespace nsa_detail {

inline numbers product(const numbers& x, const numbers& w, std::size_t in) {
  const std::size_t n = x.size() / in, out = w.size() / in;
  numbers y(n * out);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t o = 0; o < out; ++o) {
      for (std::size_t c = 0; c < in; ++c) y[i * out + o] += x[i * in + c] * w[o * in + c];
    }
  }
  return y;
}

inline numbers pooled(const numbers& rows, const numbers& x, const nsa_pool& p,
                      const nsa_shape& s) {
  const std::size_t kv = s.kv(), n = rows.size() / kv, wide = s.overlap ? 2 * kv : kv;
  const numbers gate = product(x, p.gate, s.dim);
  numbers entries;
  for (std::size_t e = 0; (e + 1) * s.stride <= n; ++e) {
    for (std::size_t c = 0; c < kv; ++c) {
      double total = 0, sum = 0;
      const auto take = [&](std::size_t token, std::size_t column) {
        const double w =
            std::exp(gate[token * wide + column] + p.ape[token % s.stride * wide + column]);
        total += w, sum += w * rows[token * kv + c];
      };
      for (std::size_t j = 0; j < s.stride; ++j) {
        if (s.overlap && e > 0) take((e - 1) * s.stride + j, c);
        take(e * s.stride + j, s.overlap ? kv + c : c);
      }
      entries.push_back(sum / total);
    }
  }
  return entries;
}

// softmax(q . k) v of one query and head over the listed keys; `p` gets the probabilities.
inline numbers attend(const numbers& q, std::size_t at, const numbers& k, const numbers& v,
                      const std::vector<std::size_t>& seen, std::size_t h, const nsa_shape& s,
                      std::vector<double>* p = nullptr) {
  const std::size_t kv = h / (s.heads / s.kv_heads);
  numbers out(s.d), weight;
  double total = 0;
  for (const std::size_t j : seen) {
    double dot = 0;
    for (std::size_t c = 0; c < s.d; ++c) {
      dot += q[(at * s.heads + h) * s.d + c] * k[(j * s.kv_heads + kv) * s.d + c];
    }
    weight.push_back(std::exp(dot / std::sqrt(static_cast<double>(s.d))));
    total += weight.back();
  }
  for (std::size_t i = 0; i < seen.size(); ++i) {
    weight[i] /= total;
    for (std::size_t c = 0; c < s.d; ++c) {
      out[c] += weight[i] * v[(seen[i] * s.kv_heads + kv) * s.d + c];
    }
  }
  if (p != nullptr) *p = weight;
  return out;
}

}  // namespace nsa_detail

// The blocks that query t sees through key-value head g.
inline std::set<std::size_t> nsa_blocks(const numbers& q, const numbers& entries,
                                        const nsa_shape& s, std::size_t t, std::size_t g) {
  const std::size_t blocks = t / s.block + 1, group = s.heads / s.kv_heads;
  std::vector<std::size_t> seen;
  for (std::size_t e = 0; e < (t + 1) / s.stride; ++e) seen.push_back(e);
  std::vector<std::pair<double, std::size_t>> order;  // the best sorts first
  for (std::size_t b = 0; b < blocks; ++b) order.emplace_back(0.0, b);
  for (std::size_t h = g * group; h < (g + 1) * group; ++h) {
    std::vector<double> p;
    nsa_detail::attend(q, t, entries, entries, seen, h, s, &p);
    for (const std::size_t e : seen) {
      for (std::size_t token = s.overlap && e > 0 ? (e - 1) * s.stride : e * s.stride;
           token < (e + 1) * s.stride; token += s.stride) {
        if (token / s.block < blocks) order[token / s.block].first -= p[e];
      }
    }
  }
  for (auto& [score, b] : order) {
    if (b < s.initial || b + s.recent >= blocks) score = -1e9;
  }
  std::sort(order.begin(), order.end());
  std::set<std::size_t> chosen;
  for (std::size_t i = 0; i < std::min(s.count, blocks); ++i) chosen.insert(order[i].second);
  return chosen;
}

inline numbers native_sparse_attention(const numbers& x, const nsa_weights& w, const nsa_shape& s) {
  using namespace nsa_detail;
  const std::size_t n = x.size() / s.dim;
  const numbers q = product(x, w.wq, s.dim), z = product(x, w.gate, s.dim);
  const auto keys = [&](const nsa_branch& b) { return product(x, b.wk, s.dim); };
  const auto values = [&](const nsa_branch& b) { return product(x, b.wv, s.dim); };
  const numbers ek = pooled(keys(w.compressed), x, w.pool_k, s);
  const numbers ev = pooled(values(w.compressed), x, w.pool_v, s);
  const numbers sk = keys(w.selected), sv = values(w.selected);
  const numbers wk = keys(w.window), wv = values(w.window);
  numbers o(n * s.heads * s.d);
  for (std::size_t t = 0; t < n; ++t) {
    for (std::size_t h = 0; h < s.heads; ++h) {
      std::vector<std::size_t> seen[3];
      const auto blocks = nsa_blocks(q, ek, s, t, h / (s.heads / s.kv_heads));
      for (std::size_t e = 0; e < (t + 1) / s.stride; ++e) seen[0].push_back(e);
      for (std::size_t j = 0; j <= t; ++j) {
        if (blocks.count(j / s.block) > 0) seen[1].push_back(j);
        if (j + s.window > t) seen[2].push_back(j);
      }
      const numbers part[3] = {attend(q, t, ek, ev, seen[0], h, s),
                               attend(q, t, sk, sv, seen[1], h, s),
                               attend(q, t, wk, wv, seen[2], h, s)};
      for (std::size_t b = 0; b < 3; ++b) {
        const std::size_t at = h * 3 + b;
        const double gate = 1 / (1 + std::exp(-z[t * s.heads * 3 + at] - w.gate_bias[at]));
        for (std::size_t c = 0; c < s.d; ++c) o[(t * s.heads + h) * s.d + c] += gate * part[b][c];
      }
    }
  }
  return product(o, w.wo, s.heads * s.d);
}

}  // namespace oracle
