// SPDX-License-Identifier: Apache-2.0
// add_term_columns(b, rows, term, out): out[j] += sum over rows of term(row, j), in two passes of
// fixed order: slabs of 64 rows, then the slabs, so bits do not depend on the device. out is a
// vector, or has an add_to_column. A term that reads rows at multiples of 16 bytes has runs():
//   static constexpr int count;       columns that a thread has; a sum each
//   bool runs() const                 asked on the host: every row moves whole (vectors.hpp)
//   add_run(row, first, sums)         sums[k] += term(row, first + k)
// with the same bits. The column sums of a matrix (add_column_sums, see ops/gemm.hpp) are its first
// use.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/cuda/vectors.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/ops/gemm.hpp"

namespace deepseek {

namespace cuda_column_sums {

inline constexpr index_t slab = 64;

// A block for 256 columns of a slab, a thread each.
template <class Term, class Partial>
struct slabs {
  static constexpr int threads = 256;
  index_t rows;
  Term term;
  Partial partial;  // [slabs, columns]

  DEEPSEEK_HOST_DEVICE index_t tiles() const { return (partial.extent(1) + threads - 1) / threads; }
  index_t blocks() const { return partial.extent(0) * tiles(); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t s = block.index() / tiles();
    const index_t j = block.index() % tiles() * threads + block.rank();
    if (j >= partial.extent(1)) return;
    const index_t last = (s + 1) * slab < rows ? (s + 1) * slab : rows;
    typename Partial::value_type sum{};
    for (index_t row = s * slab; row < last; ++row) sum += term(row, j);
    partial(s, j) = sum;
  }
};
// The same with 16 bytes at a time: each thread has Term::count neighbouring columns.
template <class Term, class Partial>
struct slabs_of_runs {
  static constexpr int threads = 256, count = Term::count;
  index_t rows;
  Term term;
  Partial partial;  // [slabs, columns], whole runs

  DEEPSEEK_HOST_DEVICE index_t tiles() const {
    return (partial.extent(1) + threads * count - 1) / (threads * count);
  }
  index_t blocks() const { return partial.extent(0) * tiles(); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t s = block.index() / tiles();
    const index_t first = (block.index() % tiles() * threads + block.rank()) * count;
    if (first >= partial.extent(1)) return;
    const index_t last = (s + 1) * slab < rows ? (s + 1) * slab : rows;
    typename Partial::value_type sums[count]{};
    for (index_t row = s * slab; row < last; ++row) term.add_run(row, first, sums);
    for (int k = 0; k < count; ++k) partial(s, first + k) = sums[k];
  }
};
// A term may be a struct of several sums; what they are added to then has an overload of its own.
template <class T, class S, index_t N, class Sum>
DEEPSEEK_HOST_DEVICE void add_to_column(const view<T, S, N>& out, index_t j, const Sum& sum) {
  out(j) = static_cast<T>(static_cast<Sum>(out(j)) + sum);
}
// A block for 32 columns: each of its warps adds every eighth slab, then the warps in order.
template <class Partial, class Out>
struct total {
  static constexpr int threads = 256, groups = threads / warp_size;
  using sum_type = typename Partial::value_type;
  Partial partial;
  Out out;

  index_t blocks() const { return blocks_of(partial.extent(1), warp_size); }
  std::size_t shared_bytes() const { return threads * sizeof(sum_type); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    sum_type* const held = reinterpret_cast<sum_type*>(block.shared());
    const index_t j = block.index() * warp_size + block.lane();
    const bool mine = j < partial.extent(1);
    sum_type sum{};
    for (index_t s = block.warp(); mine && s < partial.extent(0); s += groups) {
      sum += partial(s, j);
    }
    held[block.rank()] = sum;
    block.sync();
    if (block.warp() != 0 || !mine) return;
    for (int g = 1; g < groups; ++g) sum += held[g * warp_size + block.lane()];
    add_to_column(out, j, sum);
  }
};
template <class X, class Sum>
struct element_term {
  static constexpr int count = vector_length<typename X::value_type>;
  X x;
  DEEPSEEK_HOST_DEVICE Sum operator()(index_t row, index_t j) const {
    return static_cast<Sum>(x(row, j));
  }
  bool runs() const { return moves_whole(x); }
  DEEPSEEK_HOST_DEVICE void add_run(index_t row, index_t first, Sum* sums) const {
    alignas(vector_bytes) typename X::value_type xs[count];
    load_run<count>(&x(row, first), xs);
    for (int k = 0; k < count; ++k) sums[k] += static_cast<Sum>(xs[k]);
  }
};

// Whether the slabs were added up so.
template <class B, class Term, class Partial>
bool add_runs(const B& b, index_t rows, const Term& term, const Partial& partial) {
  if constexpr (requires { term.runs(); }) {
    if (partial.extent(1) % Term::count != 0 || !term.runs()) return false;
    b.launch(slabs_of_runs<Term, Partial>{rows, term, partial});
    return true;
  } else {
    return false;
  }
}

}  // namespace cuda_column_sums

template <DeviceBackend B, class Term, class Out>
void add_term_columns(const B& b, index_t rows, const Term& term, const Out& out) {
  using sum = std::remove_cvref_t<decltype(term(index_t{0}, index_t{0}))>;
  using Partial = view<sum, typename B::space, dyn, dyn>;
  const index_t columns = out.extent(0), count = blocks_of(rows, cuda_column_sums::slab);
  const scope freed(b.workspace());
  const Partial partial = b.workspace().template make<sum, dyn, dyn>(count, columns);
  if (!cuda_column_sums::add_runs(b, rows, term, partial)) {
    b.launch(cuda_column_sums::slabs<Term, Partial>{rows, term, partial});
  }
  b.launch(cuda_column_sums::total<Partial, Out>{partial, out});
}

template <DeviceBackend B, class X, class Y>
void add_column_sums_impl(const B& b, const X& x, const Y& out) {
  using sum = accumulate_t<typename Y::value_type>;
  add_term_columns(b, x.extent(0), cuda_column_sums::element_term<X, sum>{x}, out);
}

}  // namespace deepseek
