// SPDX-License-Identifier: Apache-2.0
// run_op: optimizers. p [n] moves by the gradients g [steps, n], one row a step; the state starts
// at zero.
#include "run_op/op_rows.hpp"

#include <cmath>

namespace run_op {
namespace {

// What is left of the state's zero start after t steps.
double correction(double beta, index_t t) {
  return 1 - std::pow(beta, static_cast<double>(t));
}

struct adamw {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    auto p = in.read<T, 1>("p");
    const auto g = in.read<T, 2>("g");
    auto m = like(p), v = like(p);
    ds::adamw_step s{.lr = in.number("lr"),
                     .beta1 = in.number("beta1"),
                     .beta2 = in.number("beta2"),
                     .eps = in.number("eps"),
                     .weight_decay = in.number("wd")};
    for (index_t t = 0; t < g.extent(0); ++t) {
      s.bias_correction1 = correction(s.beta1, t + 1);
      s.bias_correction2 = correction(s.beta2, t + 1);
      ds::ops::adamw_update(b, p, ds::slice(g.view(), t), ds::moments{m, v}, s);
    }
    out.add("out", p);
  }
};

struct lion {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    auto p = in.read<T, 1>("p");
    const auto g = in.read<T, 2>("g");
    auto m = like(p);
    in.number("eps", 0);  // in the table for adamw's sake
    const ds::lion_step s{.lr = in.number("lr"),
                          .beta1 = in.number("beta1"),
                          .beta2 = in.number("beta2"),
                          .weight_decay = in.number("wd")};
    for (index_t t = 0; t < g.extent(0); ++t) {
      ds::ops::lion_update(b, p, ds::slice(g.view(), t), m, s);
    }
    out.add("out", p);
  }
};

struct sgd {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    auto p = in.read<T, 1>("p");
    const auto g = in.read<T, 2>("g");
    auto buffer = like(p);
    const ds::sgd_step s{.lr = in.number("lr"),
                         .momentum = in.number("momentum"),
                         .weight_decay = in.number("wd"),
                         .how = in.flag("nesterov", false) ? ds::sgd_momentum::nesterov
                                                           : ds::sgd_momentum::heavy_ball};
    for (index_t t = 0; t < g.extent(0); ++t) {
      ds::ops::sgd_update(b, p, ds::slice(g.view(), t), buffer, s);
    }
    out.add("out", p);
  }
};

struct amf {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    auto p = in.read<T, 1>("p");
    const auto g = in.read<T, 2>("g");
    auto m = like(p), v = like(p), buffer = like(p);
    const std::string form = in.word("form", "corrected");
    ds::require(form == "corrected" || form == "printed", error_code::config, "amf: form is ",
                ds::escaped(form), "; write corrected or printed");
    const bool mended = form == "corrected";
    const double decay = in.number("wd", 0);
    ds::amf_step s{.lr = in.number("lr"),
                   .beta1 = in.number("beta1"),
                   .beta2 = in.number("beta2"),
                   .momentum = in.number("momentum"),
                   .eps = in.number("eps"),
                   .weight_decay = mended ? decay : 0,
                   .form = mended ? ds::amf_form::corrected : ds::amf_form::printed};
    for (index_t t = 0; t < g.extent(0); ++t) {
      s.bias_correction1 = mended ? correction(s.beta1, t + 1) : 1;
      s.bias_correction2 = mended ? correction(s.beta2, t + 1) : 1;
      ds::ops::amf_update(b, p, ds::slice(g.view(), t), ds::amf_moments{m, v, buffer}, s);
    }
    out.add("out", p);
  }
};

}  // namespace

std::span<const op_row> optimizer_rows() {
  static constexpr op_row rows[] = {row_of<adamw>("adamw"), row_of<lion>("lion"),
                                    row_of<sgd>("sgd"), row_of<amf>("amf")};
  return rows;
}

}  // namespace run_op
