// SPDX-License-Identifier: Apache-2.0
// lightning_indexer_backward on the cpu, float or double, any strides of the inputs and contiguous
// rows of dq and dk; see ops/lightning_indexer.hpp. Scores are computed again, one query's heads by
// a run of visible keys at a time, once for dq and dw (tasks: queries) and once for dk (tasks: 64
// keys). Each sum is one chain, over keys or over queries and heads, ascending: the bits do not
// depend on how tasks are dealt out, and hidden pairs never take part. Other types take the
// reference.
#pragma once

#include "deepseek/backend/cpu/lightning_indexer.hpp"

namespace deepseek {

namespace cpu_indexer {

inline constexpr index_t keys_per_run = 64;  // one word of row_bits

// f(first, last) for the runs of ones in `bits`, ascending.
template <class F>
void for_each_run(std::uint64_t bits, F f) {
  while (bits != 0) {
    const int first = std::countr_zero(bits);
    const int count = std::countr_one(bits >> first);
    f(index_t{first}, index_t{first} + count);
    bits = first + count >= 64 ? 0 : bits >> (first + count) << (first + count);
  }
}

struct scores_of_run;

template <class T, class In, class DS, class G, class P>
struct backward_pass {
  const In& in;
  const DS& dscores;
  const G& g;
  const P& pattern;
  attention_range range;
  T scale;

  index_t heads() const { return in.q.extent(1); }
  index_t width() const { return in.q.extent(2); }

  kernels::operand<T> query(index_t i) const {
    return {in.q.data() + (range.query + i) * in.q.stride(0), in.q.stride(1), in.q.stride(2)};
  }
  kernels::operand<T> keys(index_t first) const {
    return {in.k.data() + (range.key + first) * in.k.stride(0), in.k.stride(0), in.k.stride(1)};
  }
  std::uint64_t seen(index_t i, index_t k0) const {
    return row_bits(pattern, range.start + i, k0) & span_bits(0, range.keys, k0);
  }
  // The gradient of the dots of query i with keys first .. first + count - 1, [heads][count];
  // `weights`, where given, gets this run's share of dw.
  T* dot_gradients(index_t i, index_t first, index_t count, T* weights) const {
    T* const r = kernels::scratch<scores_of_run, T>(static_cast<std::size_t>(heads() * count));
    kernels::tile_gemm<T>({heads(), count, width()}, query(i), keys(first).transposed(),
                          {r, count});
    for (index_t h = 0; h < heads(); ++h) {
      const T w = in.w(range.query + i, h);
      for (index_t j = 0; j < count; ++j) {
        T& at = r[h * count + j];
        const T given = dscores(range.query + i, first + j) * scale;
        if (weights != nullptr) weights[h] += given * (at < T(0) ? T(0) : at);
        at = at > T(0) ? given * w : T(0);
      }
    }
    return r;
  }

  // dq and dw of query i.
  void to_query(index_t i, T* weights) const {
    T* const dq = &g.dq(range.query + i, 0, 0);
    std::fill_n(weights, heads(), T(0));
    for (index_t h = 0; h < heads(); ++h) std::fill_n(dq + h * g.dq.stride(1), width(), T(0));
    for (index_t k0 = 0; k0 < range.keys; k0 += keys_per_run) {
      for_each_run(seen(i, k0), [&](index_t first, index_t last) {
        const T* dr = dot_gradients(i, k0 + first, last - first, weights);
        kernels::tile_gemm<T>({heads(), width(), last - first}, {dr, last - first, 1},
                              keys(k0 + first), {dq, g.dq.stride(1), kernels::start::from_c});
      });
    }
    for (index_t h = 0; h < heads(); ++h) g.dw(range.query + i, h) = weights[h];
  }

  // dk of the keys from k0 on.
  void to_keys(index_t k0) const {
    T* const dk = &g.dk(range.key + k0, 0);
    const index_t here = std::min(keys_per_run, range.keys - k0);
    for (index_t j = 0; j < here; ++j) std::fill_n(dk + j * g.dk.stride(0), width(), T(0));
    for (index_t i = 0; i < range.queries; ++i) {
      for_each_run(seen(i, k0), [&](index_t first, index_t last) {
        const T* dr = dot_gradients(i, k0 + first, last - first, nullptr);
        kernels::tile_gemm<T>(
            {last - first, width(), heads()}, {dr, 1, last - first}, query(i),
            {dk + first * g.dk.stride(0), g.dk.stride(0), kernels::start::from_c});
      });
    }
  }
};

struct weight_sums;

}  // namespace cpu_indexer

template <class In, class DS, class G, class Spec>
requires cpu_attention::one_type<decltype(In::q), decltype(In::k), decltype(In::w), DS,
                                 decltype(G::dq), decltype(G::dk), decltype(G::dw)>
void lightning_indexer_backward_impl(const cpu& b, const In& in, const DS& dscores, const G& g,
                                     const Spec& spec) {
  namespace indexer = cpu_indexer;
  using T = typename DS::value_type;
  const index_t heads = in.q.extent(1);
  if (!unit_rows(g.dq, g.dk) || heads == 0 || in.q.extent(2) == 0) {
    return lightning_indexer_backward_impl(static_cast<const reference&>(b), in, dscores, g, spec);
  }
  for (index_t s = 0; s < sequence_count(spec); ++s) {
    const auto range = sequence_range(spec, s, in.q.extent(0), in.k.extent(0));
    const auto pattern = bind_pattern(spec.pattern, scope_of(range, 0));
    const indexer::backward_pass<T, In, DS, G, std::remove_const_t<decltype(pattern)>> pass{
        in, dscores, g, pattern, range, static_cast<T>(spec.scale)};
    b.parallel(range.queries, [&](index_t i) {
      pass.to_query(i, kernels::scratch<indexer::weight_sums, T>(static_cast<std::size_t>(heads)));
    });
    b.parallel(chunks_of(range.keys, indexer::keys_per_run),
               [&](index_t chunk) { pass.to_keys(chunk * indexer::keys_per_run); });
  }
}

}  // namespace deepseek
