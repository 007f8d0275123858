// SPDX-License-Identifier: Apache-2.0
// Prepacked weights give the bits of the unpacked product.
#include "deepseek/backend/cpu/kernels/gemm_packed.hpp"

#include <doctest/doctest.h>

#include "gemm_oracle.hpp"

using deepseek::thread_pool;
using namespace gemm_oracle;

TEST_CASE_TEMPLATE("gemm_packed: the chain of gemm, every shape, stride and thread count", T, float,
                   double) {
  for (int threads : {1, 2, 3}) {
    thread_pool pool(threads);
    for (std::ptrdiff_t m : {0, 1, 2, 7, 12, 13, 100, 250}) {
      for (std::ptrdiff_t n : {0, 1, 15, 32, 33, 150}) {
        for (std::ptrdiff_t depth : {0, 1, 31, 300}) {
          for (bool turned : {false, true}) {
            framed<T> a(m, depth, !turned), b(depth, n, turned), c(m, n);
            a.fill(1), b.fill(2), c.fill(3);
            const framed<T> before = c;
            std::vector<T> panels(static_cast<std::size_t>(k::packed_size<T>(depth, n)) + 1, T(77));
            k::pack_weights(pool, b.view(), {0, n, depth}, panels.data());
            REQUIRE(panels.back() == T(77));
            const auto from = turned ? k::start::zero : k::start::from_c;
            k::gemm_packed<T>(pool,
                              {{m, n, depth}, a.view(), panels.data(), {c.data(), c.row, from}});
            REQUIRE(differing(a, b, c, turned ? nullptr : &before) + c.damage() == 0);
          }
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("gemm_packed: the epilogue is that of gemm", T, float, double) {
  thread_pool pool(2);
  framed<T> a(70, 90), b(90, 80, true), c(70, 80), d(70, 80), bias(1, 80), residual(70, 80);
  a.fill(1), b.fill(2), bias.fill(3), residual.fill(4);
  std::vector<T> panels(static_cast<std::size_t>(k::packed_size<T>(90, 80)));
  k::pack_weights(pool, b.view(), {0, 80, 90}, panels.data());
  const k::epilogue<T> then{bias.data(), k::activation::gelu, residual.data(), residual.row};
  k::gemm<T>(pool, {{70, 80, 90}, a.view(), b.view(), {c.data(), c.row, k::start::zero, then}});
  k::gemm_packed<T>(
      pool, {{70, 80, 90}, a.view(), panels.data(), {d.data(), d.row, k::start::zero, then}});
  int differ = 0;
  for (std::ptrdiff_t i = 0; i < 70; ++i) {
    for (std::ptrdiff_t j = 0; j < 80; ++j) differ += c.at(i, j) != d.at(i, j);
  }
  CHECK(differ == 0);
}
