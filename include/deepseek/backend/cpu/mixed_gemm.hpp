// SPDX-License-Identifier: Apache-2.0
// gemm and grouped_gemm on the cpu for float activations, bf16 weights and float results:
// kernels/gemm_stored.hpp. Weights of any strides; a layer's, [out, in] seen transposed, stream
// through once for up to 8 rows. The bits are those of gemm on the weights widened to float.
// An output without contiguous columns takes the reference loops.
#pragma once

#include "deepseek/backend/cpu/gemm.hpp"
#include "deepseek/backend/cpu/kernels/gemm_stored.hpp"

namespace deepseek {

template <class A, class W, class C>
inline constexpr bool bf16_product = all_elements_are<float, A, C>&& all_elements_are<bf16, W>;

// f(weights) with the form of w[k, n], in bf16 or f16, that its strides allow.
template <class W, class F>
void with_stored(const W& w, const F& f) {
  using T = typename W::value_type;
  if (w.stride(0) == 1 || w.extent(0) == 1) {
    f(kernels::rows_of_16_bits<std::remove_const_t<T>>{w.data(), w.stride(1), w.extent(1)});
  } else {
    f(kernels::matrix_of_16_bits<std::remove_const_t<T>>{w.data(), w.stride(0), w.stride(1)});
  }
}

template <class A, class Stored, class C>
kernels::stored_problem<Stored> stored_problem_of(const A& a, const Stored& w, const C& c) {
  return {{c.extent(0), c.extent(1), a.extent(1)}, kernel_operand(a), w, {c.data(), c.stride(0)}};
}

template <class A, class W, class C, class Bias>
requires(C::rank == 2 && bf16_product<A, W, C> &&
         simd_bias<float, Bias>) void gemm_impl(const cpu& b, const A& a, const W& w, const C& c,
                                                const gemm_epilogue<Bias>& epilogue) {
  constexpr bool biased = !std::is_same_v<Bias, none>;
  bool direct = columns_contiguous(c);
  if constexpr (biased) {
    direct = direct && (epilogue.bias.stride(0) == 1 || epilogue.bias.extent(0) == 1);
  }
  if (!direct) return gemm_impl(static_cast<const reference&>(b), a, w, c, epilogue);
  const bool adds = epilogue.how == update::add;
  const scope freed(b.workspace());
  view<float, host, dyn, dyn> target(c);
  if (adds) target = b.workspace().template make<float, dyn, dyn>(c.extent(0), c.extent(1));
  with_stored(w, [&](const auto& stored) {
    auto problem = stored_problem_of(a, stored, target);
    if constexpr (biased) problem.c.then.bias = epilogue.bias.data();
    problem.c.then.function = kernel_activation(epilogue.act);
    kernels::gemm_stored(b.pool(), problem);
  });
  if (adds) add_rows(b, as_const(target), c);
}

// A batch that is only written, with contiguous columns, is one parallel region.
template <class A, class W, class C>
requires(C::rank == 3 && bf16_product<A, W, C>) void gemm_impl(const cpu& b, const A& a, const W& w,
                                                               const C& c,
                                                               const gemm_epilogue<>& epilogue) {
  if (epilogue.act != activation::none || epilogue.how == update::add ||
      !columns_contiguous(slice(c, 0))) {
    for (index_t i = 0; i < c.extent(0); ++i) {
      gemm_impl(b, slice(a, i), slice(w, i), slice(c, i), epilogue);
    }
    return;
  }
  const scope freed(b.workspace());
  with_stored(slice(w, 0), [&](const auto& first_weight) {
    using stored = std::remove_cvref_t<decltype(first_weight)>;
    const auto problems =
        b.workspace().template make<kernels::stored_problem<stored>, dyn>(c.extent(0));
    for (index_t i = 0; i < c.extent(0); ++i) {
      stored at = first_weight;
      at.data += i * w.stride(0);
      problems(i) = stored_problem_of(slice(a, i), at, slice(c, i));
    }
    kernels::gemm_stored(b.pool(), std::span<const kernels::stored_problem<stored>>(
                                       problems.data(), static_cast<std::size_t>(c.extent(0))));
  });
}

// All experts' products in one parallel region.
template <class X, class W, class O, class Y>
requires bf16_product<X, W, Y>
void grouped_gemm_impl(const cpu& b, const X& x, const W& w, const O& offsets, const Y& y) {
  if (!columns_contiguous(y)) {
    return grouped_gemm_impl(static_cast<const reference&>(b), x, w, offsets, y);
  }
  const scope freed(b.workspace());
  with_stored(slice(w, 0), [&](const auto& first_weight) {
    using stored = std::remove_cvref_t<decltype(first_weight)>;
    const auto problems =
        b.workspace().template make<kernels::stored_problem<stored>, dyn>(w.extent(0));
    index_t count = 0;
    for_each_expert(offsets, [&](index_t e, index_t first, index_t n) {
      stored at = first_weight;
      at.data += e * w.stride(0);
      problems(count++) = stored_problem_of(rows(x, first, n), at, rows(y, first, n));
    });
    kernels::gemm_stored(b.pool(), std::span<const kernels::stored_problem<stored>>(
                                       problems.data(), static_cast<std::size_t>(count)));
  });
}

}  // namespace deepseek
