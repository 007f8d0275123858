// SPDX-License-Identifier: Apache-2.0
// Rows whose squares overflow: numbers of a row times a factor near the largest number. What a norm
// gives is the same as without the factor, but for eps, and its dx is that one divided by it.
#pragma once

#include "deepseek/backend/cpu/context.hpp"

#include <cmath>
#include <vector>

#include <doctest/doctest.h>

namespace large_rows {

namespace ds = deepseek;

template <class T>
struct rows {
  using matrix = ds::view<T, ds::host, ds::dyn, ds::dyn>;
  using vector_view = ds::view<T, ds::host, ds::dyn>;
  static constexpr ds::index_t count = 3;
  ds::index_t n;
  std::vector<T> x, dy, y, dx, w, dw, more;
  rows(ds::index_t width, double factor) : n(width) {
    const auto size = static_cast<std::size_t>(count * n);
    for (auto* v : {&x, &dy, &y, &dx}) v->resize(size);
    for (auto* v : {&w, &dw, &more}) v->resize(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < size; ++i) {
      x[i] = static_cast<T>(static_cast<T>(std::sin(2.0 * static_cast<double>(i) + 0.3)) * factor);
      dy[i] = static_cast<T>(std::cos(3.0 * static_cast<double>(i)));
    }
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<T>(1 + 0.25 * double(i % 5));
  }
  matrix of(std::vector<T>& v) { return {v.data(), {count, n}}; }
  vector_view vector(std::vector<T>& v) { return {v.data(), {n}}; }
};

template <class T>
void check_close(const std::vector<T>& got, const std::vector<T>& want, double factor) {
  constexpr double allowed = sizeof(T) == 8 ? 1e-12 : sizeof(T) == 4 ? 2e-5 : 0.05;
  double worst = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst = std::fmax(worst, std::fabs(static_cast<double>(got[i]) * factor - double(want[i])));
    size = std::fmax(size, std::fabs(static_cast<double>(want[i])));
    if (std::isnan(static_cast<double>(got[i]))) worst = HUGE_VAL;
  }
  CHECK(size > 0);
  CHECK(worst <= allowed * size);
}

// run(backend, rows) makes y, dx, dw of x, dy, w, with an eps that is nothing beside the squares.
template <class T, class Run>
void check(const std::vector<double>& factors, const Run& run) {
  const auto each = [&](const auto& b) {
    for (const ds::index_t n : {1, 33, 2100, 20000}) {  // held by one thread, a warp, a block, none
      rows<T> plain(n, 1);
      run(b, plain);
      for (const double factor : factors) {
        rows<T> large(n, factor);
        run(b, large);
        check_close(large.y, plain.y, 1);
        if (n > 1) check_close(large.dw, plain.dw, 1);
        if (n > 1 && factor < 1e37) check_close(large.dx, plain.dx, factor);  // else too small
      }
    }
  };
  each(ds::reference{});
  each(ds::cpu{});
}

}  // namespace large_rows
