// SPDX-License-Identifier: Apache-2.0
// One step of each optimizer on one tensor, and the sum of squares that clipping needs.
#include "deepseek/ops/optimizer.hpp"
#include "deepseek/ops/sum_of_squares.hpp"

#include "deepseek/backend/cpu/optimizer.hpp"
#include "deepseek/backend/cpu/sum_of_squares.hpp"

#include "peers.hpp"
#include "shapes.hpp"
#include "support/op_case.hpp"

namespace bench {
namespace {

constexpr ds::adamw_step adamw{
    .lr = 1e-3, .weight_decay = 0.1, .bias_correction1 = 0.1, .bias_correction2 = 0.05};

struct step_data {
  matrix p, g, m, v, buffer;

  explicit step_data(const rows_size& s)
      : p(filled<matrix>({s.rows, s.dim}, 1)),
        g(filled<matrix>({s.rows, s.dim}, 2)),
        m({s.rows, s.dim}),
        v({s.rows, s.dim}),
        buffer({s.rows, s.dim}) {}
  work per_element(double flops, double moved) const {
    const double elements = static_cast<double>(p.size());
    return {flops * elements, 4 * moved * elements};
  }
};

struct adamw_case : step_data {
  static constexpr const char* op = "adamw_update";
  using step_data::step_data;
  template <class B>
  void run(const B& b) {
    ds::ops::adamw_update(b, p, g, ds::moments{m, v}, adamw);
  }
  work cost() const { return per_element(16, 7); }
  std::vector<output> outputs() const { return {out(p), out(m), out(v)}; }
};

struct sgd_case : step_data {
  static constexpr const char* op = "sgd_update";
  using step_data::step_data;
  template <class B>
  void run(const B& b) {
    ds::ops::sgd_update(b, p, g, buffer, ds::sgd_step{});
  }
  work cost() const { return per_element(6, 5); }
  std::vector<output> outputs() const { return {out(p), out(buffer)}; }
};

struct lion_case : step_data {
  static constexpr const char* op = "lion_update";
  using step_data::step_data;
  template <class B>
  void run(const B& b) {
    ds::ops::lion_update(b, p, g, m, ds::lion_step{});
  }
  work cost() const { return per_element(9, 5); }
  std::vector<output> outputs() const { return {out(p), out(m)}; }
};

struct amf_case : step_data {
  static constexpr const char* op = "amf_update";
  using step_data::step_data;
  template <class B>
  void run(const B& b) {
    ds::ops::amf_update(b, p, g, ds::amf_moments{m, v, buffer}, ds::amf_step{});
  }
  work cost() const { return per_element(16, 9); }
  std::vector<output> outputs() const { return {out(p), out(m), out(v), out(buffer)}; }
};

struct squares_case : step_data {
  static constexpr const char* op = "sum_of_squares";
  vec sum;

  explicit squares_case(const rows_size& s) : step_data(s), sum({1}) {}
  template <class B>
  void run(const B& b) {
    *sum.data() = static_cast<float>(ds::ops::sum_of_squares(b, g));
  }
  work cost() const {
    work cost = per_element(2, 1);
    cost.moves = traffic::reads;
    return cost;
  }
  std::vector<output> outputs() const { return {out(sum)}; }
};

void eigen_adamw(adamw_case& c) {
  const auto f = [](double x) { return static_cast<float>(x); };
  auto p = as_array(c.p), g = as_array(c.g), m = as_array(c.m), v = as_array(c.v);
  m = f(adamw.beta1) * m + f(1 - adamw.beta1) * g;
  v = f(adamw.beta2) * v + f(1 - adamw.beta2) * g.square();
  p = p * f(1 - adamw.lr * adamw.weight_decay) -
      f(adamw.lr / adamw.bias_correction1) * m /
          ((v * f(1 / adamw.bias_correction2)).sqrt() + f(adamw.eps));
}

}  // namespace

void add_cases() {
  add_both<adamw_case>(large_rows.name, large_rows);
  add_peer<adamw_case>({"adamw_update", "eigen", "array", large_rows.name}, eigen_adamw,
                       large_rows);
  add_both<sgd_case>(large_rows.name, large_rows);
  add_both<lion_case>(large_rows.name, large_rows);
  add_both<amf_case>(large_rows.name, large_rows);
  add_both<squares_case>(large_rows.name, large_rows);
}

}  // namespace bench
