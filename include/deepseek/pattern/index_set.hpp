// SPDX-License-Identifier: Apache-2.0
// index_set: each query sees the keys that a table lists for it: ids[rows, count] int32, row r the
// keys of the batch's query row r, negative = none, the same for all heads. Made at run time, by a
// top-k over scores for instance. It borrows the table, which must outlive it and live in the
// backend's memory. Ids are positions in the query's own sequence; an id beyond its keys shows
// nothing, and one listed twice counts once. index_order::ascending promises rows that ascend, with
// the negative ones last: questions then cost log(count), else count.
// index_set::shared(ids[count]): one list for all queries (of every sequence).
// Cost of attention: the key tiles that hold a listed key, or the listed rows alone where a backend
// gathers them (ascending lists that many heads share). Source: DeepSeek-V3.2-Exp 2025, 2.1.
#pragma once

#include "deepseek/core/view.hpp"
#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

enum class index_order { any, ascending };

struct index_set {
  static constexpr bool alike_in_group = true;

  const std::int32_t* data = nullptr;
  index_t rows = 0, count = 0;
  index_t row_stride = 0, id_stride = 1;
  index_order order = index_order::any;
  pattern_scope scope{};

  index_set() = default;
  template <class T, class S, index_t N, index_t M>
  explicit index_set(const view<T, S, N, M>& ids, index_order how = index_order::any)
      : data(ids.data()),
        rows(ids.extent(0)),
        count(ids.extent(1)),
        row_stride(ids.stride(0)),
        id_stride(ids.stride(1)),
        order(how) {}

  template <class T, class S, index_t M>
  static index_set shared(const view<T, S, M>& ids, index_order how = index_order::any) {
    index_set set;
    set.data = ids.data();
    set.rows = no_key;
    set.count = ids.extent(0);
    set.id_stride = ids.stride(0);
    set.order = how;
    return set;
  }

  bool by_row() const { return rows != no_key; }
  DEEPSEEK_HOST_DEVICE index_set bind(const pattern_scope& to) const {
    index_set bound = *this;
    bound.scope = to;
    return bound;
  }

  // The ids of the query at position q; a negative one is larger than any key.
  struct listed {
    const std::int32_t* data;
    index_t count, stride;
    DEEPSEEK_HOST_DEVICE index_t operator()(index_t i) const {
      return static_cast<index_t>(static_cast<std::uint32_t>(data[i * stride]));
    }
  };
  DEEPSEEK_HOST_DEVICE listed of(index_t q) const {
    const index_t row = scope.row + q - scope.start;
    if (row < 0 || row >= rows) return {nullptr, 0, 0};
    return {data + row * row_stride, count, id_stride};
  }

  DEEPSEEK_HOST_DEVICE bool visible(index_t q, index_t k) const {
    const listed ids = of(q);
    for (index_t i = first_from(ids, k); i < ids.count; ++i) {
      if (ids(i) == k) return true;
      if (order == index_order::ascending) break;
    }
    return false;
  }
  DEEPSEEK_HOST_DEVICE std::uint64_t row_bits(index_t q, index_t k0) const {
    const listed ids = of(q);
    std::uint64_t bits = 0;
    for (index_t i = first_from(ids, k0); i < ids.count; ++i) {
      const index_t k = ids(i);
      if (k >= k0 && k < k0 + 64) bits |= std::uint64_t{1} << (k - k0);
      if (order == index_order::ascending && k >= k0 + 64) break;
    }
    return bits;
  }
  DEEPSEEK_HOST_DEVICE coverage cover(const tile& t) const {
    bool some = false, all = true;
    for (index_t q = t.q0; q < t.q1; ++q) {
      for (index_t k0 = t.k0; k0 < t.k1; k0 += 64) {
        const std::uint64_t wanted = span_bits(k0, t.k1, k0), bits = row_bits(q, k0) & wanted;
        some = some || bits != 0;
        all = all && bits == wanted;
        if (some && !all) return coverage::partial;
      }
    }
    return all ? coverage::full : coverage::none;
  }
  DEEPSEEK_HOST_DEVICE key_span next_keys(index_t q0, index_t q1, index_t from) const {
    index_t first = no_key;
    for (index_t q = q0; q < q1; ++q) {
      const listed ids = of(q);
      for (index_t i = first_from(ids, from); i < ids.count; ++i) {
        const index_t k = ids(i);
        if (k >= from && k < first && k <= most_key) first = k;
        if (order == index_order::ascending) break;
      }
    }
    return first == no_key ? key_span{} : key_span{first, first + 1};
  }

 private:
  static constexpr index_t most_key = std::numeric_limits<std::int32_t>::max();

  // Where to begin: the first id that is not below k in an ascending row, else the first of all.
  DEEPSEEK_HOST_DEVICE index_t first_from(const listed& ids, index_t k) const {
    if (order == index_order::any) return 0;
    index_t low = 0, high = ids.count;
    while (low < high) {
      const index_t middle = low + (high - low) / 2;
      ids(middle) < k ? low = middle + 1 : high = middle;
    }
    return low;
  }
};

}  // namespace deepseek
