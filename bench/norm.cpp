// SPDX-License-Identifier: Apache-2.0
// rms_norm and layer_norm, forward and backward.
#include "deepseek/ops/layer_norm.hpp"
#include "deepseek/ops/rms_norm.hpp"

#include "deepseek/backend/cpu/layer_norm.hpp"
#include "deepseek/backend/cpu/rms_norm.hpp"

#include "peers.hpp"
#include "shapes.hpp"
#include "support/op_case.hpp"

namespace bench {
namespace {

constexpr double eps = 1e-6;

struct norm_data {
  rows_size s;
  matrix x, y, dy;
  vec w, bias, dw, dbias;

  explicit norm_data(const rows_size& size)
      : s(size),
        x(filled<matrix>({s.rows, s.dim}, 1)),
        y({s.rows, s.dim}),
        dy(filled<matrix>({s.rows, s.dim}, 2)),
        w(filled<vec>({s.dim}, 3)),
        bias(filled<vec>({s.dim}, 4)),
        dw({s.dim}),
        dbias({s.dim}) {}
  work per_element(double flops, double moved) const {
    const double elements = static_cast<double>(s.rows * s.dim);
    return {flops * elements, 4 * moved * elements};
  }
  double dim() const { return static_cast<double>(s.dim); }
};

struct rms_norm_case : norm_data {
  static constexpr const char* op = "rms_norm";
  using norm_data::norm_data;
  template <class B>
  void run(const B& b) {
    ds::ops::rms_norm(b, x, w, y, eps);
  }
  work cost() const { return per_element(4, 2); }
  std::vector<output> outputs() const { return {out(y, dim())}; }
};

struct rms_norm_backward_case : norm_data {
  static constexpr const char* op = "rms_norm_backward";
  using norm_data::norm_data;
  template <class B>
  void run(const B& b) {
    ds::ops::rms_norm_backward(b, ds::rms_norm_inputs{x, w}, dy, ds::rms_norm_gradients{y, dw},
                               eps);
  }
  work cost() const { return per_element(11, 3); }
  std::vector<output> outputs() const {
    return {out(y, dim()), out(dw, static_cast<double>(s.rows))};
  }
};

struct layer_norm_case : norm_data {
  static constexpr const char* op = "layer_norm";
  using norm_data::norm_data;
  template <class B>
  void run(const B& b) {
    ds::ops::layer_norm(b, x, ds::layer_norm_affine{w, bias}, y, eps);
  }
  work cost() const { return per_element(7, 2); }
  std::vector<output> outputs() const { return {out(y, dim())}; }
};

struct layer_norm_backward_case : norm_data {
  static constexpr const char* op = "layer_norm_backward";
  using norm_data::norm_data;
  template <class B>
  void run(const B& b) {
    ds::ops::layer_norm_backward(b, ds::layer_norm_inputs{x, w}, dy,
                                 ds::layer_norm_gradients{y, dw, dbias}, eps);
  }
  work cost() const { return per_element(16, 3); }
  std::vector<output> outputs() const {
    const double count = static_cast<double>(s.rows);
    return {out(y, dim()), out(dw, count), out(dbias, count)};
  }
};

using eigen_row = Eigen::Map<const Eigen::Array<float, 1, Eigen::Dynamic>>;

void eigen_rms_norm(rms_norm_case& c) {
  const eigen_row w(c.w.data(), c.s.dim);
  for (index_t i = 0; i < c.s.rows; ++i) {
    const auto x = as_array(c.x).row(i);
    as_array(c.y).row(i) = x * w / std::sqrt(x.square().mean() + static_cast<float>(eps));
  }
}

void eigen_layer_norm(layer_norm_case& c) {
  const eigen_row w(c.w.data(), c.s.dim), bias(c.bias.data(), c.s.dim);
  for (index_t i = 0; i < c.s.rows; ++i) {
    const auto x = as_array(c.x).row(i);
    const float mean = x.mean();
    const float r = 1 / std::sqrt((x - mean).square().mean() + static_cast<float>(eps));
    as_array(c.y).row(i) = (x - mean) * r * w + bias;
  }
}

}  // namespace

void add_cases() {
  for (const rows_size& s : rows_sizes) {
    add_both<rms_norm_case>(s.name, s);
    add_peer<rms_norm_case>({"rms_norm", "eigen", "array", s.name}, eigen_rms_norm, s);
    add_both<rms_norm_backward_case>(s.name, s);
    add_both<layer_norm_case>(s.name, s);
    add_peer<layer_norm_case>({"layer_norm", "eigen", "array", s.name}, eigen_layer_norm, s);
    add_both<layer_norm_backward_case>(s.name, s);
  }
}

}  // namespace bench
