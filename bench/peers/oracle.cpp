// SPDX-License-Identifier: Apache-2.0
#include "oracle.hpp"

#include <algorithm>
#include <limits>
#include <vector>

namespace peers {
namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();
using numbers = std::vector<double>;

double apart(const float* got, const numbers& want) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double d = double{got[i]} - want[i];
    if (!std::isfinite(d)) return infinite;
    difference += d * d;
    size += want[i] * want[i];
  }
  return size > 0 ? std::sqrt(difference / size) : infinite;
}

// row(i) computes row i of what is wanted.
template <class Row>
double worst_row(index_t rows, const float* got, const Row& row) {
  double worst = 0;
  for (const index_t i : {index_t{0}, rows / 2, rows - 1}) {
    const numbers want = row(i);
    worst = std::max(worst, apart(got + i * static_cast<index_t>(want.size()), want));
  }
  return worst;
}

template <class X>
double dot(const X* a, const float* b, index_t k) {
  double sum = 0;
  for (index_t i = 0; i < k; ++i) sum += static_cast<double>(a[i]) * double{b[i]};
  return sum;
}

template <class X>
numbers through(const X* x, const float* w, index_t n, index_t k) {
  numbers y(static_cast<std::size_t>(n));
  for (index_t j = 0; j < n; ++j) y[static_cast<std::size_t>(j)] = dot(x, w + j * k, k);
  return y;
}

numbers softmax_of(numbers s) {
  const double largest = *std::max_element(s.begin(), s.end());
  double sum = 0;
  for (double& p : s) sum += p = std::exp(p - largest);
  for (double& p : s) p /= sum;
  return s;
}

numbers as_numbers(const float* x, index_t count) {
  return {x, x + count};
}

// Of terms float additions, whatever their order.
double of_sums(index_t terms) {
  return 4 * std::sqrt(static_cast<double>(terms)) * double{std::numeric_limits<float>::epsilon()};
}

// What one rounding of uniform weights, activations and results to the type leaves of a row's
// length, twice over: bf16 2^-9, f16 2^-12, int8 0.4 % each of two, int4 in groups of 32 7 %.
double of_rounding(element e) {
  switch (e) {
    case element::f32:
      return 0;
    case element::bf16:
      return 0x1p-7;
    case element::f16:
      return 0x1p-10;
    case element::int8:
      return 0.015;
    case element::int4:
      return 0.15;
  }
  return 0;
}

}  // namespace

double error_of(const linear_task& t, const float* got) {
  return worst_row(t.m, got, [&](index_t i) { return through(t.x + i * t.k, t.w, t.n, t.k); });
}

double error_of(const product_task& t, const float* got) {
  return worst_row(t.m, got, [&](index_t i) {
    numbers c(static_cast<std::size_t>(t.n));
    for (index_t l = 0; l < t.k; ++l) {
      const double a = double{t.a_turned ? t.a[l * t.m + i] : t.a[i * t.k + l]};
      for (index_t j = 0; j < t.n; ++j) {
        c[static_cast<std::size_t>(j)] +=
            a * double{t.b_turned ? t.b[j * t.k + l] : t.b[l * t.n + j]};
      }
    }
    return c;
  });
}

double error_of(const decode_task& t, const float* got) {
  const index_t shared = t.heads / t.kv_heads, k_row = t.kv_heads * t.dim;
  const index_t v_row = t.latent ? k_row : t.kv_heads * t.value_dim;
  const index_t v_head = t.latent ? t.dim : t.value_dim;
  const float* const v = t.latent ? t.k : t.v;
  return worst_row(t.heads, got, [&](index_t h) {
    const index_t kv = h / shared;
    numbers s(static_cast<std::size_t>(t.keys)), o(static_cast<std::size_t>(t.value_dim));
    for (index_t j = 0; j < t.keys; ++j) {
      s[static_cast<std::size_t>(j)] = dot(t.q + h * t.dim, t.k + j * k_row + kv * t.dim, t.dim) /
                                       std::sqrt(static_cast<double>(t.dim));
    }
    const numbers p = softmax_of(std::move(s));
    for (index_t j = 0; j < t.keys; ++j) {
      for (index_t d = 0; d < t.value_dim; ++d) {
        o[static_cast<std::size_t>(d)] +=
            p[static_cast<std::size_t>(j)] * double{v[j * v_row + kv * v_head + d]};
      }
    }
    return o;
  });
}

double error_of(const attention_task& t, const float* got) {
  const index_t row = t.heads * t.dim;
  return worst_row(t.tokens, got, [&](index_t i) {
    numbers o(static_cast<std::size_t>(row));
    const index_t keys = t.causal ? i + 1 : t.tokens;
    for (index_t h = 0; h < t.heads; ++h) {
      const float* const q = t.q + i * row + h * t.dim;
      numbers s(static_cast<std::size_t>(keys));
      for (index_t j = 0; j < keys; ++j) {
        s[static_cast<std::size_t>(j)] =
            dot(q, t.k + j * row + h * t.dim, t.dim) / std::sqrt(static_cast<double>(t.dim));
      }
      const numbers p = softmax_of(std::move(s));
      for (index_t j = 0; j < keys; ++j) {
        for (index_t d = 0; d < t.dim; ++d) {
          o[static_cast<std::size_t>(h * t.dim + d)] +=
              p[static_cast<std::size_t>(j)] * double{t.v[j * row + h * t.dim + d]};
        }
      }
    }
    return o;
  });
}

double error_of(const experts_task& t, const float* got) {
  using part = experts_task::part;
  return worst_row(t.tokens, got, [&](index_t i) {
    numbers y(static_cast<std::size_t>(t.dim));
    for (index_t a = 0; a < t.active; ++a) {
      const index_t e = t.routing(0)[i * t.active + a];
      numbers h = through(t.x + i * t.dim, t.matrix(part::w1, e), t.hidden, t.dim);
      const numbers up = through(t.x + i * t.dim, t.matrix(part::w3, e), t.hidden, t.dim);
      for (std::size_t j = 0; j < h.size(); ++j) h[j] *= up[j] / (1 + std::exp(-h[j]));
      const numbers down = through(h.data(), t.matrix(part::w2, e), t.dim, t.hidden);
      for (std::size_t j = 0; j < y.size(); ++j)
        y[j] += double{t.weights[i * t.active + a]} * down[j];
    }
    return y;
  });
}

double error_of(const rows_task& t, const float* got) {
  return worst_row(t.rows, got, [&](index_t i) {
    numbers x = as_numbers(t.x + i * t.dim, t.dim);
    if (t.op == rows_task::softmax) return softmax_of(std::move(x));
    double squares = 0;
    for (const double v : x) squares += v * v;
    const double r = 1 / std::sqrt(squares / static_cast<double>(t.dim) + double{rms_norm_eps});
    for (std::size_t j = 0; j < x.size(); ++j) x[j] *= r * double{t.weight[j]};
    return x;
  });
}

double error_of(const gate_task& t, const float* got) {
  return worst_row(t.tokens, got, [&](index_t i) {
    numbers s = softmax_of(as_numbers(t.logits + i * t.experts, t.experts));
    std::sort(s.begin(), s.end(), std::greater<>());
    s.resize(static_cast<std::size_t>(t.active));
    return s;
  });
}

double allowed(const linear_task& t) {
  return of_sums(t.k) + of_rounding(t.type);
}
double allowed(const product_task& t) {
  return of_sums(t.k);
}
double allowed(const decode_task& t) {
  return of_sums(t.keys) + 4 * of_rounding(t.type);
}
double allowed(const attention_task& t) {
  return of_sums(t.tokens) + 4 * of_rounding(t.type);  // of keys, scores, values and results
}
double allowed(const experts_task& t) {
  return of_sums(t.dim) + 2 * of_rounding(t.type);  // three products in two steps
}
double allowed(const rows_task& t) {
  return of_sums(t.dim);
}
double allowed(const gate_task& t) {
  return of_sums(t.experts);
}

}  // namespace peers
