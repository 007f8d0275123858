// SPDX-License-Identifier: Apache-2.0
// run_op: products with int8 weights. w holds plain weights [N, K] or [E, N, K]; they become codes
// with one scale for each output channel, as quantize does it; x is coded in the op, by the range
// of the call or of each row.
#include "run_op/op_rows.hpp"

#include "deepseek/ops/quant_gemm.hpp"
#include "deepseek/quant/int8_weight.hpp"

namespace run_op {
namespace {

struct codes {
  array<std::int8_t, 2> q;
  array<float, 2> scale;
  array<std::int32_t, 2> sum;

  template <class W>  // [experts, N, K]
  explicit codes(const W& w)
      : q({w.extent(0), ds::int8_layout{w.extent(1), w.extent(2)}.size()}),
        scale({w.extent(0), w.extent(1)}),
        sum({w.extent(0), w.extent(1)}) {
    using A = ds::accumulate_t<typename W::value_type>;
    const ds::int8_layout at{w.extent(1), w.extent(2)};
    ds::require(at.k <= ds::int8_layout::deepest, error_code::invalid_argument, "quant_gemm: K is ",
                at.k, "; pass at most ", ds::int8_layout::deepest);
    for (index_t e = 0; e < w.extent(0); ++e) {
      ds::require_finite_matrix("quant_gemm", ds::slice(w, e), e);
      for (index_t n = 0; n < at.n; ++n) {
        sum.view()(e, n) = ds::make_int8_channel<A>(
            ds::slice(w, e), n, scale.view()(e, n),
            [&](index_t k, std::int8_t code) { q.view()(e, at.at(n, k)) = code; });
      }
    }
  }
  ds::int8_operand<ds::host> operand(op_case& in, index_t depth) const {
    const std::string range = in.word("range", "per_token");
    ds::require(range == "per_token" || range == "per_call", error_code::config,
                "quant_gemm: range is ", ds::escaped(range), "; write per_token or per_call");
    return {.q = q.view(),
            .scale = scale.view(),
            .sum = sum.view(),
            .depth = depth,
            .range = range == "per_call" ? ds::activation_range::per_call
                                         : ds::activation_range::per_token};
  }
};

struct quant_gemm {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x"), w = in.read<T, 2>("w");
    const codes c(ds::view<const T, ds::host, ds::dyn, ds::dyn, ds::dyn>(
        w.data(), {1, w.extent(0), w.extent(1)}));
    array<T, 2> y({x.extent(0), w.extent(0)});
    ds::ops::quant_gemm(b, x, c.operand(in, w.extent(1)), y);
    out.add("out", y);
  }
};

struct grouped_quant_gemm {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    const auto w = in.read<T, 3>("w");
    const auto offsets = read_offsets(in, x.extent(0));
    const codes c(w.view());
    array<T, 2> y({x.extent(0), w.extent(1)});
    ds::ops::grouped_quant_gemm(b, x, c.operand(in, w.extent(2)), offsets, y);
    out.add("out", y);
  }
};

}  // namespace

std::span<const op_row> quant_rows() {
  static constexpr op_row rows[] = {row_of<quant_gemm>("quant_gemm"),
                                    row_of<grouped_quant_gemm>("grouped_quant_gemm")};
  return rows;
}

}  // namespace run_op
