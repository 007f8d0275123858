// SPDX-License-Identifier: Apache-2.0
// products: y_i = x_i W_i^T + bias_i for several weights of one kind of format, none of which waits
// for another: projections of one input, or routed experts and the shared one. product_of(x, w, y)
// and product_of(x, w, y, bias) are what weight_gemm, quant_gemm or int4_int8_gemm take (the
// operands of two kinds do not mix), product_of(x, w, y, none{}, offsets) their grouped form.
// The bits are those of one op after another. On cpu they share one parallel region, and products
// of the same x prepare its rows (bytes, pairs) once. Rows behind the last expert's are not
// written. Errors: those of the ops, and aliasing between any y and any other x or y; all are found
// before anything is written, but on a device and for strides that the kernels do not take, where
// one op runs after another. Cost: the sum of theirs.
#pragma once

#include "deepseek/ops/int4_int8_gemm.hpp"
#include "deepseek/ops/quant_gemm.hpp"
#include "deepseek/ops/weight_gemm.hpp"

#include <tuple>

namespace deepseek {

template <class X, class W, class Y, class Bias = none, class O = none>
struct product {
  static constexpr bool grouped = !std::is_same_v<O, none>;
  static constexpr bool biased = !std::is_same_v<Bias, none>;
  static_assert(!(grouped && biased),
                "deepseek::products: a grouped product has no bias; call add_expert_bias after it");
  X x;
  W w;
  Y y;
  Bias bias = {};
  O offsets = {};
};
template <class X, class W, class Y, class Bias = none, class O = none>
auto product_of(const X& x_in, const W& w, Y&& y_in, const Bias& bias_in = {},
                const O& offsets_in = {}) {
  const auto x = as_const(as_view(x_in));
  const auto y = as_view(y_in);
  const auto bias = const_or_none(bias_in);
  const auto offsets = const_or_none(offsets_in);
  return product<std::remove_const_t<decltype(x)>, W, std::remove_const_t<decltype(y)>,
                 std::remove_const_t<decltype(bias)>, std::remove_const_t<decltype(offsets)>>{
      x, w, y, bias, offsets};
}

// Which op multiplies by this operand.
enum class product_kind { none, weight, int8, int4_by_int8 };
template <class W>
constexpr product_kind kind_of_product() {
  if (is_coded_operand<W>) return product_kind::weight;
  if (is_int8_operand<W>) return product_kind::int8;
  return is_int4_activations<W> ? product_kind::int4_by_int8 : product_kind::none;
}

template <class B, class P>
void check_product(const B& b, const P& p) {
  constexpr product_kind kind = kind_of_product<decltype(p.w)>();
  if constexpr (kind == product_kind::int8) {
    check_quant_gemm(b, p.x, p.w, p.y);
  } else if constexpr (kind == product_kind::int4_by_int8) {
    check_int4_int8_gemm(b, p.x, p.w, p.y);
  } else {
    check_weight_gemm(b, p.x, p.w, p.y);
  }
  if constexpr (P::grouped) {
    check_expert_rows(b, p.offsets, p.w.experts(), p.y, "products: offsets");
  } else {
    require(p.w.experts() == 1, error_code::shape_mismatch, "products: w holds ", p.w.experts(),
            " experts; pass the offsets of their rows");
    check_product_bias(b, p.bias, p.y, "products: bias");
  }
}

template <class B, class P>
void multiply_one(const B& b, const P& p) {
  constexpr product_kind kind = kind_of_product<decltype(p.w)>();
  if constexpr (kind == product_kind::int8 && P::grouped) {
    ops::grouped_quant_gemm(b, p.x, p.w, p.offsets, p.y);
  } else if constexpr (kind == product_kind::int8) {
    ops::quant_gemm(b, p.x, p.w, p.y, p.bias);
  } else if constexpr (kind == product_kind::int4_by_int8 && P::grouped) {
    ops::grouped_int4_int8_gemm(b, p.x, p.w, p.offsets, p.y);
  } else if constexpr (kind == product_kind::int4_by_int8) {
    ops::int4_int8_gemm(b, p.x, p.w, p.y, p.bias);
  } else if constexpr (P::grouped) {
    ops::grouped_weight_gemm(b, p.x, p.w, p.offsets, p.y);
  } else {
    ops::weight_gemm(b, p.x, p.w, p.y, p.bias);
  }
}

struct products_op {
  static constexpr std::string_view name = "products";

  template <class B, class... X, class... W, class... Y, class... Bias, class... O>
  void operator()(const B& b, const product<X, W, Y, Bias, O>&... p) const {
    static_assert(((kind_of_product<W>() != product_kind::none) && ...),
                  "deepseek::products: w is no operand of a stored format; pass weight.operand(), "
                  "or a plain weight to gemm");
    (check_product(b, p), ...);
    (require_apart_from_others(p, p...), ...);
    if constexpr (requires { products_impl(b, p...); }) {
      products_impl(b, p...);
    } else {
      (multiply_one(b, p), ...);
    }
  }

 private:
  template <class P, class... Others>
  static void require_apart_from_others(const P& p, const Others&... others) {
    const auto apart = [&](const auto& other) {
      if (static_cast<const void*>(&other) == static_cast<const void*>(&p)) return;
      require_apart(other.x, p.y, "products: the x of another product");
      require_apart(as_const(other.y), p.y, "products: the y of another product");
    };
    (apart(others), ...);
  }
};

namespace ops {
inline constexpr products_op products{};
}

}  // namespace deepseek
