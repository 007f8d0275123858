// SPDX-License-Identifier: Apache-2.0
// weight_gemm and grouped_weight_gemm on the cpu: kernels/gemm_stored.hpp for float x and y, x of
// any strides, y with contiguous columns; other types and strides take the reference loops.
// Experts' products share one parallel region.
#pragma once

#include "deepseek/backend/cpu/kernels/coded_weights.hpp"
#include "deepseek/backend/cpu/kernels/gemm_packed.hpp"
#include "deepseek/backend/cpu/narrow_gemm.hpp"
#include "deepseek/backend/cpu/products.hpp"
#include "deepseek/backend/reference/weight_gemm.hpp"

namespace deepseek {

template <class T>
constexpr index_t panel_columns() {
  if constexpr (Narrow<T>) {
    return kernels::dot_size<narrow_form<T>>::columns;
  } else {
    return kernels::panel_size<T>::columns;
  }
}
template <>
struct packing<cpu> {
  template <class T>
  static constexpr index_t columns = panel_columns<T>();
  template <class T>
  static constexpr index_t together = std::is_same_v<T, bf16> ? 2 : 1;
};

inline kernels::e4m3_rows stored_weight(const fp8_matrix<host>& w) {
  return {reinterpret_cast<const unsigned char*>(w.q.data()), w.q.stride(0), w.extent(0),
          w.scale.data(), w.scale.stride(0)};
}
inline kernels::int8_rows_of_codes stored_weight(const int8_channels_matrix<host>& w) {
  return {reinterpret_cast<const unsigned char*>(w.q.data()), w.q.stride(0), w.extent(0),
          w.scale.data()};
}
template <class Scale>
kernels::int4_words<std::is_same_v<Scale, f16>> stored_weight(const int4_matrix<host, Scale>& w) {
  return {w.q,
          reinterpret_cast<const std::uint16_t*>(w.scale),
          w.zero,
          w.layout.words_deep(),
          w.layout.groups_deep(),
          w.layout.group,
          std::countr_zero(static_cast<std::uint64_t>(w.layout.group))};
}
inline kernels::e2m1_words stored_weight(const mxfp4_matrix<host>& w) {
  return {w.q, reinterpret_cast<const std::uint8_t*>(w.scale), w.layout.words_deep(),
          w.layout.groups_deep()};
}

template <class W>
concept StoredOperand = requires(const W& w) {
  stored_weight(w.expert(0));
};

template <class X, StoredOperand W, class Y, class Bias>
requires all_elements_are<float, X, Y> && simd_bias<float, Bias>
void weight_gemm_impl(const cpu& b, const X& x, const W& w, const Y& y, const Bias& bias) {
  bool direct = columns_contiguous(y);
  if constexpr (!std::is_same_v<Bias, none>) {
    direct = direct && (bias.stride(0) == 1 || bias.extent(0) == 1);
  }
  if (!direct) return weight_gemm_impl(static_cast<const reference&>(b), x, w, y, bias);
  auto problem = stored_problem_of(x, stored_weight(w.expert(0)), y);
  if constexpr (!std::is_same_v<Bias, none>) problem.c.then.bias = bias.data();
  kernels::gemm_stored(b.pool(), problem);
}

// Rows need no preparation: kernels read x where it stands.
template <class T>
struct joint_float_kernels {
  template <class Bias>
  static constexpr bool takes_bias = simd_bias<T, Bias>;
  static auto make_rows(const cpu&, const auto& x, const auto&) { return x; }
  static bool shares_rows(const auto&, const auto&) { return true; }
  static void set_bias(const cpu&, auto& p, const auto& bias) { p.c.then.bias = bias.data(); }
};
template <StoredOperand W>
struct joint_kernels<float, W, float> : joint_float_kernels<float> {
  using problem = kernels::stored_problem<decltype(stored_weight(std::declval<W>().expert(0)))>;

  static bool takes(const auto&, const W&, const auto& y) { return columns_contiguous(y); }
  static problem problem_of(const auto& x, index_t first, const auto& w, const auto& y) {
    return stored_problem_of(rows(x, first, y.extent(0)), stored_weight(w), y);
  }
  static void run(thread_pool& pool, std::span<const problem> problems) {
    kernels::gemm_stored(pool, problems);
  }
};

template <class X, StoredOperand W, class O, class Y>
requires all_elements_are<float, X, Y>
void grouped_weight_gemm_impl(const cpu& b, const X& x, const W& w, const O& offsets, const Y& y) {
  const auto p = product_of(x, w, y, none{}, offsets);
  if (is_taken(p)) return multiply_alone(b, p);
  grouped_weight_gemm_impl(static_cast<const reference&>(b), x, w, offsets, y);
}

// Packed weights of the width that this build's kernel takes; others, like those of another
// backend, take the reference loops.
template <class X, class T, class Y>
bool takes_panels(const X&, const packed_operand<T, host>& w, const Y& y) {
  return w.layout.columns == panel_columns<T>() && w.layout.together == packing<cpu>::together<T> &&
         columns_contiguous(y);
}
template <class X, class T, class Y>
kernels::packed_problem<T> packed_problem_of(const X& x, const packed_matrix<T, host>& w,
                                             const Y& y) {
  return {{y.extent(0), y.extent(1), x.extent(1)},
          kernel_operand(x),
          w.panels,
          {y.data(), y.stride(0)}};
}

template <class X, class T, class Y, class Bias>
requires(simd_elements<X, Y>&& all_elements_are<T, X, Y>&&
             simd_bias<T, Bias>) void weight_gemm_impl(const cpu& b, const X& x,
                                                       const packed_operand<T, host>& w, const Y& y,
                                                       const Bias& bias) {
  bool direct = takes_panels(x, w, y);
  if constexpr (!std::is_same_v<Bias, none>) {
    direct = direct && (bias.stride(0) == 1 || bias.extent(0) == 1);
  }
  if (!direct) return weight_gemm_impl(static_cast<const reference&>(b), x, w, y, bias);
  auto problem = packed_problem_of(x, w.expert(0), y);
  if constexpr (!std::is_same_v<Bias, none>) problem.c.then.bias = bias.data();
  kernels::gemm_packed(b.pool(), problem);
}

template <class T>
requires std::is_floating_point_v<T>
struct joint_kernels<T, packed_operand<T, host>, T> : joint_float_kernels<T> {
  using problem = kernels::packed_problem<T>;

  static bool takes(const auto& x, const packed_operand<T, host>& w, const auto& y) {
    return takes_panels(x, w, y);
  }
  static problem problem_of(const auto& x, index_t first, const packed_matrix<T, host>& w,
                            const auto& y) {
    return packed_problem_of(rows(x, first, y.extent(0)), w, y);
  }
  static void run(thread_pool& pool, std::span<const problem> problems) {
    kernels::gemm_packed(pool, problems);
  }
};

template <class X, class T, class O, class Y>
requires(simd_elements<X, Y>&& all_elements_are<T, X, Y>) void grouped_weight_gemm_impl(
    const cpu& b, const X& x, const packed_operand<T, host>& w, const O& offsets, const Y& y) {
  const auto p = product_of(x, w, y, none{}, offsets);
  if (is_taken(p)) return multiply_alone(b, p);
  grouped_weight_gemm_impl(static_cast<const reference&>(b), x, w, offsets, y);
}

// 16-bit elements: the panels of kernels/narrow_product.hpp.
template <class T, class Y>
auto narrow_packed_problem(const narrow_rows& x, const packed_matrix<T, host>& w, const Y& y) {
  using form = narrow_form<T>;
  const kernels::packed_columns_of<form> panels{reinterpret_cast<const std::byte*>(w.panels),
                                                kernels::dot_steps<form>(w.extent(1))};
  return narrow_problem_of<form>(x, panels, w.extent(1), y);
}

template <class X, class T, class Y, class Bias>
requires(narrow_product<X, X, Y>&& all_elements_are<T, X>&&
             narrow_bias<X, Bias>) void weight_gemm_impl(const cpu& b, const X& x,
                                                         const packed_operand<T, host>& w,
                                                         const Y& y, const Bias& bias) {
  if (!takes_panels(x, w, y)) {
    return weight_gemm_impl(static_cast<const reference&>(b), x, w, y, bias);
  }
  const scope freed(b.workspace());
  auto problem = narrow_packed_problem(left_rows(b, x, x.extent(0)), w.expert(0), y);
  problem.c.then.bias = float_bias(b, bias);
  kernels::gemm_dot(b.pool(), problem);
}

template <Narrow T, class Y>
requires std::is_same_v<Y, T> || std::is_same_v<Y, float>
struct joint_kernels<T, packed_operand<T, host>, Y> {
  using problem =
      decltype(narrow_packed_problem(narrow_rows{}, std::declval<packed_matrix<T, host>>(),
                                     std::declval<view<Y, host, dyn, dyn>>()));
  template <class Bias>
  static constexpr bool takes_bias = simd_bias<float, Bias> || simd_bias<T, Bias>;

  static bool takes(const auto& x, const packed_operand<T, host>& w, const auto& y) {
    return takes_panels(x, w, y);
  }
  static narrow_rows make_rows(const cpu& b, const auto& x, const auto&) {
    return left_rows(b, x, x.extent(0));
  }
  static bool shares_rows(const auto&, const auto&) { return true; }
  static problem problem_of(const narrow_rows& x, index_t first, const packed_matrix<T, host>& w,
                            const auto& y) {
    return narrow_packed_problem(narrow_rows{x.data + first * x.row, x.row}, w, y);
  }
  static void set_bias(const cpu& b, problem& p, const auto& bias) {
    p.c.then.bias = float_bias(b, bias);
  }
  static void run(thread_pool& pool, std::span<const problem> problems) {
    kernels::gemm_dot(pool, problems);
  }
};

template <class X, class T, class O, class Y>
requires(narrow_product<X, X, Y>&& all_elements_are<T, X>) void grouped_weight_gemm_impl(
    const cpu& b, const X& x, const packed_operand<T, host>& w, const O& offsets, const Y& y) {
  const auto p = product_of(x, w, y, none{}, offsets);
  if (is_taken(p)) return multiply_alone(b, p);
  grouped_weight_gemm_impl(static_cast<const reference&>(b), x, w, offsets, y);
}

}  // namespace deepseek
