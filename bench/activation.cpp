// SPDX-License-Identifier: Apache-2.0
// silu, gelu, relu and swiglu, forward and backward.
#include "deepseek/ops/activation.hpp"
#include "deepseek/ops/swiglu.hpp"

#include "deepseek/backend/cpu/activation.hpp"
#include "deepseek/backend/reference/swiglu.hpp"

#include "peers.hpp"
#include "shapes.hpp"
#include "support/op_case.hpp"

namespace bench {
namespace {

struct activation_data {
  rows_size s;
  matrix x, up, dy, y, dup;

  explicit activation_data(const rows_size& size)
      : s(size),
        x(filled<matrix>({s.rows, s.dim}, 1, {-4, 4})),
        up(filled<matrix>({s.rows, s.dim}, 2)),
        dy(filled<matrix>({s.rows, s.dim}, 3)),
        y({s.rows, s.dim}),
        dup({s.rows, s.dim}) {}
  work per_element(double flops, double moved) const {
    const double elements = static_cast<double>(s.rows * s.dim);
    return {flops * elements, 4 * moved * elements};
  }
  std::vector<output> outputs() const { return {out(y)}; }
};

template <class Kind>
struct activation_case : activation_data {
  static constexpr const char* op = Kind::name.data();
  using activation_data::activation_data;
  template <class B>
  void run(const B& b) {
    ds::activation_op<Kind>{}(b, x, y);
  }
  work cost() const { return per_element(10, 2); }
};

template <class Kind>
struct activation_backward_case : activation_data {
  static constexpr const char* op = Kind::backward_name.data();
  using activation_data::activation_data;
  template <class B>
  void run(const B& b) {
    ds::activation_backward_op<Kind>{}(b, x, dy, y);
  }
  work cost() const { return per_element(14, 3); }
};

struct swiglu_case : activation_data {
  static constexpr const char* op = "swiglu";
  using activation_data::activation_data;
  template <class B>
  void run(const B& b) {
    ds::ops::swiglu(b, x, up, y);
  }
  work cost() const { return per_element(11, 3); }
};

struct swiglu_backward_case : activation_data {
  static constexpr const char* op = "swiglu_backward";
  using activation_data::activation_data;
  template <class B>
  void run(const B& b) {
    ds::ops::swiglu_backward(b, ds::swiglu_inputs{x, up}, dy, ds::swiglu_gradients{y, dup});
  }
  work cost() const { return per_element(18, 5); }
  std::vector<output> outputs() const { return {out(y), out(dup)}; }
};

void eigen_silu(activation_case<ds::silu_kind>& c) {
  as_array(c.y) = as_array(c.x) / (1 + (-as_array(c.x)).exp());
}
void eigen_relu(activation_case<ds::relu_kind>& c) {
  as_array(c.y) = as_array(c.x).max(0.0F);
}
void eigen_swiglu(swiglu_case& c) {
  as_array(c.y) = as_array(c.x) / (1 + (-as_array(c.x)).exp()) * as_array(c.up);
}

template <class Kind>
void add_kind(const rows_size& s) {
  add_both<activation_case<Kind>>(s.name, s);
  if (s.rows == large_rows.rows) add_both<activation_backward_case<Kind>>(s.name, s);
}

}  // namespace

void add_cases() {
  for (const rows_size& s : rows_sizes) {
    add_kind<ds::silu_kind>(s);
    add_kind<ds::gelu_kind>(s);
    add_kind<ds::relu_kind>(s);
    add_both<swiglu_case>(s.name, s);
    add_both<swiglu_backward_case>(s.name, s);
    add_peer<activation_case<ds::silu_kind>>({"silu", "eigen", "array", s.name}, eigen_silu, s);
    add_peer<activation_case<ds::relu_kind>>({"relu", "eigen", "array", s.name}, eigen_relu, s);
    add_peer<swiglu_case>({"swiglu", "eigen", "array", s.name}, eigen_swiglu, s);
  }
}

}  // namespace bench
