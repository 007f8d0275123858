// SPDX-License-Identifier: Apache-2.0
// sum_terms(b, n, term): the sum of term(i), i < n, as one number in device memory; read_sum: on
// the host. Blocks of 8192 terms, then the blocks' sums, each by row_sum: the order is fixed by n
// alone.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/rows/row_sum.hpp"

namespace deepseek {

namespace cuda_number_sum {

inline constexpr index_t block_terms = 8192;

template <class Term, class Sums>
struct blocks_of_terms {
  index_t n;
  Term term;
  Sums sums;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    const index_t first = row * block_terms;
    const index_t here = n - first < block_terms ? n - first : block_terms;
    const auto sum = row_sum(team, here, [&](index_t i) { return term(first + i); });
    if (team.rank() == 0) sums(row) = sum;
  }
};
template <class Sums>
struct element {
  Sums sums;
  DEEPSEEK_HOST_DEVICE typename Sums::value_type operator()(index_t i) const { return sums(i); }
};

}  // namespace cuda_number_sum

// In the workspace of the caller's scope; n = 0 gives 0.
template <DeviceBackend B, class Term>
auto sum_terms(const B& b, index_t n, const Term& term) {
  using sum = std::remove_cvref_t<decltype(term(index_t{0}))>;
  using Sums = view<sum, typename B::space, dyn>;
  const index_t blocks = n > 0 ? blocks_of(n, cuda_number_sum::block_terms) : 1;
  const Sums sums = b.workspace().template make<sum, dyn>(blocks);
  const index_t length = n < cuda_number_sum::block_terms ? n : cuda_number_sum::block_terms;
  run_each_row(b, blocks, length, cuda_number_sum::blocks_of_terms<Term, Sums>{n, term, sums});
  if (blocks == 1) return sums;
  return sum_terms(b, blocks, cuda_number_sum::element<Sums>{sums});
}

template <DeviceBackend B, class Term>
auto read_sum(const B& b, index_t n, const Term& term) {
  const scope freed(b.workspace());
  return b.read(sum_terms(b, n, term).data());
}

}  // namespace deepseek
