// SPDX-License-Identifier: Apache-2.0
// Integer products against 64-bit loops, extremes and depth limits; quantization of rows against
// the scalar formula.
#include "deepseek/backend/cpu/kernels/int8.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "deepseek/backend/cpu/kernels/quantize.hpp"

namespace k = deepseek::kernels;
using deepseek::thread_pool;

namespace {

struct int8_case {
  k::gemm_shape s;
  std::ptrdiff_t x_row, y_row;
  std::vector<std::uint8_t> x;
  std::vector<std::int8_t> w, panels;
  std::vector<std::int32_t> sums, zeros;
  std::vector<float> row_scales, scales, bias, y;

  explicit int8_case(k::gemm_shape shape)
      : s(shape), x_row(k::padded_depth(s.k) + 8), y_row(s.n + 3) {
    std::mt19937 random(static_cast<unsigned>(s.m + 100 * s.n + 10000 * s.k));
    const auto size = [](std::ptrdiff_t n) { return static_cast<std::size_t>(n); };
    x.resize(size(s.m * x_row + 1), 0xee);  // the padding holds junk: it meets zero weights
    w.resize(size(s.n * s.k));
    for (auto& q : x) q = static_cast<std::uint8_t>(random() & 255);
    for (auto& q : w) q = static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127);
    std::uniform_real_distribution<float> uniform(0.001F, 0.1F);
    for (std::ptrdiff_t i = 0; i < s.m; ++i) {
      row_scales.push_back(uniform(random));
      zeros.push_back(static_cast<std::int32_t>(random() & 255));
    }
    for (std::ptrdiff_t j = 0; j < s.n; ++j) {
      scales.push_back(uniform(random));
      bias.push_back(uniform(random));
    }
    panels.resize(size(deepseek::int8_layout{s.n, s.k}.size()));
    sums.resize(size(s.n));
    y.assign(size(s.m * y_row), std::nanf(""));
  }
  void pack(thread_pool& pool) {
    k::pack_int8(pool, {w.data(), s.k, s.n, s.k}, panels.data(), sums.data());
  }
  k::int8_problem problem(std::ptrdiff_t step, const float* b) {
    return {s,
            x.data(),
            x_row,
            {row_scales.data(), zeros.data(), step},
            panels.data(),
            sums.data(),
            scales.data(),
            b,
            y.data(),
            y_row};
  }
  // Elements that differ from the formula, and numbers written outside [m, n].
  int wrong(std::ptrdiff_t step, const float* b) const {
    int count = 0;
    for (std::ptrdiff_t i = 0; i < s.m; ++i) {
      for (std::ptrdiff_t j = 0; j < y_row; ++j) {
        const float got = y[static_cast<std::size_t>(i * y_row + j)];
        count += j < s.n ? got != expected(i, j, step, b) : !std::isnan(got);
      }
    }
    return count;
  }
  float expected(std::ptrdiff_t i, std::ptrdiff_t j, std::ptrdiff_t step, const float* b) const {
    const auto r = static_cast<std::size_t>(i * step);
    std::int64_t sum = 0;
    for (std::ptrdiff_t p = 0; p < s.k; ++p) {
      sum += std::int64_t(x[static_cast<std::size_t>(i * x_row + p)] - zeros[r]) *
             w[static_cast<std::size_t>(j * s.k + p)];
    }
    const float scale = scales[static_cast<std::size_t>(j)] * row_scales[r],
                add = b == nullptr ? 0.0F : b[j];
    if constexpr (deepseek::simd::has_fma) return std::fma(static_cast<float>(sum), scale, add);
    volatile float product = static_cast<float>(sum) * scale;
    return product + add;
  }
};

std::uint8_t quantized(float x, float scale, int zero) {
  return static_cast<std::uint8_t>(
      std::clamp(std::nearbyint(static_cast<double>(x / scale)) + zero, 0.0, 255.0));
}

}  // namespace

TEST_CASE("int8: exact at every tile edge, scale per row or for all, with and without bias") {
  for (int threads : {1, 2, 3}) {
    thread_pool pool(threads);
    for (std::ptrdiff_t m : {0, 1, 2, 3, 4, 7, 11, 12, 13, 60, 200}) {
      for (std::ptrdiff_t n : {0, 1, 15, 16, 17, 32, 33, 100}) {
        for (std::ptrdiff_t depth : {0, 1, 3, 4, 5, 64, 131}) {
          int8_case c({m, n, depth});
          c.pack(pool);
          k::gemm_int8(pool, c.problem(1, c.bias.data()));
          REQUIRE(c.wrong(1, c.bias.data()) == 0);
          if (m == 0) continue;
          k::gemm_int8(pool, c.problem(0, nullptr));
          REQUIRE(c.wrong(0, nullptr) == 0);
        }
      }
    }
  }
}

TEST_CASE("int8: exact over several blocks of rows and of k") {
  thread_pool pool(2);
  int8_case c({530, 100, 2203});
  c.pack(pool);
  k::gemm_int8(pool, c.problem(1, c.bias.data()));
  CHECK(c.wrong(1, c.bias.data()) == 0);
}

TEST_CASE("int8: the deepest product with the largest bytes fits 32 bits; one more is an error") {
  thread_pool pool(1);
  CHECK(k::most_int8_depth == 66311);
  int8_case c({1, 2, k::most_int8_depth});
  std::fill(c.x.begin(), c.x.end(), std::uint8_t(255));
  std::fill(c.w.begin(), c.w.begin() + c.s.k, std::int8_t(127));
  std::fill(c.w.begin() + c.s.k, c.w.end(), std::int8_t(-127));
  c.zeros[0] = 0;
  c.pack(pool);
  k::gemm_int8(pool, c.problem(1, nullptr));
  CHECK(c.wrong(1, nullptr) == 0);
  int8_case deep({1, 1, k::most_int8_depth + 1});
  try {
    deep.pack(pool);
    FAIL("no error");
  } catch (const deepseek::error& e) {
    CHECK(e.code() == deepseek::error_code::invalid_argument);
    CHECK(std::string(e.what()).find("66312") != std::string::npos);
  }
}

TEST_CASE("int8: a weight of -128 is refused") {
  thread_pool pool(2);
  int8_case c({1, 40, 9});
  c.w[200] = -128;
  CHECK_THROWS_AS(c.pack(pool), deepseek::error);
}

TEST_CASE("int8: a row of a batch equals the row alone") {
  thread_pool pool(2);
  int8_case c({70, 90, 100});
  c.pack(pool);
  k::gemm_int8(pool, c.problem(1, c.bias.data()));
  int differ = 0;
  for (std::ptrdiff_t i = 0; i < 70; ++i) {
    float alone[90];
    auto p = c.problem(1, c.bias.data());
    p.shape.m = 1;
    p.x += i * p.x_row;
    p.rows.scale += i;
    p.rows.zero += i;
    p.y = alone;
    k::gemm_int8(pool, p);
    for (std::ptrdiff_t j = 0; j < 90; ++j)
      differ += alone[j] != c.y[static_cast<std::size_t>(i * c.y_row + j)];
  }
  CHECK(differ == 0);
}

TEST_CASE("quantize_row: ties to even, saturation, tails") {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> uniform(-40, 40);
  for (std::ptrdiff_t n : {0, 1, 3, 15, 16, 17, 33, 200}) {
    for (int zero : {0, 1, 128, 255}) {
      for (float scale : {0.25F, 0.1F}) {
        std::vector<float> x(static_cast<std::size_t>(n));
        for (float& v : x)
          v = random() % 3 == 0 ? std::nearbyint(uniform(random)) / 8 : uniform(random);
        if (n > 2) x[0] = INFINITY, x[1] = -INFINITY, x[2] = 3.0e38F;
        std::vector<std::uint8_t> q(static_cast<std::size_t>(n) + 1, 0xcd);
        REQUIRE(k::quantize_row(x.data(), n, {scale, zero}, q.data()) == k::values::numbers);
        int wrong = 0;
        for (std::size_t i = 0; i < x.size(); ++i) wrong += q[i] != quantized(x[i], scale, zero);
        CHECK(wrong == 0);
        CHECK(q.back() == 0xcd);
      }
    }
  }
}

TEST_CASE("quantize_row and range_of: NaN is reported wherever it is") {
  for (std::size_t n : {1U, 16U, 37U}) {
    for (std::size_t at = 0; at < n; ++at) {
      std::vector<float> x(n, 1.0F);
      std::vector<std::uint8_t> q(n);
      CHECK(k::range_of(x.data(), static_cast<std::ptrdiff_t>(n)).kind == k::values::numbers);
      x[at] = std::nanf("");
      CHECK(k::quantize_row(x.data(), static_cast<std::ptrdiff_t>(n), {0.5F, 9}, q.data()) ==
            k::values::some_nan);
      CHECK(q[at] == 9);
      CHECK(k::range_of(x.data(), static_cast<std::ptrdiff_t>(n)).kind == k::values::some_nan);
    }
  }
}

TEST_CASE("range_of: smallest and largest, wherever they are") {
  for (std::size_t n : {1U, 16U, 37U, 100U}) {
    for (std::size_t at = 0; at < n; ++at) {
      std::vector<float> x(n, 1.0F);
      x[at] = -5;
      const auto low = k::range_of(x.data(), static_cast<std::ptrdiff_t>(n));
      CHECK(low.least == -5.0F);
      CHECK(low.most == (n == 1 ? -5.0F : 1.0F));
      x[at] = 7;
      CHECK(k::range_of(x.data(), static_cast<std::ptrdiff_t>(n)).most == 7.0F);
    }
  }
}
