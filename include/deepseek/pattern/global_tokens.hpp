// SPDX-License-Identifier: Apache-2.0
// Tokens that see all keys and that all queries see.
//   global_tokens<N>   the first N positions
//   global_set         positions listed in a table of this run, positions[count] int32, ascending;
//                      it borrows the table, which must outlive it and live in the backend's memory
// Alone they show nothing else: either<local<64>, global_tokens<2>> is the usual whole. Errors of
// global_set: invalid_argument (not ascending, negative). Cost: n keys of a global query, N of
// others. Source: Beltagy et al. 2020 (Longformer), section 3.1; there global tokens have
// projections of their own, which is the layer's part, not the pattern's.
#pragma once

#include "deepseek/core/view.hpp"
#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

template <index_t N>
struct global_tokens {
  static_assert(N >= 0, "deepseek::global_tokens: the number is negative; write 0 or more");

  DEEPSEEK_HOST_DEVICE static constexpr bool visible(index_t q, index_t k) {
    return (q >= 0 && q < N) || k < N;
  }
  DEEPSEEK_HOST_DEVICE static constexpr coverage cover(const tile& t) {
    if (t.k1 <= N || (t.q0 >= 0 && t.q1 <= N)) return coverage::full;
    return t.k0 < N || meets(t.q0, t.q1) ? coverage::partial : coverage::none;
  }
  DEEPSEEK_HOST_DEVICE static constexpr key_span next_keys(index_t q0, index_t q1, index_t from) {
    if (meets(q0, q1)) return {from, no_key};
    return from < N ? key_span{from, N} : key_span{};
  }
  DEEPSEEK_HOST_DEVICE static constexpr std::uint64_t row_bits(index_t q, index_t k0) {
    return q >= 0 && q < N ? ~std::uint64_t{0} : span_bits(0, N, k0);
  }

 private:
  DEEPSEEK_HOST_DEVICE static constexpr bool meets(index_t q0, index_t q1) {
    return (q0 > 0 ? q0 : 0) < (q1 < N ? q1 : N);
  }
};

struct global_set {
  const std::int32_t* data = nullptr;
  index_t count = 0, stride = 1;

  global_set() = default;
  template <class T, class S, index_t N>
  explicit global_set(const view<T, S, N>& positions)
      : data(positions.data()), count(positions.extent(0)), stride(positions.stride(0)) {}

  void check(const pattern_scope&) const {
    for (index_t i = 0; i < count; ++i) {
      require(at(i) >= 0 && (i == 0 || at(i) > at(i - 1)), error_code::invalid_argument,
              "global_set: positions[", i, "] is ", at(i),
              "; pass positions >= 0, ascending, each once");
    }
  }

  DEEPSEEK_HOST_DEVICE bool visible(index_t q, index_t k) const {
    return among(q, q + 1) > 0 || among(k, k + 1) > 0;
  }
  DEEPSEEK_HOST_DEVICE coverage cover(const tile& t) const {
    const index_t queries = among(t.q0, t.q1), keys = among(t.k0, t.k1);
    if (queries == t.q1 - t.q0 || keys == t.k1 - t.k0) return coverage::full;
    return queries > 0 || keys > 0 ? coverage::partial : coverage::none;
  }
  DEEPSEEK_HOST_DEVICE key_span next_keys(index_t q0, index_t q1, index_t from) const {
    if (among(q0, q1) > 0) return {from, no_key};
    const index_t i = below(from);
    return i < count ? key_span{at(i), at(i) + 1} : key_span{};
  }
  DEEPSEEK_HOST_DEVICE std::uint64_t row_bits(index_t q, index_t k0) const {
    if (among(q, q + 1) > 0) return ~std::uint64_t{0};
    std::uint64_t bits = 0;
    for (index_t i = below(k0); i < count && at(i) < k0 + 64; ++i) {
      bits |= std::uint64_t{1} << (at(i) - k0);
    }
    return bits;
  }

 private:
  DEEPSEEK_HOST_DEVICE index_t at(index_t i) const { return data[i * stride]; }
  // How many listed positions are less than `position`.
  DEEPSEEK_HOST_DEVICE index_t below(index_t position) const {
    index_t low = 0, high = count;
    while (low < high) {
      const index_t middle = low + (high - low) / 2;
      at(middle) < position ? low = middle + 1 : high = middle;
    }
    return low;
  }
  DEEPSEEK_HOST_DEVICE index_t among(index_t first, index_t last) const {
    return below(last) - below(first);
  }
};

}  // namespace deepseek
