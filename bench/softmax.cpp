// SPDX-License-Identifier: Apache-2.0
// softmax of rows, forward and backward.
#include "deepseek/ops/softmax.hpp"

#include "deepseek/backend/cpu/softmax.hpp"

#include "peers.hpp"
#include "shapes.hpp"
#include "support/op_case.hpp"

namespace bench {
namespace {

struct softmax_case {
  static constexpr const char* op = "softmax";
  rows_size s;
  matrix x, y;

  explicit softmax_case(const rows_size& size)
      : s(size), x(filled<matrix>({s.rows, s.dim}, 1, {-4, 4})), y({s.rows, s.dim}) {}
  template <class B>
  void run(const B& b) {
    ds::ops::softmax(b, x, y);
  }
  double elements() const { return static_cast<double>(s.rows * s.dim); }
  work cost() const { return {12 * elements(), 8 * elements()}; }
  std::vector<output> outputs() const { return {out(y, static_cast<double>(s.dim))}; }
};

struct softmax_backward_case : softmax_case {
  static constexpr const char* op = "softmax_backward";
  matrix dy;

  explicit softmax_backward_case(const rows_size& size)
      : softmax_case(size), dy(filled<matrix>({s.rows, s.dim}, 2)) {
    ds::ops::softmax(ds::reference(), x, x);
  }
  template <class B>
  void run(const B& b) {
    ds::ops::softmax_backward(b, x, dy, y);
  }
  work cost() const { return {4 * elements(), 12 * elements()}; }
};

void eigen_softmax(softmax_case& c) {
  for (index_t i = 0; i < c.s.rows; ++i) {
    const auto x = as_array(c.x).row(i);
    auto map = as_array(c.y);
    auto y = map.row(i);
    y = (x - x.maxCoeff()).exp();
    y *= 1 / y.sum();
  }
}

}  // namespace

void add_cases() {
  for (const rows_size& s : rows_sizes) {
    add_both<softmax_case>(s.name, s);
    add_peer<softmax_case>({"softmax", "eigen", "array", s.name}, eigen_softmax, s);
    add_both<softmax_backward_case>(s.name, s);
  }
}

}  // namespace bench
