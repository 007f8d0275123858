// SPDX-License-Identifier: Apache-2.0
// Rows of run_op: products with weights in fp8 blocks and int4 groups. The weights of a case are
// plain; they become codes as quantize makes them.
#include "run_op/coded_products.hpp"

#include "deepseek/ops/fp8_gemm.hpp"
#include "deepseek/ops/int4_int8_gemm.hpp"
#include "deepseek/ops/weight_gemm.hpp"

namespace run_op {
namespace {

ds::fp8_scales scales_of(op_case& in) {
  const std::string word = in.word("scales", "any");
  ds::require(word == "any" || word == "power_of_two", error_code::config, in.op(), ": scales is ",
              ds::escaped(word), "; write any or power_of_two");
  return word == "any" ? ds::fp8_scales::any : ds::fp8_scales::power_of_two;
}

struct fp8_codes {
  array<ds::f8_e4m3, 3> q;
  array<float, 3> scale;

  template <class W>  // [experts, N, K]
  fp8_codes(op_case& in, const W& w)
      : q({w.extent(0), w.extent(1), w.extent(2)}),
        scale({w.extent(0), ds::fp8_blocks_in(w.extent(1)), ds::fp8_blocks_in(w.extent(2))}) {
    const ds::fp8_scales kind = scales_of(in);
    for (index_t e = 0; e < w.extent(0); ++e) {
      ds::require_finite_matrix("fp8", ds::slice(w, e), e);
      ds::make_fp8_blocks(ds::slice(w, e), kind, ds::slice(q.view(), e),
                          ds::slice(scale.view(), e));
    }
  }
  ds::fp8_operand<ds::host> operand() const { return {q.view(), scale.view()}; }
};

struct int4_codes {
  ds::int4_layout at;
  array<std::int32_t, 2> q;
  array<ds::bf16, 2> scale;
  array<std::uint8_t, 2> zero;

  template <class W>  // [experts, N, K]
  int4_codes(op_case& in, const W& w)
      : at{w.extent(1), w.extent(2), in.integer("group", 32)},
        q({w.extent(0), (at.check("int4"), at.words())}),
        scale({w.extent(0), at.groups()}),
        zero({w.extent(0), at.groups()}) {
    for (index_t e = 0; e < w.extent(0); ++e) {
      ds::require_finite_matrix("int4", ds::slice(w, e), e);
      ds::make_int4_codes(ds::int4_groups<>{}, ds::slice(w, e), at,
                          {q.data() + e * at.words(), scale.data() + e * at.groups(),
                           zero.data() + e * at.groups()});
    }
  }
  ds::int4_operand<ds::host> operand() const { return {q.view(), scale.view(), zero.view(), at}; }
};

// The same weights for rows that become bytes.
struct int4_codes_for_bytes : int4_codes {
  using int4_codes::int4_codes;
  ds::int4_activations_operand<ds::host> operand() const { return {int4_codes::operand()}; }
};

// Codes as the numbers they are, without their scales.
struct quantize_fp8 {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    array<ds::f8_e4m3, 2> codes({x.extent(0), x.extent(1)});
    array<float, 2> scale({x.extent(0), ds::fp8_blocks_in(x.extent(1))});
    ds::ops::quantize_fp8(b, x, ds::fp8_rows{codes, scale}, scales_of(in));
    array<float, 2> values({x.extent(0), x.extent(1)});
    for (index_t i = 0; i < values.size(); ++i) values.data()[i] = codes.data()[i];
    out.add("out_codes", values);
    out.add("out_scale", scale);
  }
};

}  // namespace

std::span<const op_row> weight_rows() {
  using ds::grouped_weight_gemm_op, ds::weight_gemm_op, ds::fp8_gemm_op, ds::grouped_fp8_gemm_op;
  using ds::int4_int8_gemm_op, ds::grouped_int4_int8_gemm_op;
  static constexpr op_row rows[] = {
      row_of<plain_product<fp8_codes, weight_gemm_op>>("fp8_weight_gemm"),
      row_of<grouped_product<fp8_codes, grouped_weight_gemm_op>>("grouped_fp8_weight_gemm"),
      row_of<plain_product<int4_codes, weight_gemm_op>>("int4_gemm"),
      row_of<grouped_product<int4_codes, grouped_weight_gemm_op>>("grouped_int4_gemm"),
      row_of<host_only<plain_product<int4_codes_for_bytes, int4_int8_gemm_op>>>("int4_int8_gemm"),
      row_of<host_only<grouped_product<int4_codes_for_bytes, grouped_int4_int8_gemm_op>>>(
          "grouped_int4_int8_gemm"),
      row_of<plain_product<fp8_codes, fp8_gemm_op>>("fp8_gemm"),
      row_of<grouped_product<fp8_codes, grouped_fp8_gemm_op>>("grouped_fp8_gemm"),
      row_of<quantize_fp8>("quantize_fp8")};
  return rows;
}

}  // namespace run_op
