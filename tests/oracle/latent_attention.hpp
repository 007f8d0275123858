// SPDX-License-Identifier: Apache-2.0
// Multi-head latent attention by its definition: keys and values of every head are formed from the
// latents, key j of head h = [w_uk[h] c_j; k_pe_j], value = w_uv[h] c_j; then attention. The layer
// around it: norms, rotation and projections of x[tokens, dim], one sequence from position 0.
#pragma once

#include "oracle/attention.hpp"
#include "oracle/gemm.hpp"
#include "oracle/norm.hpp"
#include "oracle/rope.hpp"

namespace oracle {

struct latent_shape {
  std::size_t queries = 0, keys = 0, heads = 1, rank = 0, nope = 0, rope = 0, value_dim = 0;
  double scale = 1;
};

// q_nope[queries, heads, nope], q_pe[queries, heads, rope], c[keys, rank], k_pe[keys, rope],
// w_uk[heads, nope, rank], w_uv[heads, value_dim, rank].
struct latent_inputs {
  std::vector<double> q_nope, q_pe, c, k_pe, w_uk, w_uv;
};

// Queries, keys and values of every head.
inline attention_inputs latent_heads(const latent_inputs& x, const latent_shape& s) {
  const std::size_t width = s.nope + s.rope;
  attention_inputs full;
  full.q.resize(s.queries * s.heads * width);
  full.k.resize(s.keys * s.heads * width);
  full.v.resize(s.keys * s.heads * s.value_dim);
  const auto copy = [&](std::vector<double>& to, std::size_t row, const std::vector<double>& from,
                        std::size_t at) {
    for (std::size_t i = 0; i < s.rope; ++i) to[row * width + s.nope + i] = from.at(at + i);
  };
  for (std::size_t r = 0; r < s.queries * s.heads; ++r) {
    for (std::size_t i = 0; i < s.nope; ++i) full.q[r * width + i] = x.q_nope.at(r * s.nope + i);
    copy(full.q, r, x.q_pe, r * s.rope);
  }
  for (std::size_t j = 0; j < s.keys; ++j) {
    for (std::size_t h = 0; h < s.heads; ++h) {
      const std::size_t row = j * s.heads + h;
      const auto expanded = [&](const std::vector<double>& w, std::size_t rows, std::size_t i) {
        double sum = 0;
        for (std::size_t l = 0; l < s.rank; ++l) {
          sum += w.at((h * rows + i) * s.rank + l) * x.c.at(j * s.rank + l);
        }
        return sum;
      };
      for (std::size_t i = 0; i < s.nope; ++i)
        full.k[row * width + i] = expanded(x.w_uk, s.nope, i);
      for (std::size_t i = 0; i < s.value_dim; ++i) {
        full.v[row * s.value_dim + i] = expanded(x.w_uv, s.value_dim, i);
      }
      copy(full.k, row, x.k_pe, j * s.rope);
    }
  }
  return full;
}

inline attention_shape heads_shape(const latent_shape& s) {
  return {s.queries, s.keys, s.heads, s.heads, s.nope + s.rope, s.value_dim, s.scale};
}

inline attention_result latent_attention(const latent_inputs& x, const latent_shape& s,
                                         const visible_pair& visible) {
  return attention(latent_heads(x, s), heads_shape(s), visible);
}

// Weights [out, in]; q_rank 0: wq only, else wq_a, q_norm and wq_b.
struct mla_weights {
  std::vector<double> wq, wq_a, q_norm, wq_b, wkv_a, kv_norm, wkv_b, wo;
};
struct mla_shape {
  std::size_t dim = 0, q_rank = 0;
  latent_shape heads;   // queries and keys are the tokens of x
  rope_shape rotation;  // of one head of `heads.rope` elements
  double eps = 1e-6;
};

// Columns first .. first + count - 1 of rows of `width`.
inline std::vector<double> column_block(const std::vector<double>& x, std::size_t width,
                                        std::size_t first, std::size_t count) {
  std::vector<double> out;
  for (std::size_t row = 0; row < x.size(); row += width) {
    for (std::size_t i = 0; i < count; ++i) out.push_back(x.at(row + first + i));
  }
  return out;
}

// What attention is computed from; s.heads.queries and keys are set.
inline latent_inputs mla_latents(const std::vector<double>& x, const mla_weights& w, mla_shape& s) {
  const std::size_t n = x.size() / s.dim, heads = s.heads.heads, rank = s.heads.rank;
  const std::size_t nope = s.heads.nope, rope_dim = s.heads.rope, v = s.heads.value_dim;
  std::vector<double> q;
  if (s.q_rank == 0) {
    q = linear(x, w.wq, {}, {n, s.dim, heads * (nope + rope_dim)});
  } else {
    const auto a = linear(x, w.wq_a, {}, {n, s.dim, s.q_rank});
    q = linear(rms_norm(a, w.q_norm, s.q_rank, s.eps), w.wq_b, {},
               {n, s.q_rank, heads * (nope + rope_dim)});
  }
  const auto kv = linear(x, w.wkv_a, {}, {n, s.dim, rank + rope_dim});
  latent_inputs in;
  in.c = rms_norm(column_block(kv, rank + rope_dim, 0, rank), w.kv_norm, rank, s.eps);
  in.k_pe = column_block(kv, rank + rope_dim, rank, rope_dim);
  in.q_nope = column_block(q, nope + rope_dim, 0, nope);
  in.q_pe = column_block(q, nope + rope_dim, nope, rope_dim);
  std::vector<std::int64_t> at(n);
  for (std::size_t i = 0; i < n; ++i) at[i] = static_cast<std::int64_t>(i);
  if (rope_dim > 0) {
    s.rotation.dim = rope_dim;
    s.rotation.heads = 1;
    in.k_pe = rope(in.k_pe, at, s.rotation);
    s.rotation.heads = heads;
    in.q_pe = rope(in.q_pe, at, s.rotation);
  }
  for (std::size_t h = 0; h < heads; ++h) {
    const auto block = w.wkv_b.begin() + static_cast<std::ptrdiff_t>(h * (nope + v) * rank);
    const auto middle = block + static_cast<std::ptrdiff_t>(nope * rank);
    in.w_uk.insert(in.w_uk.end(), block, middle);
    in.w_uv.insert(in.w_uv.end(), middle, middle + static_cast<std::ptrdiff_t>(v * rank));
  }
  s.heads.queries = s.heads.keys = n;
  return in;
}

inline std::vector<double> mla(const std::vector<double>& x, const mla_weights& w, mla_shape s,
                               const visible_pair& visible) {
  const latent_inputs in = mla_latents(x, w, s);
  const auto o = latent_attention(in, s.heads, visible).out;
  return linear(o, w.wo, {}, {x.size() / s.dim, s.heads.heads * s.heads.value_dim, s.dim});
}

}  // namespace oracle
