// SPDX-License-Identifier: Apache-2.0
// Rows of run_op: products with weights in int8 channels, symmetric 4-bit groups and mxfp4, scaled
// columns, and rounding to a grid with its gradient straight through. The weights of a case are
// plain; they become codes as quantize makes them.
#include "run_op/coded_products.hpp"

#include "deepseek/ops/fake_quantize.hpp"
#include "deepseek/ops/scale_columns.hpp"
#include "deepseek/ops/weight_gemm.hpp"

namespace run_op {
namespace {

struct int8_codes {
  array<std::int8_t, 3> q;
  array<float, 2> scale;

  template <class W>  // [experts, N, K]
  int8_codes(op_case&, const W& w)
      : q({w.extent(0), w.extent(1), w.extent(2)}), scale({w.extent(0), w.extent(1)}) {
    using A = ds::accumulate_t<typename W::value_type>;
    for (index_t e = 0; e < w.extent(0); ++e) {
      ds::require_finite_matrix("int8", ds::slice(w, e), e);
      for (index_t n = 0; n < w.extent(1); ++n) {
        const auto row = ds::slice(ds::slice(q.view(), e), n);
        ds::make_int8_channel<A>(ds::slice(w, e), n, scale.view()(e, n),
                                 [&](index_t k, std::int8_t code) { row(k) = code; });
      }
    }
  }
  ds::int8_channels_operand<ds::host> operand() const { return {q.view(), scale.view()}; }
};

struct symmetric_codes {
  ds::int4_layout at;
  array<std::int32_t, 2> q;
  array<ds::bf16, 2> scale;

  template <class W>
  symmetric_codes(op_case& in, const W& w)
      : at{w.extent(1), w.extent(2), in.integer("group", 32)},
        q({w.extent(0), (at.check("int4"), at.words())}),
        scale({w.extent(0), at.groups()}) {
    for (index_t e = 0; e < w.extent(0); ++e) {
      ds::require_finite_matrix("int4", ds::slice(w, e), e);
      ds::make_int4_codes(ds::int4_symmetric<>{}, ds::slice(w, e), at,
                          {q.data() + e * at.words(), scale.data() + e * at.groups(), nullptr});
    }
  }
  ds::int4_operand<ds::host> operand() const {
    return {q.view(), scale.view(), {nullptr, {q.extent(0), at.groups()}}, at};
  }
};

struct mxfp4_codes {
  ds::int4_layout at;
  array<std::int32_t, 2> q;
  array<ds::f8_e8m0, 2> scale;

  template <class W>
  mxfp4_codes(op_case&, const W& w)
      : at{w.extent(1), w.extent(2), ds::mxfp4_block},
        q({w.extent(0), at.words()}),
        scale({w.extent(0), at.groups()}) {
    for (index_t e = 0; e < w.extent(0); ++e) {
      ds::require_finite_matrix("mxfp4", ds::slice(w, e), e);
      ds::make_mxfp4_codes(ds::slice(w, e), at, q.data() + e * at.words(),
                           scale.data() + e * at.groups());
    }
  }
  ds::mxfp4_operand<ds::host> operand() const { return {q.view(), scale.view(), at}; }
};

struct scale_columns {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    const auto by = in.read<T, 1>("by");
    auto y = like(x);
    ds::ops::scale_columns(b, x, by, y);
    out.add("out", y);
  }
};

ds::fake_grid grid_of(op_case& in, index_t width) {
  const index_t group = in.integer("group", std::max<index_t>(width, 1));
  const auto code = [&](const char* key, index_t otherwise) {
    const index_t value = in.integer(key, otherwise);
    ds::require(value >= -65536 && value <= 65536, error_code::config, in.op(), ": ", key, " is ",
                value, "; write a code of at most 16 bits");
    return static_cast<std::int32_t>(value);
  };
  return {code("least", -127), code("most", 127), code("zero", 0), group, ds::dtype::f64};
}

struct fake_quantize {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x"), log_step = in.read<T, 2>("log_step");
    auto y = like(x);
    ds::ops::fake_quantize(b, ds::fake_inputs{x, log_step}, grid_of(in, x.extent(1)), y);
    out.add("out", y);
  }
};
struct fake_quantize_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x"), log_step = in.read<T, 2>("log_step");
    const auto dy = in.read<T, 2>("dout");
    auto dx = like(x), dlog_step = like(log_step);
    ds::ops::fake_quantize_backward(b, ds::fake_inputs{x, log_step}, grid_of(in, x.extent(1)), dy,
                                    ds::fake_gradients{dx, dlog_step});
    out.add("dx", dx);
    out.add("dlog_step", dlog_step);
  }
};

}  // namespace

std::span<const op_row> format_rows() {
  using ds::grouped_weight_gemm_op, ds::weight_gemm_op;
  static constexpr op_row rows[] = {
      row_of<plain_product<int8_codes, weight_gemm_op>>("int8_weight_gemm"),
      row_of<grouped_product<int8_codes, grouped_weight_gemm_op>>("grouped_int8_weight_gemm"),
      row_of<plain_product<symmetric_codes, weight_gemm_op>>("int4_symmetric_gemm"),
      row_of<grouped_product<symmetric_codes, grouped_weight_gemm_op>>(
          "grouped_int4_symmetric_gemm"),
      row_of<plain_product<mxfp4_codes, weight_gemm_op>>("mxfp4_gemm"),
      row_of<grouped_product<mxfp4_codes, grouped_weight_gemm_op>>("grouped_mxfp4_gemm"),
      row_of<scale_columns>("scale_columns"),
      row_of<fake_quantize>("fake_quantize"),
      row_of<fake_quantize_backward>("fake_quantize_backward")};
  return rows;
}

}  // namespace run_op
