// SPDX-License-Identifier: Apache-2.0
// pool on the reference backend, sequence by sequence; see ops/pool.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/pool.hpp"

namespace deepseek {

struct sequence_rows {
  index_t begin, end;
};

// The rows of sequence s; an empty view of offsets: all of them.
template <class Offsets>
sequence_rows rows_of_sequence(const Offsets& offsets, index_t s, index_t rows) {
  if (offsets.extent(0) == 0) return {0, rows};
  return {offsets(s), offsets(s + 1)};
}

// Before anything is written: rising offsets, no sequence without rows.
template <class Offsets>
void require_pooled(const Offsets& offsets, index_t rows, const char* object) {
  if (offsets.extent(0) == 0) return;
  require_offsets(offsets, rows, object);
  for (index_t s = 0; s + 1 < offsets.extent(0); ++s) {
    require(offsets(s) < offsets(s + 1), error_code::offsets, object, "[", s + 1, "] is ",
            offsets(s + 1), " like the one before it: sequence ", s,
            " has no rows to pool; leave it out");
  }
}

template <class X, class Row>
void pool_sequence(const X& x, sequence_rows r, pooled_row how, const Row& y) {
  using T = typename Row::value_type;
  using A = accumulate_t<T>;
  for (index_t d = 0; d < y.extent(0); ++d) {
    if (how == pooled_row::mean) {
      A sum = 0;
      for (index_t i = r.begin; i < r.end; ++i) sum += convert_to<A>(x(i, d));
      y(d) = convert_to<T>(sum / static_cast<A>(r.end - r.begin));
    } else {
      y(d) = convert_to<T>(x(how == pooled_row::first ? r.begin : r.end - 1, d));
    }
  }
}

template <class Row, class DX>
void pool_sequence_backward(const Row& dy, sequence_rows r, pooled_row how, const DX& dx) {
  using T = typename DX::value_type;
  using A = accumulate_t<T>;
  const A share = how == pooled_row::mean ? static_cast<A>(r.end - r.begin) : A(1);
  for (index_t i = r.begin; i < r.end; ++i) {
    const bool taken =
        how == pooled_row::mean || (how == pooled_row::first ? i == r.begin : i + 1 == r.end);
    for (index_t d = 0; d < dy.extent(0); ++d) {
      dx(i, d) = taken ? convert_to<T>(convert_to<A>(dy(d)) / share) : T(0);
    }
  }
}

template <class X, class Offsets, class Y>
void pool_impl(const reference&, const X& x, const Offsets& offsets, pooled_row how, const Y& y) {
  require_pooled(offsets, x.extent(0), "pool: offsets");
  for (index_t s = 0; s < y.extent(0); ++s) {
    pool_sequence(x, rows_of_sequence(offsets, s, x.extent(0)), how, slice(y, s));
  }
}

template <class DY, class Offsets, class DX>
void pool_backward_impl(const reference&, const DY& dy, const Offsets& offsets, pooled_row how,
                        const DX& dx) {
  require_pooled(offsets, dx.extent(0), "pool_backward: offsets");
  for (index_t s = 0; s < dy.extent(0); ++s) {
    pool_sequence_backward(slice(dy, s), rows_of_sequence(offsets, s, dx.extent(0)), how, dx);
  }
}

}  // namespace deepseek
