// SPDX-License-Identifier: Apache-2.0
// documents: several texts stand behind one another in one sequence; a query sees the keys of its
// own. Made at run time from offsets[documents + 1] int32: document d has positions offsets[d] ..
// offsets[d + 1] - 1; a position beyond the last offset belongs to none and sees nothing. It
// borrows the offsets, which must outlive it and live in the backend's memory; it allocates
// nothing. Both directions; both<causal, documents>(causal{}, documents(offsets)) looks back only.
// (Rows of several *sequences*, each with positions from 0, are attention_spec's query_offsets.)
// Errors: offsets (not from 0, falling), shape_mismatch (fewer positions than keys). Cost of a
// question: log of the number of documents.
#pragma once

#include "deepseek/core/view.hpp"
#include "deepseek/pattern/pattern.hpp"

#include <span>
#include <vector>

namespace deepseek {

// The offsets of texts of these lengths. Errors: invalid_argument (negative), overflow.
inline std::vector<std::int32_t> document_offsets(std::span<const index_t> lengths) {
  std::vector<std::int32_t> offsets{0};
  offsets.reserve(lengths.size() + 1);
  for (const index_t length : lengths) {
    require(length >= 0, error_code::invalid_argument, "document_offsets: a length is ", length,
            "; pass lengths >= 0");
    const index_t end = offsets.back() + length;
    require(end <= std::numeric_limits<std::int32_t>::max(), error_code::overflow,
            "document_offsets: ", end, " positions; pass less than 2^31");
    offsets.push_back(static_cast<std::int32_t>(end));
  }
  return offsets;
}

struct documents {
  const std::int32_t* data = nullptr;
  index_t count = 0, stride = 1;  // count: of documents

  documents() = default;
  template <class T, class S, index_t N>
  explicit documents(const view<T, S, N>& offsets)
      : data(offsets.data()), count(offsets.extent(0) - 1), stride(offsets.stride(0)) {}

  void check(const pattern_scope& scope) const {
    require(count >= 0 && data != nullptr && at(0) == 0, error_code::offsets,
            "documents: the offsets do not begin with 0; pass documents + 1 of them");
    for (index_t d = 0; d < count; ++d) {
      require(at(d) <= at(d + 1), error_code::offsets, "documents: offsets[", d + 1, "] is ",
              at(d + 1), ", less than ", at(d), " before it; a document has >= 0 positions");
    }
    require(at(count) >= scope.keys, error_code::shape_mismatch, "documents: offsets end at ",
            at(count), " for ", scope.keys, " keys; pass offsets of all positions");
  }

  DEEPSEEK_HOST_DEVICE bool visible(index_t q, index_t k) const {
    const index_t own = of(q);
    return own >= 0 && k >= at(own) && k < at(own + 1);
  }
  DEEPSEEK_HOST_DEVICE coverage cover(const tile& t) const {
    const key_span seen = next_keys(t.q0, t.q1, t.k0);
    if (seen.first >= t.k1) return coverage::none;
    const index_t first = of(t.q0);
    const bool one = first >= 0 && first == of(t.q1 - 1);
    return one && at(first) <= t.k0 && t.k1 <= at(first + 1) ? coverage::full : coverage::partial;
  }
  DEEPSEEK_HOST_DEVICE key_span next_keys(index_t q0, index_t q1, index_t from) const {
    if (count <= 0) return {};
    const index_t begin = q0 > 0 ? q0 : 0, end = q1 < at(count) ? q1 : at(count);
    if (begin >= end) return {};
    const index_t first = at(of(begin)), last = at(of(end - 1) + 1);
    const index_t start = first > from ? first : from;
    return start < last ? key_span{start, last} : key_span{};
  }
  DEEPSEEK_HOST_DEVICE std::uint64_t row_bits(index_t q, index_t k0) const {
    const index_t own = of(q);
    return own < 0 ? 0 : span_bits(at(own), at(own + 1), k0);
  }

 private:
  DEEPSEEK_HOST_DEVICE index_t at(index_t d) const { return data[d * stride]; }
  // The document of a position, -1: none.
  DEEPSEEK_HOST_DEVICE index_t of(index_t position) const {
    if (count <= 0 || position < 0 || position >= at(count)) return -1;
    index_t low = 0, high = count - 1;  // the last document that begins at or before position
    while (low < high) {
      const index_t middle = low + (high - low + 1) / 2;
      at(middle) <= position ? low = middle : high = middle - 1;
    }
    return low;
  }
};

}  // namespace deepseek
