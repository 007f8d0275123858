// SPDX-License-Identifier: Apache-2.0
// Products of whole tiles: what stands in for them where the processor has none against sums in
// double and exact integers; and, where it has them, the processor against that, bit for bit, at
// every shape, with subnormal numbers, infinities and NaN.
#include "deepseek/backend/cpu/simd_tiles.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace ds = deepseek;
namespace emulated = ds::simd::emulated;
using ds::simd::tile_rows, ds::simd::tile_words;

namespace {

using words = std::vector<std::int32_t>;
constexpr int a_tile = 6, b_tile = 7, row_bytes = 4 * tile_words;

ds::simd::tile_shapes shapes_of(int rows, int deep, int columns) {
  ds::simd::tile_shapes s;
  return s.set(0, rows, columns).set(a_tile, rows, deep).set(b_tile, deep, columns);
}

enum class draw { numbers, tiny, any_bits };

// Words of two bf16.
words drawn(draw what, std::mt19937& from) {
  words out(tile_rows * tile_words);
  std::normal_distribution<float> normal;
  for (auto& word : out) {
    std::uint32_t halves = 0;
    for (int i = 0; i < 2; ++i) {
      auto half = static_cast<std::uint32_t>(from() >> 16);
      if (what == draw::numbers) half = std::bit_cast<std::uint32_t>(normal(from)) >> 16;
      if (what == draw::tiny) half &= 0x9fffU;  // below 2^-60
      halves |= half << (16 * i);
    }
    word = static_cast<std::int32_t>(halves);
  }
  return out;
}

struct operands {
  words a, b, c;
};
template <class F>
words emulate(const operands& in, int rows, int deep, int columns, F&& f) {
  emulated::load_shapes(shapes_of(rows, deep, columns));
  emulated::load(0, in.c.data(), row_bytes);
  emulated::load(a_tile, in.a.data(), row_bytes);
  emulated::load(b_tile, in.b.data(), row_bytes);
  emulated::add(0, a_tile, b_tile, f);
  words out(in.c.size(), -1);
  emulated::store(0, out.data(), row_bytes);
  return out;
}

double half(std::int32_t word, int i) {
  return static_cast<double>(emulated::half_of(word, i == 1));
}

[[maybe_unused]] bool both_nan(std::int32_t x, std::int32_t y) {
  return std::isnan(std::bit_cast<float>(x)) && std::isnan(std::bit_cast<float>(y));
}

}  // namespace

TEST_CASE("tiles: pairs of bf16 against sums in double") {
  std::mt19937 from(1);
  for (const int deep : {1, 7, 16}) {
    operands in{drawn(draw::numbers, from), drawn(draw::numbers, from), {}};
    for (std::size_t i = 0; i < in.a.size(); ++i) {
      in.c.push_back(std::bit_cast<std::int32_t>(static_cast<float>(i) / 64));
    }
    const words got = emulate(in, 13, deep, 11, emulated::add_pairs);
    for (int m = 0; m < tile_rows; ++m) {
      for (int n = 0; n < tile_words; ++n) {
        const auto at = static_cast<std::size_t>(m * tile_words + n);
        if (m >= 13 || n >= 11) {
          CHECK_MESSAGE(got[at] == -1, "written outside of the shape");
          continue;
        }
        double want = static_cast<double>(std::bit_cast<float>(in.c[at])), size = std::fabs(want);
        for (int w = 0; w < deep; ++w) {
          for (int i = 0; i < 2; ++i) {
            const double x = half(in.a[static_cast<std::size_t>(m * tile_words + w)], i),
                         y = half(in.b[static_cast<std::size_t>(w * tile_words + n)], i);
            want += x * y, size += std::fabs(x * y);
          }
        }
        const double error = std::fabs(static_cast<double>(std::bit_cast<float>(got[at])) - want);
        CHECK_MESSAGE(error <= 0x1p-23 * size, deep << " words: " << error << " of " << size);
      }
    }
  }
}

TEST_CASE("tiles: bytes are exact, the left unsigned, the right signed") {
  std::mt19937 from(2);
  operands in{drawn(draw::any_bits, from), drawn(draw::any_bits, from),
              drawn(draw::any_bits, from)};
  in.a[0] = -1, in.b[0] = static_cast<std::int32_t>(0x80808080U);  // 4 times 255 * -128
  const words got = emulate(in, 16, 16, 16, emulated::add_bytes);
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 16; ++n) {
      const auto at = static_cast<std::size_t>(m * 16 + n);
      std::int64_t want = in.c[at];
      for (int w = 0; w < 16; ++w) {
        std::uint8_t x[4];
        std::int8_t y[4];
        std::memcpy(x, &in.a[static_cast<std::size_t>(m * 16 + w)], 4);
        std::memcpy(y, &in.b[static_cast<std::size_t>(w * 16 + n)], 4);
        for (int i = 0; i < 4; ++i) want += std::int64_t{x[i]} * y[i];
      }
      CHECK(got[at] == static_cast<std::int32_t>(static_cast<std::uint32_t>(want)));
    }
  }
}

TEST_CASE("tiles: shapes that do not fit are refused in plain loops") {
  emulated::load_shapes(shapes_of(4, 4, 4).set(b_tile, 5, 4));
  CHECK_THROWS_AS(emulated::add(0, a_tile, b_tile, emulated::add_pairs), ds::error);
}

TEST_CASE("tiles: the processor's bits are those of the plain loops") {
  if constexpr (!ds::simd::has_tiles) {
    MESSAGE("this build has no tiles");
    CHECK(!ds::simd::has_tiles);
  } else {
    std::mt19937 from(3);
    const ds::simd::tile_scope given_back;
    std::uint32_t name = 1;
    for (const draw what : {draw::numbers, draw::tiny, draw::any_bits}) {
      for (const int rows : {1, 5, 16}) {
        for (const int deep : {1, 6, 16}) {
          for (const int columns : {1, 9, 16}) {
            const operands in{drawn(what, from), drawn(what, from), drawn(what, from)};
            for (const bool bytes : {false, true}) {
              ds::simd::shape_tiles(++name, [&] { return shapes_of(rows, deep, columns); });
              ds::simd::load_tile<0>(in.c.data(), row_bytes);
              ds::simd::load_tile<a_tile>(in.a.data(), row_bytes);
              ds::simd::load_tile<b_tile>(in.b.data(), row_bytes);
              if (bytes) {
                ds::simd::dot_byte_tiles<0, a_tile, b_tile>();
              } else {
                ds::simd::dot_pair_tiles<0, a_tile, b_tile>();
              }
              words got(in.c.size(), -1);
              ds::simd::store_tile<0>(got.data(), row_bytes);
              const words want = bytes ? emulate(in, rows, deep, columns, emulated::add_bytes)
                                       : emulate(in, rows, deep, columns, emulated::add_pairs);
              bool same = true;
              for (std::size_t i = 0; i < got.size(); ++i) {
                same = same && (got[i] == want[i] || (!bytes && both_nan(got[i], want[i])));
              }
              CHECK_MESSAGE(same, rows << " rows, " << deep << " words, " << columns
                                       << " columns, bytes " << bytes << ", numbers "
                                       << static_cast<int>(what));
            }
          }
        }
      }
    }
  }
}
