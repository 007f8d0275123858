// SPDX-License-Identifier: Apache-2.0
// add_term_columns(b, rows, term, out): out[j] += sum over rows of term(row, j), in two passes of
// fixed order: slabs of 64 rows, then the slabs one after the other, so bits do not depend on the
// device. out is a vector, or has an add_to_column. The column sums of a matrix (add_column_sums,
// see ops/gemm.hpp) are its first use.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/ops/gemm.hpp"

namespace deepseek {

namespace cuda_column_sums {

inline constexpr index_t slab = 64;

template <class Term, class Partial>
struct slabs {
  index_t rows, columns;
  Term term;
  Partial partial;  // [slabs, columns]
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const index_t s = i / columns, j = i % columns;
    const index_t last = (s + 1) * slab < rows ? (s + 1) * slab : rows;
    typename Partial::value_type sum{};
    for (index_t row = s * slab; row < last; ++row) sum += term(row, j);
    partial(s, j) = sum;
  }
};
// A term may be a struct of several sums; what they are added to then has an overload of its own.
template <class T, class S, index_t N, class Sum>
DEEPSEEK_HOST_DEVICE void add_to_column(const view<T, S, N>& out, index_t j, const Sum& sum) {
  out(j) = static_cast<T>(static_cast<Sum>(out(j)) + sum);
}
template <class Partial, class Out>
struct total {
  Partial partial;
  Out out;
  DEEPSEEK_HOST_DEVICE void operator()(index_t j) const {
    typename Partial::value_type sum{};
    for (index_t s = 0; s < partial.extent(0); ++s) sum += partial(s, j);
    add_to_column(out, j, sum);
  }
};
template <class X, class Sum>
struct element_term {
  X x;
  DEEPSEEK_HOST_DEVICE Sum operator()(index_t row, index_t j) const {
    return static_cast<Sum>(x(row, j));
  }
};

}  // namespace cuda_column_sums

template <DeviceBackend B, class Term, class Out>
void add_term_columns(const B& b, index_t rows, const Term& term, const Out& out) {
  using namespace cuda_column_sums;
  using sum = std::remove_cvref_t<decltype(term(index_t{0}, index_t{0}))>;
  using Partial = view<sum, typename B::space, dyn, dyn>;
  const index_t columns = out.extent(0), count = blocks_of(rows, slab);
  const scope freed(b.workspace());
  const Partial partial = b.workspace().template make<sum, dyn, dyn>(count, columns);
  run_each_element(b, count * columns, slabs<Term, Partial>{rows, columns, term, partial});
  run_each_element(b, columns, total<Partial, Out>{partial, out});
}

template <DeviceBackend B, class X, class Y>
void add_column_sums_impl(const B& b, const X& x, const Y& out) {
  using sum = accumulate_t<typename Y::value_type>;
  add_term_columns(b, x.extent(0), cuda_column_sums::element_term<X, sum>{x}, out);
}

}  // namespace deepseek
