// SPDX-License-Identifier: Apache-2.0
// gemm bit for bit against the promised chain: sizes around every tile edge, all strides, threads,
// epilogues, groups.
#include "deepseek/backend/cpu/kernels/gemm.hpp"

#include <doctest/doctest.h>

#include "gemm_oracle.hpp"

using deepseek::thread_pool;
using namespace gemm_oracle;

namespace {

template <class T>
constexpr std::ptrdiff_t edges_m[] = {0,
                                      1,
                                      2,
                                      3,
                                      5,
                                      8,
                                      9,
                                      k::tile_size<T>::rows - 1,
                                      k::tile_size<T>::rows,
                                      k::tile_size<T>::rows + 1,
                                      5 * k::tile_size<T>::rows + 7};
template <class T>
constexpr std::ptrdiff_t edges_n[] = {0,
                                      1,
                                      k::tile_size<T>::width - 1,
                                      k::tile_size<T>::width,
                                      k::tile_size<T>::width + 1,
                                      k::tile_size<T>::columns,
                                      k::tile_size<T>::columns + 1,
                                      3 * k::tile_size<T>::columns - 1};
template <class T>
constexpr std::ptrdiff_t edges_k[] = {0, 1, 15, 17, 64};

template <class T>
struct operands {
  framed<T> a, b, c, before;
  operands(k::gemm_shape s, int layout)
      : a(s.m, s.k, (layout & 1) != 0, (layout & 4) != 0),
        b(s.k, s.n, (layout & 2) != 0, (layout & 8) != 0),
        c(s.m, s.n),
        before(s.m, s.n) {
    a.fill(1);
    b.fill(2);
    before = c.fill(3);
  }
  k::gemm_problem<T> problem(k::start from) {
    return {{c.rows, c.columns, a.columns}, a.view(), b.view(), {c.data(), c.row, from, {}}};
  }
};

// Runs one case; returns the number of wrong elements and of damaged ones outside.
template <class T>
std::ptrdiff_t wrong(thread_pool& pool, k::gemm_shape s, int layout, k::start from) {
  operands<T> o(s, layout);
  k::gemm(pool, o.problem(from));
  return differing(o.a, o.b, o.c, from == k::start::from_c ? &o.before : nullptr) + o.c.damage();
}

}  // namespace

TEST_CASE_TEMPLATE("gemm: every element is its chain, at every tile edge and stride", T, float,
                   double) {
  thread_pool one(1), three(3);
  for (std::ptrdiff_t m : edges_m<T>) {
    for (std::ptrdiff_t n : edges_n<T>) {
      for (std::ptrdiff_t depth : edges_k<T>) {
        for (int layout = 0; layout < 16; ++layout) {
          CAPTURE(m);
          CAPTURE(n);
          CAPTURE(depth);
          CAPTURE(layout);
          const auto from = (m + n + layout) % 2 == 0 ? k::start::zero : k::start::from_c;
          REQUIRE(wrong<T>(layout % 3 == 0 ? three : one, {m, n, depth}, layout, from) == 0);
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("gemm: blocks of k, n and m continue the chain", T, float, double) {
  using blocks = k::gemm_blocks<T>;
  for (int threads : {1, 2, 3}) {
    thread_pool pool(threads);
    for (std::ptrdiff_t depth : {blocks::k, blocks::k + 1, 2 * blocks::k + 3}) {
      for (int layout = 0; layout < 4; ++layout) {
        CHECK(wrong<T>(pool, {37, 70, depth}, layout, k::start::from_c) == 0);
        CHECK(wrong<T>(pool, {1, 70, depth}, layout, k::start::zero) == 0);
      }
    }
    CHECK(wrong<T>(pool, {blocks::m + 1, blocks::n + 1, 9}, 2, k::start::zero) == 0);
    CHECK(wrong<T>(pool, {2 * blocks::m + 5, 33, 40}, 1, k::start::from_c) == 0);
  }
}

TEST_CASE_TEMPLATE("gemm: rows whose distance is a multiple of 4 KiB", T, float, double) {
  thread_pool pool(2);
  const std::ptrdiff_t row = 8192 / static_cast<std::ptrdiff_t>(sizeof(T));
  framed<T> a(30, row - 5), b(row - 5, 40, true), c(30, 40);
  REQUIRE(a.row == row);
  a.fill(1), b.fill(2), c.fill(3);
  k::gemm<T>(pool, {{30, 40, row - 5}, a.view(), b.view(), {c.data(), c.row}});
  CHECK(differing(a, b, c, static_cast<framed<T>*>(nullptr)) + c.damage() == 0);
}

TEST_CASE_TEMPLATE("gemm: a row of a batch equals the row alone", T, float, double) {
  thread_pool one(1), two(2);
  for (int layout : {0, 2}) {
    operands<T> o({101, 65, 300}, layout);
    k::gemm(two, o.problem(k::start::zero));
    int differ = 0;
    for (std::ptrdiff_t i = 0; i < 101; i += 7) {
      T alone[65];
      k::gemm<T>(one, {{1, 65, 300}, o.a.view().from(i, 0), o.b.view(), {alone, 65}});
      for (std::ptrdiff_t j = 0; j < 65; ++j) differ += alone[j] != o.c.at(i, j);
    }
    CHECK(differ == 0);
  }
}

TEST_CASE_TEMPLATE("gemm: near the true product", T, float, double) {
  thread_pool pool(2);
  operands<T> o({33, 47, 500}, 0);
  k::gemm(pool, o.problem(k::start::zero));
  double worst = 0;
  for (std::ptrdiff_t i = 0; i < 33; ++i) {
    for (std::ptrdiff_t j = 0; j < 47; ++j) {
      long double sum = 0, size = 0;
      for (std::ptrdiff_t p = 0; p < 500; ++p) {
        const long double term = static_cast<long double>(o.a.at(i, p)) * o.b.at(p, j);
        sum += term;
        size += std::abs(term);
      }
      worst = std::max(worst, static_cast<double>(std::abs(o.c.at(i, j) - sum) / size));
    }
  }
  CHECK(worst <= 501 * double(std::numeric_limits<T>::epsilon()));  // k u, Higham 2002, section 3.1
  CHECK(worst > 0);
}

TEST_CASE_TEMPLATE("gemm: bias, activation and residual after the product", T, float, double) {
  using k::activation;
  for (int threads : {1, 2}) {
    thread_pool pool(threads);
    for (k::gemm_shape s : {k::gemm_shape{1, 5, 3}, {50, 67, 40}, {30, 600, 300}, {4, 33, 0}}) {
      for (auto f : {activation::none, activation::relu, activation::silu, activation::gelu}) {
        operands<T> o(s, 2);
        framed<T> bias(1, s.n), residual(s.m, s.n);
        bias.fill(4), residual.fill(5);
        auto p = o.problem(k::start::zero);
        p.c.then = {bias.data(), f, residual.data(), residual.row};
        k::gemm(pool, p);
        double worst = 0;
        for (std::ptrdiff_t i = 0; i < s.m; ++i) {
          for (std::ptrdiff_t j = 0; j < s.n; ++j) {
            const double x = static_cast<double>(chain(o.a, o.b, i, j, T(0)) + bias.at(0, j));
            const double y = f == activation::relu   ? std::max(x, 0.0)
                             : f == activation::silu ? x / (1 + std::exp(-x))
                             : f == activation::gelu ? x * std::erfc(-x / std::sqrt(2.0)) / 2
                                                     : x;
            const double scale = std::abs(y) + std::abs(static_cast<double>(residual.at(i, j)));
            worst = std::max(worst, std::abs(static_cast<double>(o.c.at(i, j)) - y -
                                             static_cast<double>(residual.at(i, j))) /
                                        scale);
          }
        }
        CHECK(worst <= 16 * double(std::numeric_limits<T>::epsilon()));
        CHECK(o.c.damage() == 0);
      }
    }
  }
}

TEST_CASE_TEMPLATE("gemm: the epilogue of a row is the same wherever the row lies", T, float,
                   double) {
  thread_pool two(2);
  operands<T> o({60, 45, 20}, 0);
  framed<T> bias(1, 45);
  bias.fill(4);
  auto p = o.problem(k::start::zero);
  p.c.then = {bias.data(), k::activation::silu};
  k::gemm(two, p);
  int differ = 0;
  for (std::ptrdiff_t i = 0; i < 60; i += 5) {
    for (std::ptrdiff_t j = 0; j < 45; j += 4) {
      T alone = 0;
      k::gemm<T>(two, {{1, 1, 20},
                       o.a.view().from(i, 0),
                       o.b.view().from(0, j),
                       {&alone, 1, k::start::zero, p.c.then.from(0, j)}});
      differ += alone != o.c.at(i, j);
    }
  }
  CHECK(differ == 0);
}

TEST_CASE_TEMPLATE("gemm: groups in one region equal the products one by one", T, float, double) {
  for (int threads : {1, 2, 3}) {
    thread_pool pool(threads);
    const std::ptrdiff_t rows[] = {0, 1, 50, 300, 13, 0, 128};
    std::vector<operands<T>> all;
    for (std::ptrdiff_t m : rows) all.push_back(operands<T>({m, 64, 96}, 2));
    all.push_back(
        operands<T>({64, 96, 0}, 1));  // the weight gradient of an expert that nobody chose
    std::vector<k::gemm_problem<T>> problems;
    for (auto& o : all) problems.push_back(o.problem(k::start::from_c));
    k::gemm(pool, std::span<const k::gemm_problem<T>>(problems));
    for (auto& o : all) CHECK(differing(o.a, o.b, o.c, &o.before) + o.c.damage() == 0);
    k::gemm(pool, std::span<const k::gemm_problem<T>>());
  }
}

TEST_CASE("gemm: inside a task of the same pool") {
  thread_pool pool(2);
  std::vector<operands<float>> all(4, operands<float>({40, 50, 60}, 2));
  pool.parallel(4, [&](std::ptrdiff_t t) {
    k::gemm(pool, all[static_cast<std::size_t>(t)].problem(k::start::zero));
  });
  for (auto& o : all) CHECK(differing(o.a, o.b, o.c, static_cast<framed<float>*>(nullptr)) == 0);
}
