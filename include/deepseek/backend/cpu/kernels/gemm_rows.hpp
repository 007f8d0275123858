// SPDX-License-Identifier: Apache-2.0
// Many rows of A against one panel of B at a time: rows in strips of nearly equal height, read
// where they are when their steps are neighbours, else from a copy in the order of the steps. The
// panel stays in the second cache level, a strip in the first, while they meet.
#pragma once

#include <algorithm>
#include <cstddef>

#include "deepseek/backend/cpu/kernels/gemm_pack.hpp"
#include "deepseek/backend/cpu/kernels/panel_tile.hpp"
#include "deepseek/backend/cpu/kernels/scratch.hpp"

namespace deepseek::kernels {

// Steps of k that are worked on together.
template <class T>
inline constexpr std::ptrdiff_t panel_depth = 4096 / static_cast<std::ptrdiff_t>(sizeof(T));

template <class T>
struct row_strips {
  static constexpr int most = panel_size<T>::rows;
  std::ptrdiff_t m, count;
  explicit row_strips(std::ptrdiff_t rows) : m(rows), count((rows + most - 1) / most) {}
  // With tiles of 6 rows the last 7 or 8 are two strips from 4 rows on: of 6 and 2 the lower one
  // would have too few sums at once.
  std::ptrdiff_t first(std::ptrdiff_t strip) const {
    const bool shared = most == 6 && count == 2 && (m % most == 1 || m % most == 2);
    return strip * most - (shared && strip == count - 1 ? 2 : 0);
  }
  int rows(std::ptrdiff_t strip) const {
    return static_cast<int>((strip + 1 < count ? first(strip + 1) : m) - first(strip));
  }
};

struct strip_copies;

// All strips of A[m, k], with the scratch memory of this thread where they cannot be read in place:
// steps that are no neighbours, a last strip of a height that is not compiled.
template <class T>
class strips_of {
 public:
  const row_strips<T> strips;

  strips_of(operand<T> a, std::ptrdiff_t m, std::ptrdiff_t k)
      : strips(m), a_(a), k_(k), in_place_(a.column != 1 ? 0 : strips.count - ends_between()) {
    if (in_place_ == strips.count) return;
    copy_ = scratch<strip_copies, T>(static_cast<std::size_t>((strips.count - in_place_) * size()));
    std::ptrdiff_t s = in_place_;
    if (a.row == 1) {
      for (; whole(s + 3); s += 4) copy_whole<4>(s);
      for (; whole(s); ++s) copy_whole<1>(s);
    }
    for (; s < strips.count; ++s) copy(s);
  }
  strip<T> operator[](std::ptrdiff_t s) const {
    if (s < in_place_) return {a_.at(strips.first(s), 0), a_.row, 1};
    return {place(s), 1, row_strips<T>::most};
  }

 private:
  std::ptrdiff_t size() const { return row_strips<T>::most * k_; }
  T* place(std::ptrdiff_t s) const { return copy_ + (s - in_place_) * size(); }
  // 1 where the last strip has a height that is not compiled.
  std::ptrdiff_t ends_between() const {
    const int rows = strips.count > 0 ? strips.rows(strips.count - 1) : 1;
    return rows != padded_panel_rows<T>(rows) ? 1 : 0;
  }
  bool whole(std::ptrdiff_t s) const {
    return s < strips.count && strips.rows(s) == row_strips<T>::most;
  }
  // Strips of full height whose rows are neighbours, side by side: whole lines are read.
  template <int Count>
  void copy_whole(std::ptrdiff_t s) {
    constexpr int pitch = row_strips<T>::most, ahead = 16;
    const T* from = a_.at(strips.first(s), 0);
    T* to = place(s);
    for (std::ptrdiff_t p = 0; p < k_; ++p, from += a_.column, to += pitch) {
      for (int i = 0; i < Count; ++i) {
        const T* const part = from + i * pitch;
        __builtin_prefetch(part + ahead * a_.column);
        __builtin_memcpy(to + i * size(), part, pitch * sizeof(T));
      }
    }
  }
  void copy(std::ptrdiff_t s) {
    constexpr int pitch = row_strips<T>::most;
    const operand<T> from = a_.from(strips.first(s), 0);
    const int rows = strips.rows(s);
    T* to = place(s);
    for (std::ptrdiff_t p = 0; p < k_; ++p, to += pitch) {
      if (a_.row == 1) {
        __builtin_memcpy(to, from.at(0, p), static_cast<std::size_t>(rows) * sizeof(T));
      } else {
        for (int i = 0; i < rows; ++i) to[i] = *from.at(i, p);
      }
      for (int i = rows; i < pitch; ++i) to[i] = T(0);
    }
  }

  operand<T> a_;
  std::ptrdiff_t k_, in_place_;
  T* copy_ = nullptr;
};

// o: the panel, its steps, the first row of C. fetch(strip) says what is fetched meanwhile.
template <class T, class Fetch>
void multiply_rows(const strips_of<T>& a, tile_operands<T> o, int columns, const Fetch& fetch) {
  T* const c = o.c;
  for (std::ptrdiff_t s = 0; s < a.strips.count; ++s) {
    const strip<T> left = a[s];
    o.a = left.data, o.a_row = left.row, o.a_step = left.step;
    o.c = c + a.strips.first(s) * o.c_row;
    multiply_panel(o, a.strips.rows(s), columns, fetch(s));
  }
}

// A constant in memory: g++ makes a temporary of a value by narrow stores and reads it by a wide
// load, which waits until all of C before it is stored.
inline constexpr fetch_plan no_lines{0, nullptr};
inline constexpr auto fetch_nothing = [](std::ptrdiff_t) -> const fetch_plan& { return no_lines; };

}  // namespace deepseek::kernels
