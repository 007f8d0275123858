// SPDX-License-Identifier: Apache-2.0
// Registers against scalar arithmetic: partial access, fused and unfused rounding, reductions,
// transposes, byte products.
#include "deepseek/backend/cpu/simd_narrow.hpp"
#include "deepseek/backend/cpu/simd_turn.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace simd = deepseek::simd;

TEST_CASE_TEMPLATE("simd: partial loads and stores touch the first n elements only", T, float,
                   double) {
  using pack = simd::pack<T>;
  constexpr int width = pack::width;
  for (int n = 0; n <= width; ++n) {
    std::vector<T> in(static_cast<std::size_t>(n),
                      T(3));  // the end of the block: a sanitizer sees an overrun
    const pack v = n == width ? pack::load(in.data()) : pack::load_partial(in.data(), n);
    T out[width + 1];
    std::fill_n(out, width + 1, T(-1));
    v.store_up_to(out, n);
    for (int i = 0; i <= width; ++i) CHECK(out[i] == (i < n ? T(3) : T(-1)));
    T all[width];
    v.store(all);
    for (int i = 0; i < width; ++i) CHECK(all[i] == (i < n ? T(3) : T(0)));
  }
}

TEST_CASE_TEMPLATE("simd: fma rounds once, a * b + c twice", T, float, double) {
  using pack = simd::pack<T>;
  const T e = std::numeric_limits<T>::epsilon(), a = 1 + e, b = 1 - e;
  const auto bring = [](T x) { return pack::broadcast(x); };
  const T fused = reduce_max(simd::fma(bring(a), bring(b), bring(-1)));
  const T split = reduce_max(bring(a) * bring(b) + bring(-1));
  CHECK(fused == (simd::has_fma ? -e * e : T(0)));
  CHECK(split == T(0));
}

TEST_CASE_TEMPLATE("simd: arithmetic, comparison and rounding lane by lane", T, float, double) {
  using pack = simd::pack<T>;
  std::mt19937 random(1);
  std::uniform_real_distribution<T> uniform(-100, 100);
  for (int repeat = 0; repeat < 50; ++repeat) {
    T a[pack::width], b[pack::width], r[pack::width];
    for (T& x : a) x = uniform(random);
    for (T& x : b) x = uniform(random);
    const pack x = pack::load(a), y = pack::load(b);
    const auto compare = [&](pack result, auto expected) {
      result.store(r);
      for (int i = 0; i < pack::width; ++i) CHECK(r[i] == expected(a[i], b[i]));
    };
    compare(x + y, [](T p, T q) { return p + q; });
    compare(x - y, [](T p, T q) { return p - q; });
    compare(x * y, [](T p, T q) { return p * q; });
    compare(x / y, [](T p, T q) { return p / q; });
    compare(simd::max(x, y), [](T p, T q) { return std::max(p, q); });
    compare(simd::min(x, y), [](T p, T q) { return std::min(p, q); });
    compare(simd::abs(x), [](T p, T) { return std::abs(p); });
    compare(simd::round(x), [](T p, T) { return std::nearbyint(p); });
    compare(simd::scale_by_power(x, pack::broadcast(-7)), [](T p, T) { return std::ldexp(p, -7); });
  }
  CHECK(reduce_max(simd::round(pack::broadcast(T(2.5)))) == T(2));
  CHECK(reduce_max(simd::round(pack::broadcast(T(-3.5)))) == T(-4));
}

TEST_CASE_TEMPLATE("simd: max returns its second operand where one is NaN", T, float, double) {
  using pack = simd::pack<T>;
  const pack nan = pack::broadcast(std::numeric_limits<T>::quiet_NaN()), one = pack::broadcast(1);
  CHECK(simd::max(nan, one).v[0] == T(1));
  CHECK(std::isnan(simd::max(one, nan).v[0]));
  CHECK(std::isnan(simd::min(one, nan).v[0]));
}

TEST_CASE_TEMPLATE("simd: the sum is the tree of halves", T, float, double) {
  constexpr int width = simd::pack<T>::width;
  std::mt19937 random(2);
  std::uniform_real_distribution<T> uniform(-1, 1);
  for (int repeat = 0; repeat < 100; ++repeat) {
    T a[width];
    for (T& x : a) x = uniform(random);
    const auto v = simd::pack<T>::load(a);
    T greatest = a[0];
    for (T x : a) greatest = std::max(greatest, x);
    for (int half = width / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) a[i] += a[i + half];
    }
    CHECK(reduce_sum(v) == a[0]);
    CHECK(reduce_max(v) == greatest);
  }
}

TEST_CASE_TEMPLATE("simd: transpose", T, float, double) {
  constexpr int width = simd::pack<T>::width;
  T in[width * width], out[width];
  for (int i = 0; i < width * width; ++i) in[i] = T(i);
  simd::pack<T> r[width];
  for (int i = 0; i < width; ++i) r[i] = simd::pack<T>::load(in + i * width);
  simd::transpose(r);
  for (int i = 0; i < width; ++i) {
    r[i].store(out);
    for (int j = 0; j < width; ++j) CHECK(out[j] == in[j * width + i]);
  }
}

TEST_CASE_TEMPLATE("simd: short rows far apart turn as they are loaded", W, std::int32_t,
                   std::int64_t) {
  constexpr int rows = simd::turned_rows<W>, columns = simd::turned_columns<W>, apart = 37;
  std::vector<W> in(static_cast<std::size_t>(rows) * apart, W(-1));
  for (int i = 0; i < rows; ++i) {
    for (int c = 0; c < columns; ++c) in[static_cast<std::size_t>(i * apart + c)] = W(100 * i + c);
  }
  simd::vector<W> loaded[columns], turned[columns];
  simd::load_rows<W>(reinterpret_cast<const std::byte*>(in.data()), apart * sizeof(W), loaded);
  simd::turn<W>(loaded, turned);
  for (int c = 0; c < columns; ++c) {
    W column[rows];
    std::memcpy(column, &turned[c], sizeof column);
    for (int i = 0; i < rows; ++i) CHECK(column[i] == W(100 * i + c));
  }
}

TEST_CASE("simd: every byte widens exactly") {
  constexpr int width = simd::pack<float>::width;
  std::uint8_t bytes[256 + width];
  for (int i = 0; i < 256 + width; ++i) bytes[i] = static_cast<std::uint8_t>(i);
  int wrong = 0;
  for (int first = 0; first < 256; ++first) {
    const auto wide = simd::widen_bytes(bytes + first);
    for (int i = 0; i < width; ++i) wrong += wide[i] != (first + i) % 256;
  }
  CHECK(wrong == 0);
}

TEST_CASE("simd: every 16-bit word widens exactly") {
  constexpr int width = simd::pack<float>::width;
  int wrong = 0;
  for (int first = 0; first < 65536; first += width) {
    std::uint16_t words[width];
    for (int i = 0; i < width; ++i) words[i] = static_cast<std::uint16_t>(first + i);
    float b[width], h[width];
    simd::load_bf16(words).store(b);
    simd::load_f16(words).store(h);
    for (int i = 0; i < width; ++i) {
      const std::uint32_t word = words[i], exponent = word >> 10 & 31, fraction = word & 1023;
      const float brain = std::bit_cast<float>(word << 16);
      wrong += std::memcmp(&brain, &b[i], sizeof brain) != 0;
      double half = exponent == 0 ? std::ldexp(fraction, -24)
                                  : std::ldexp(1024 + fraction, static_cast<int>(exponent) - 25);
      if (exponent == 31) half = fraction == 0 ? HUGE_VAL : std::nan("");
      if ((word & 0x8000) != 0) half = -half;
      const bool both_nan = std::isnan(half) && std::isnan(h[i]);
      wrong += !(both_nan || (double(h[i]) == half && std::signbit(h[i]) == std::signbit(half)));
    }
  }
  CHECK(wrong == 0);
  const std::uint16_t one[] = {0x3f80};
  CHECK(reduce_sum(simd::load_bf16(one, 1)) == 1.0F);
}

TEST_CASE("simd: byte products are exact at the extremes") {
  using words = simd::vector<std::int32_t>;
  for (int u : {0, 1, 127, 128, 255}) {
    for (int s : {-128, -127, -1, 0, 1, 127}) {
      const auto repeat = [](int byte) {
        return static_cast<std::int32_t>(0x01010101U * (static_cast<unsigned>(byte) & 255U));
      };
      const words sum = simd::dot_bytes(words{} + 5, words{} + repeat(u), words{} + repeat(s));
      for (int i = 0; i < simd::pack<float>::width; ++i) CHECK(sum[i] == 5 + 4 * u * s);
    }
  }
  // Bytes that differ: 1 * 10 + 2 * -20 + 200 * 30 + 255 * -40.
  const words u = words{} + static_cast<std::int32_t>(0xffc80201U),
              s = words{} + static_cast<std::int32_t>(0xd81eec0aU);
  CHECK(simd::dot_bytes(words{}, u, s)[0] == 10 - 40 + 6000 - 10200);
}

TEST_CASE("simd: products of words and of small bytes are exact at the extremes") {
  using words = simd::vector<std::int32_t>;
  const auto pair = [](int low, int high) {
    return words{} + static_cast<std::int32_t>((static_cast<unsigned>(high) & 0xffffU) << 16 |
                                               (static_cast<unsigned>(low) & 0xffffU));
  };
  for (int a : {0, 1, 255, 32767}) {
    for (int b : {-32768, -127, 0, 32767}) {
      const words sum = simd::dot_words(words{} + 5, pair(a, 255), pair(b, -128));
      for (int i = 0; i < simd::pack<float>::width; ++i) CHECK(sum[i] == 5 + a * b - 255 * 128);
    }
  }
  // Bytes 0x80, 1, 0x7f, -2 of a word, in pairs.
  const words four = words{} + static_cast<std::int32_t>(0xfe7f0180U);
  CHECK(simd::even_bytes(four)[0] == pair(-128, 127)[0]);
  CHECK(simd::odd_bytes(four)[0] == pair(1, -2)[0]);
  for (int s : {-127, -1, 0, 127}) {
    const words codes = words{} + 0x0f0f0f0f,
                bytes = words{} +
                        static_cast<std::int32_t>(0x01010101U * (static_cast<unsigned>(s) & 255U));
    simd::vector<std::int16_t> sum{};
    for (int i = 0; i < 8; ++i) sum = simd::add_byte_pairs(sum, codes, bytes);
    for (int i = 0; i < simd::register_bytes / 2; ++i) CHECK(int{sum[i]} == 8 * 2 * 15 * s);
  }
}

TEST_CASE("simd: this processor runs what was compiled, and the names agree") {
  CHECK_NOTHROW(simd::check_processor());
  CHECK(!simd::instruction_set().empty());
  CHECK(simd::required().empty() ==
        (simd::instruction_set() == "generic" || simd::instruction_set() == "neon"));
}
