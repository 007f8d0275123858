// SPDX-License-Identifier: Apache-2.0
// What a row of the bench asks of every library: sizes, inputs in float, and what is computed.
// Inputs of a narrow row are floats that its type holds exactly. Weights are cold: a library
// prepares as many copies of them as fill `pool` bytes, and call number c uses copy c modulo their
// number.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace peers {

using index_t = std::ptrdiff_t;

// How weights (of attention: keys and values) are stored. int8 has at least one scale a row, int4
// one for each 32 neighbours; with both, activations become bytes inside the call if at all.
enum class element { f32, bf16, f16, int8, int4 };

constexpr double bytes_of(element e) {
  switch (e) {
    case element::f32:
      return 4;
    case element::bf16:
    case element::f16:
      return 2;
    case element::int8:
      return 1;
    case element::int4:
      return 0.5 + 2.0 / 32;
  }
  return 0;
}

// y [m, n] = x [m, k] w [n, k]^T, w prepared before the clock starts
struct linear_task {
  element type;
  index_t m, n, k;
  const float* x;
  const float* w;
  double pool;

  index_t copies() const {
    return static_cast<index_t>(std::ceil(pool / (bytes_of(type) * static_cast<double>(n * k))));
  }
};

// c [m, n] = a [m, k] b [k, n] in float, nothing prepared: a product of training. a_turned: a lies
// as [k, m]; b_turned: b lies as [n, k].
struct product_task {
  index_t m, n, k;
  bool a_turned, b_turned;
  const float* a;
  const float* b;
};

// o [tokens, heads, dim] of one sequence, q, k, v [tokens, heads, dim], scale 1 / sqrt(dim)
struct attention_task {
  element type;
  index_t tokens, heads, dim;
  bool causal;
  const float* q;
  const float* k;
  const float* v;
};

// o [1, heads, value_dim]: one query of a decoding step, q [heads, dim], against all of
// k [keys, kv_heads, dim] and v [keys, kv_heads, value_dim], or where `latent` the first value_dim
// columns of k; scale 1 / sqrt(dim). Call c uses copy c modulo `copies` of k and v, as the layers
// of a model do.
struct decode_task {
  element type;
  index_t keys, heads, kv_heads, dim, value_dim;
  bool latent;
  index_t copies;
  const float* q;
  const float* k;
  const float* v;

  index_t k_size() const { return keys * kv_heads * dim; }
  index_t v_size() const { return latent ? 0 : keys * kv_heads * value_dim; }
};

// y [tokens, dim] = sum over the active experts e of a token of weight (silu(x w1_e^T) * x w3_e^T)
// w2_e^T; w1, w3 [experts, hidden, dim], w2 [experts, dim, hidden]. Call c uses routing c modulo
// `routings`.
struct experts_task {
  element type;
  index_t experts, active, dim, hidden, tokens, routings;
  const float* x;           // [tokens, dim]
  const std::int32_t* ids;  // [routings, tokens, active]
  const float* weights;     // [tokens, active]

  enum part { w1, w3, w2 };
  std::function<const float*(part, index_t expert)> matrix;
  std::function<const float*(part)> stacked;  // all experts in order, made when first asked for

  index_t out(part p) const { return p == w2 ? dim : hidden; }
  index_t in(part p) const { return p == w2 ? hidden : dim; }
  const std::int32_t* routing(index_t call) const {
    return ids + call % routings * tokens * active;
  }
};

// y [rows, dim] of x, each row alone; rms_norm has weight [dim] and eps 1e-6
struct rows_task {
  enum kind { softmax, rms_norm } op;
  index_t rows, dim;
  const float* x;
  const float* weight;
};
inline constexpr float rms_norm_eps = 1e-6F;

// The `active` largest of softmax(logits [tokens, experts]) and their experts. The result is
// [tokens, active], largest first.
struct gate_task {
  index_t tokens, experts, active;
  const float* logits;
};

}  // namespace peers
