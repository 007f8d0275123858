// SPDX-License-Identifier: Apache-2.0
// pool on the device: a thread adds the rows of its sequence and column in order, neighbours on
// neighbouring columns; backward a team for each row, which finds its sequence by halving. See
// ops/pool.hpp.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/cuda/offset_checks.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/pool.hpp"

namespace deepseek {

namespace cuda_pool {

// Rows first .. end - 1 of sequence s; an empty view of offsets: all rows.
struct bounds {
  index_t first, end;
};
template <class Offsets>
DEEPSEEK_HOST_DEVICE bounds bounds_of(const Offsets& offsets, index_t s, index_t rows) {
  if (offsets.extent(0) == 0) return {0, rows};
  return {offsets(s), offsets(s + 1)};
}

template <class X, class Offsets, class Y>
struct forward {
  X x;
  Offsets offsets;
  pooled_row how;
  Y y;
  fault_place faults;
  DEEPSEEK_HOST_DEVICE void operator()(index_t e) const {
    using T = typename Y::value_type;
    using A = accumulate_t<T>;
    if (faults.found()) return;
    const index_t s = e / y.extent(1), d = e % y.extent(1);
    const bounds r = bounds_of(offsets, s, x.extent(0));
    if (how != pooled_row::mean) {
      y(s, d) = convert_to<T>(x(how == pooled_row::first ? r.first : r.end - 1, d));
      return;
    }
    A sum = 0;
    for (index_t i = r.first; i < r.end; ++i) sum += convert_to<A>(x(i, d));
    y(s, d) = convert_to<T>(sum / static_cast<A>(r.end - r.first));
  }
};

template <class DY, class Offsets, class DX>
struct backward {
  DY dy;
  Offsets offsets;
  pooled_row how;
  DX dx;
  fault_place faults;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    using T = typename DX::value_type;
    using A = accumulate_t<T>;
    if (faults.found()) return;
    const index_t s = offsets.extent(0) > 0 ? sequence_of(offsets, row) : 0;
    const bounds r = bounds_of(offsets, s, dx.extent(0));
    const bool mean = how == pooled_row::mean;
    const bool taken = mean || row == (how == pooled_row::first ? r.first : r.end - 1);
    const A share = mean ? static_cast<A>(r.end - r.first) : A(1);
    for (index_t d = team.rank(); d < dx.extent(1); d += team.size()) {
      dx(row, d) = taken ? convert_to<T>(convert_to<A>(dy(s, d)) / share) : convert_to<T>(A(0));
    }
  }
};

template <DeviceBackend B, class Offsets>
void check(const B& b, const Offsets& offsets, index_t rows, const char* object) {
  if (offsets.extent(0) == 0) return;
  check_offsets(b, offsets, rows, object, cuda_offsets::empty_sequence::refused);
}

}  // namespace cuda_pool

template <DeviceBackend B, class X, class Offsets, class Y>
void pool_impl(const B& b, const X& x, const Offsets& offsets, pooled_row how, const Y& y) {
  cuda_pool::check(b, offsets, x.extent(0), "pool: offsets");
  run_each_element(b, y.size(), cuda_pool::forward<X, Offsets, Y>{x, offsets, how, y, b.faults()});
}
template <DeviceBackend B, class DY, class Offsets, class DX>
void pool_backward_impl(const B& b, const DY& dy, const Offsets& offsets, pooled_row how,
                        const DX& dx) {
  cuda_pool::check(b, offsets, dx.extent(0), "pool_backward: offsets");
  run_each_row(b, dx.extent(0), dx.extent(1),
               cuda_pool::backward<DY, Offsets, DX>{dy, offsets, how, dx, b.faults()});
}

}  // namespace deepseek
