// SPDX-License-Identifier: Apache-2.0
// Eigen, compiled with the flags of our own code and with OpenMP, which its products use. Attention
// keeps the scores of one head; experts are a loop over products; row-wise ops are expressions.
#include "module.hpp"

#include <omp.h>
#include <Eigen/Core>

#include <algorithm>
#include <memory>
#include <numeric>

namespace peers {
namespace {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using array = Eigen::Array<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using seen = Eigen::Map<const matrix, 0, Eigen::OuterStride<>>;
using written = Eigen::Map<matrix, 0, Eigen::OuterStride<>>;

seen rows_at(const float* p, index_t rows, index_t columns, index_t stride) {
  return {p, rows, columns, Eigen::OuterStride<>(stride)};
}

struct linear {
  linear_task t;
  int threads;
  std::vector<float> weights;
  matrix y;

  linear(const linear_task& task, int n)
      : t(task), threads(n), weights(repeated(t.w, t.n * t.k, t.copies())), y(t.m, t.n) {}
  void run(index_t call) {
    Eigen::setNbThreads(threads);
    y.noalias() = rows_at(t.x, t.m, t.k, t.k) *
                  rows_at(copy_of(weights, t.n * t.k, call), t.n, t.k, t.k).transpose();
  }
  const float* result() { return y.data(); }
};

struct product {
  product_task t;
  int threads;
  matrix y;

  product(const product_task& task, int n) : t(task), threads(n), y(t.m, t.n) {}
  void run(index_t) {
    Eigen::setNbThreads(threads);
    const seen a = t.a_turned ? rows_at(t.a, t.k, t.m, t.m) : rows_at(t.a, t.m, t.k, t.k);
    const seen b = t.b_turned ? rows_at(t.b, t.n, t.k, t.k) : rows_at(t.b, t.k, t.n, t.n);
    if (t.a_turned) {
      y.noalias() = a.transpose() * b;
    } else if (t.b_turned) {
      y.noalias() = a * b.transpose();
    } else {
      y.noalias() = a * b;
    }
  }
  const float* result() { return y.data(); }
};

struct attention {
  attention_task t;
  int threads;
  std::vector<float> o;

  attention(const attention_task& task, int n)
      : t(task), threads(n), o(static_cast<std::size_t>(t.tokens * t.heads * t.dim)) {}
  void run(index_t) {
    Eigen::setNbThreads(1);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (index_t head = 0; head < t.heads; ++head) run_head(head);
  }
  void run_head(index_t head) {
    const index_t stride = t.heads * t.dim, at = head * t.dim;
    matrix scores(t.tokens, t.tokens);
    scores.noalias() = rows_at(t.q + at, t.tokens, t.dim, stride) *
                       rows_at(t.k + at, t.tokens, t.dim, stride).transpose();
    const float scale = 1 / std::sqrt(static_cast<float>(t.dim));
    for (index_t i = 0; i < t.tokens; ++i) {
      const index_t keys = t.causal ? i + 1 : t.tokens;
      auto s = scores.row(i).head(keys).array();
      s = ((s - s.maxCoeff()) * scale).exp();
      s *= 1 / s.sum();
      scores.row(i).tail(t.tokens - keys).setZero();
    }
    written(o.data() + at, t.tokens, t.dim, Eigen::OuterStride<>(stride)).noalias() =
        scores * rows_at(t.v + at, t.tokens, t.dim, stride);
  }
  const float* result() {
    return o.data();
  }
};

struct expert_loop {
  experts_task t;
  int threads;
  matrix y, x, gate, up, down;
  std::vector<std::vector<index_t>> tokens_of;

  expert_loop(const experts_task& task, int n)
      : t(task), threads(n), y(t.tokens, t.dim), tokens_of(static_cast<std::size_t>(t.experts)) {}
  void run(index_t call) {
    Eigen::setNbThreads(threads);
    y.setZero();
    for (auto& tokens : tokens_of) tokens.clear();
    const std::int32_t* const ids = t.routing(call);
    for (index_t i = 0; i < t.tokens * t.active; ++i) {
      tokens_of[static_cast<std::size_t>(ids[i])].push_back(i);
    }
    for (index_t e = 0; e < t.experts; ++e) {
      if (!tokens_of[static_cast<std::size_t>(e)].empty()) run_expert(e);
    }
  }
  seen weights(experts_task::part p, index_t e) const {
    return rows_at(t.stacked(p) + e * t.out(p) * t.in(p), t.out(p), t.in(p), t.in(p));
  }
  void run_expert(index_t e) {
    const auto& tokens = tokens_of[static_cast<std::size_t>(e)];
    const auto count = static_cast<index_t>(tokens.size());
    x.resize(count, t.dim);
    for (index_t i = 0; i < count; ++i) {
      x.row(i) =
          rows_at(t.x, t.tokens, t.dim, t.dim).row(tokens[static_cast<std::size_t>(i)] / t.active);
    }
    gate.noalias() = x * weights(experts_task::w1, e).transpose();
    up.noalias() = x * weights(experts_task::w3, e).transpose();
    gate.array() = gate.array() / (1 + (-gate.array()).exp()) * up.array();
    down.noalias() = gate * weights(experts_task::w2, e).transpose();
    for (index_t i = 0; i < count; ++i) {
      const index_t at = tokens[static_cast<std::size_t>(i)];
      y.row(at / t.active) += t.weights[at] * down.row(i);
    }
  }
  const float* result() { return y.data(); }
};

struct row_wise {
  rows_task t;
  int threads;
  array y;

  row_wise(const rows_task& task, int n) : t(task), threads(n), y(t.rows, t.dim) {}
  void run(index_t) {
    const Eigen::Map<const array> x(t.x, t.rows, t.dim);
    const Eigen::Map<const Eigen::Array<float, 1, Eigen::Dynamic>> w(t.weight, t.dim);
#pragma omp parallel for num_threads(threads)
    for (index_t i = 0; i < t.rows; ++i) {
      if (t.op == rows_task::softmax) {
        y.row(i) = (x.row(i) - x.row(i).maxCoeff()).exp();
        y.row(i) *= 1 / y.row(i).sum();
      } else {
        y.row(i) = x.row(i) * w / std::sqrt(x.row(i).square().mean() + rms_norm_eps);
      }
    }
  }
  const float* result() {
    return y.data();
  }
};

struct gate {
  gate_task t;
  int threads;
  array chosen;
  std::vector<int> ids;

  gate(const gate_task& task, int n)
      : t(task),
        threads(n),
        chosen(t.tokens, t.active),
        ids(static_cast<std::size_t>(t.tokens * t.active)) {}
  void run(index_t) {
    const Eigen::Map<const array> logits(t.logits, t.tokens, t.experts);
#pragma omp parallel num_threads(threads)
    {
      Eigen::Array<float, 1, Eigen::Dynamic> s(t.experts);
      std::vector<int> order(static_cast<std::size_t>(t.experts));
#pragma omp for
      for (index_t i = 0; i < t.tokens; ++i) {
        s = (logits.row(i) - logits.row(i).maxCoeff()).exp();
        s *= 1 / s.sum();
        std::iota(order.begin(), order.end(), 0);
        std::partial_sort(order.begin(), order.begin() + t.active, order.end(),
                          [&](int a, int b) { return s[a] > s[b]; });
        for (index_t j = 0; j < t.active; ++j) {
          const int e = order[static_cast<std::size_t>(j)];
          chosen(i, j) = s[e];
          ids[static_cast<std::size_t>(i * t.active + j)] = e;
        }
      }
    }
  }
  const float* result() {
    return chosen.data();
  }
};

class eigen_library : public library {
 public:
  std::string name() const override { return "Eigen"; }
  std::string version() const override {
    return std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
           std::to_string(EIGEN_MINOR_VERSION);
  }
  ways offer(const linear_task& t, int n) override {
    if (t.type != element::f32) return {};
    return {way_of<linear>("product", t, n)};
  }
  ways offer(const product_task& t, int n) override { return {way_of<product>("product", t, n)}; }
  ways offer(const attention_task& t, int n) override {
    if (t.type != element::f32) return {};
    return {way_of<attention>("rows of scores", t, n)};
  }
  ways offer(const experts_task& t, int n) override {
    if (t.type != element::f32) return {};
    return {way_of<expert_loop>("loop of products", t, n)};
  }
  ways offer(const rows_task& t, int n) override { return {way_of<row_wise>("rows", t, n)}; }
  ways offer(const gate_task& t, int n) override { return {way_of<gate>("partial_sort", t, n)}; }
};

}  // namespace
}  // namespace peers

DEEPSEEK_PEER(peers::eigen_library)
