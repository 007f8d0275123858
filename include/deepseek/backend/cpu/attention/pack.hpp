// SPDX-License-Identifier: Apache-2.0
// Operands of attention as the register tiles read them (kernels/gemm_tile.hpp): rows with a padded
// stride, and panels [columns / 2 registers][steps][2 registers], zero outside. Any strides;
// 16-bit elements are widened.
#pragma once

#include "deepseek/backend/cpu/kernels/gemm_pack.hpp"
#include "deepseek/backend/cpu/kernels/scratch.hpp"
#include "deepseek/backend/cpu/simd_narrow.hpp"
#include "deepseek/core/view.hpp"

#include <type_traits>

namespace deepseek::cpu_attention {

template <class T>
inline constexpr index_t panel = kernels::tile_size<T>::columns;
template <class T>
inline constexpr index_t strip_rows = kernels::tile_size<T>::rows;
// Rows of the next strip where `left` are left: 64 are 4 x 12 + 2 x 8, for a tile of 4 is slow.
template <class T>
constexpr index_t next_strip(index_t left) {
  constexpr index_t most = strip_rows<T>;
  if (left <= most) return left;
  return most > 8 && left < most + 8 ? 8 : most;
}
template <class T>
struct register_strips {
  static constexpr index_t most = strip_rows<T>, together = 1;  // strips whose scores are kept
  static constexpr index_t next(index_t left) { return next_strip<T>(left); }
};
template <class T>
inline constexpr index_t lanes = simd::pack<T>::width;

constexpr index_t round_up(index_t n, index_t step) {
  return (n + step - 1) / step * step;
}
// Elements between two rows of n elements: rows 4 KiB apart would evict each other.
template <class T>
constexpr index_t row_size(index_t n) {
  return round_up(n, panel<T>) + lanes<T>;
}
// The same for what is kept of many tiles: as little memory as that allows.
template <class T>
constexpr index_t tight_row(index_t n) {
  const index_t whole = round_up(n, panel<T>);
  return whole * static_cast<index_t>(sizeof(T)) % 2048 == 0 ? whole + lanes<T> : whole;
}

// One row of a view [tokens, heads, width].
template <class T>
struct strided_row {
  T* data;
  index_t stride;
};
template <class View>
auto row_of(const View& v, index_t token, index_t head) {
  using T = typename View::element_type;
  return strided_row<T>{v.data() + token * v.stride(0) + head * v.stride(1), v.stride(2)};
}

// Elements widened, or as they are.
template <class T, class E>
DEEPSEEK_INLINE void read_row(strided_row<const E> from, index_t n, T* to) {
  if (from.stride != 1) {
    for (index_t i = 0; i < n; ++i) to[i] = static_cast<T>(from.data[i * from.stride]);
  } else if constexpr (std::is_same_v<T, float>) {
    // Written out, not memmove: the misses of several rows then overlap.
    for (index_t i = 0; i < n; i += lanes<T>) {
      simd::load_as_float(from.data + i, n - i).store_up_to(to + i, n - i);
    }
  } else if constexpr (std::is_same_v<T, double>) {
    static_assert(std::is_same_v<E, double>);
    for (index_t i = 0; i < n; i += lanes<T>) {
      simd::pack<T>::load_up_to(from.data + i, n - i).store_up_to(to + i, n - i);
    }
  } else {
    static_assert(std::is_same_v<E, T>);
    std::copy_n(from.data, n, to);
  }
}
template <class T, class E>
void write_row(const T* from, index_t n, strided_row<E> to) {
  if (to.stride != 1) {
    for (index_t i = 0; i < n; ++i) to.data[i * to.stride] = static_cast<E>(from[i]);
  } else if constexpr (std::is_same_v<T, E>) {
    std::copy_n(from, n, to.data);
  } else {
    for (index_t i = 0; i < n; i += lanes<T>) {
      simd::store_from_float(to.data + i, simd::pack<T>::load_up_to(from + i, n - i), n - i);
    }
  }
}

// Row i of `count` rows of n elements, spread over panels of `steps` rows.
template <class T, class E>
void spread_row(strided_row<const E> from, index_t n, index_t i, index_t steps, T* panels) {
  for (index_t c = 0; c < n; c += panel<T>) {
    T* to = panels + c * steps + i * panel<T>;
    const index_t here = std::min(panel<T>, n - c);
    read_row<T>(strided_row<const E>{from.data + c * from.stride, from.stride}, here, to);
    if (here < panel<T>) std::fill(to + here, to + panel<T>, T(0));
  }
}

// Rows first .. first + count - 1 of one head as panels of `steps` >= count rows.
template <class View, class T>
void pack_rows(const View& v, index_t first, index_t head, index_t count, index_t steps, T* out) {
  for (index_t i = 0; i < count; ++i) {
    spread_row<T>(row_of(v, first + i, head), v.extent(2), i, steps, out);
  }
}

struct widened_memory;

// The same rows turned: panels whose columns are the rows.
template <class View, class T>
void pack_columns(const View& v, index_t first, index_t head, index_t count, T* out) {
  const index_t n = v.extent(2), row = row_size<T>(n);
  if constexpr (std::is_same_v<typename View::value_type, T>) {
    const kernels::operand<T> turned{row_of(v, first, head).data, v.stride(2), v.stride(0)};
    kernels::pack_panels(turned, n, count, out);
  } else {
    T* const wide = kernels::scratch<widened_memory, T>(static_cast<std::size_t>(count * row));
    for (index_t i = 0; i < count; ++i) read_row<T>(row_of(v, first + i, head), n, wide + i * row);
    kernels::pack_panels(kernels::operand<T>{wide, 1, row}, n, count, out);
  }
}
// One of them, as column j.
template <class T, class E>
void pack_column(strided_row<const E> from, index_t n, index_t j, T* out) {
  T* to = out + j / panel<T> * panel<T> * n + j % panel<T>;
  for (index_t i = 0; i < n; ++i) to[i * panel<T>] = static_cast<T>(from.data[i * from.stride]);
}

// No NaN and no infinity in the first `rows` rows of panels of `steps` rows, `columns` wide.
template <class T>
bool panels_finite(const T* panels, index_t steps, index_t rows, index_t columns) {
  auto sum = simd::pack<T>::zero();
  const auto zero = simd::pack<T>::zero();
  for (index_t c = 0; c < columns; c += panel<T>) {
    for (index_t i = 0; i < rows * panel<T>; i += lanes<T>) {
      sum = fma(simd::pack<T>::load(panels + c * steps + i), zero, sum);
    }
  }
  return reduce_sum(sum) == T(0);
}

// One more link of a register tile's chain, for one element.
template <class T>
T chain(T a, T b, T c) {
  if constexpr (simd::has_fma) {
    return std::fma(a, b, c);
  } else {
    volatile T product = a * b;
    return product + c;
  }
}

// x in the lanes whose bit is set, else other; bits beyond the lanes are ignored.
template <class T>
DEEPSEEK_INLINE simd::pack<T> select_bits(std::uint64_t bits, simd::pack<T> x,
                                          simd::pack<T> other) {
  using integer = simd::integer_of<T>;
  using integers = simd::vector<integer>;
  integers lane{};
  simd::unrolled<static_cast<int>(lanes<T>)>([&](auto i) __attribute__((always_inline)) {
    constexpr int at = decltype(i)::value;
    lane[at] = integer{1} << at;
  });
  constexpr std::uint64_t low = (std::uint64_t{1} << lanes<T>)-1;
  const integers hit = (integers{} + static_cast<integer>(bits & low)) & lane;
  return {hit != integers{} ? x.v : other.v};
}

// C[rows, columns] = or += A B in register tiles; A and C hold whole strips, C whole registers.
template <class T>
struct product {
  const T* a;
  index_t a_row, a_step;
  const T* panels;      // of `panel_steps` rows, the first of which is step 0
  index_t panel_steps;  // >= steps
  index_t steps;
  T* c;
  index_t c_row;
};

template <class T>
void multiply_strip(const product<T>& p, index_t rows, index_t first_column, index_t columns,
                    kernels::start from) {
  for (index_t c = first_column / panel<T> * panel<T>; c < columns; c += panel<T>) {
    const kernels::tile_operands<T> o{p.a,      p.a_row, p.a_step, p.panels + c * p.panel_steps,
                                      panel<T>, p.steps, p.c + c,  p.c_row,
                                      from};
    if (columns - c > lanes<T>) {
      kernels::multiply_padded_rows<T, 2>(o, static_cast<int>(rows));
    } else {
      kernels::multiply_padded_rows<T, 1>(o, static_cast<int>(rows));
    }
  }
}

}  // namespace deepseek::cpu_attention
