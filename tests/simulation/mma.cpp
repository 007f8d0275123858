// SPDX-License-Identifier: Apache-2.0
// Tensor core fragments: the maps are bijective, swizzled rows meet all banks, and products of
// matrices through shared memory, asynchronous copies and fragments equal plain sums.
#include "deepseek/backend/cuda/mma.hpp"

#include "simulation/device.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <set>

namespace ds = deepseek;
namespace mma = deepseek::mma;

namespace {

template <class Place>
bool covers_once(int words, int packed, int rows, int columns, const Place& place) {
  std::set<std::pair<int, int>> seen;
  for (int lane = 0; lane < 32; ++lane) {
    for (int word = 0; word < words; ++word) {
      for (int i = 0; i < packed; ++i) {
        const mma::place at = place(lane, word, i);
        if (at.row < 0 || at.row >= rows || at.column < 0 || at.column >= columns) return false;
        seen.insert({at.row, at.column});
      }
    }
  }
  return static_cast<int>(seen.size()) == rows * columns && rows * columns == 32 * words * packed;
}

// c [16, 8] = a [16, K] b [K, 8], every lane fetching its elements by the maps.
template <class T>
struct small_product {
  static constexpr int threads = 32;
  const T *a, *b;
  typename mma::shape<T>::sum* c;
  ds::index_t blocks() const { return 1; }

  template <class Block>
  void operator()(const Block& block) const {
    constexpr int k = mma::shape<T>::k, n = mma::shape<T>::packed;
    mma::a_part left;
    mma::b_part right;
    mma::c_part<T> sum{};
    for (int word = 0; word < 4; ++word) {
      T e[n];
      for (int i = 0; i < n; ++i) {
        const auto at = mma::a_place<T>(block.lane(), word, i);
        e[i] = a[at.row * k + at.column];
      }
      std::memcpy(&left.word[word], e, 4);
    }
    for (int word = 0; word < 2; ++word) {
      T e[n];
      for (int i = 0; i < n; ++i) {
        const auto at = mma::b_place<T>(block.lane(), word, i);
        e[i] = b[at.row * 8 + at.column];
      }
      std::memcpy(&right.word[word], e, 4);
    }
    mma::multiply_add(block, sum, left, right);
    for (int i = 0; i < 4; ++i) {
      const auto at = mma::c_place(block.lane(), i);
      c[at.row * 8 + at.column] = sum.x[i];
    }
  }
};

template <class T>
void check_small() {
  constexpr int k = mma::shape<T>::k;
  std::vector<T> a(16 * k), b(k * 8);
  for (std::size_t i = 0; i < a.size(); ++i)
    a[i] = static_cast<T>(static_cast<int>(i * 7 % 13) - 6);
  for (std::size_t i = 0; i < b.size(); ++i)
    b[i] = static_cast<T>(static_cast<int>(i * 5 % 11) - 5);
  std::vector<typename mma::shape<T>::sum> c(16 * 8);
  simulation::host_device{}.launch(small_product<T>{a.data(), b.data(), c.data()});
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t column = 0; column < 8; ++column) {
      double sum = 0;
      for (std::size_t i = 0; i < k; ++i) {
        sum += static_cast<double>(a[row * k + i]) * static_cast<double>(b[i * 8 + column]);
      }
      CHECK(static_cast<double>(c[row * 8 + column]) == sum);
    }
  }
}

// c [16, 16] = a [16, W] b, b as rows of n (b[n][k], W of them wide) or as rows of k, all through
// shared memory with swizzled units.
template <int W, bool RowsOfK>
struct shared_product {
  using T = ds::bf16;
  static constexpr int threads = 32, units = W / 8;
  const T *a, *b;  // [16, W]; [16, W] or [W, 16]
  float* c;
  int rows_of_b;

  ds::index_t blocks() const { return 1; }
  std::size_t shared_bytes() const { return 16 * W * 2 + static_cast<std::size_t>(W) * 16 * 2; }

  template <class Block>
  void operator()(const Block& block) const {
    T* const as = reinterpret_cast<T*>(block.shared());
    T* const bs = as + 16 * W;
    for (int i = block.lane(); i < 16 * units; i += 32) {
      const int row = i / units, unit = i % units;
      mma::copy_async(block, as + row * W + mma::swizzled(row, unit, units) * 8,
                      a + row * W + unit * 8, true);
      if constexpr (!RowsOfK) {
        mma::copy_async(block, bs + row * W + mma::swizzled(row, unit, units) * 8,
                        b + row * W + unit * 8, row < rows_of_b);
      }
    }
    if constexpr (RowsOfK) {
      for (int i = block.lane(); i < W * 2; i += 32) {
        const int row = i / 2, unit = i % 2;
        std::memcpy(bs + row * 16 + unit * 8, b + row * 16 + unit * 8, 16);
      }
    }
    mma::commit_copies(block);
    mma::wait_copies<0>(block);
    block.sync();
    mma::c_part<T> sums[2] = {};
    for (int k = 0; k < W; k += 16) {
      mma::a_part left;
      const mma::corner at = mma::rows_first(block.lane());
      mma::load_matrices<false>(
          block, left.word, as + at.row * W + mma::swizzled(at.row, k / 8 + at.unit, units) * 8);
      std::uint32_t two[4];
      if constexpr (RowsOfK) {
        mma::load_matrices<true>(block, two, bs + (k + at.row) * 16 + at.unit * 8);
      } else {
        const mma::corner low = mma::units_first(block.lane());
        mma::load_matrices<false>(
            block, two, bs + low.row * W + mma::swizzled(low.row, k / 8 + low.unit, units) * 8);
      }
      mma::multiply_add(block, sums[0], left, {{two[0], two[1]}});
      mma::multiply_add(block, sums[1], left, {{two[2], two[3]}});
    }
    for (int n = 0; n < 2; ++n) {
      for (int i = 0; i < 4; ++i) {
        const auto at = mma::c_place(block.lane(), i);
        c[at.row * 16 + n * 8 + at.column] = sums[n].x[i];
      }
    }
  }
};

template <int W, bool RowsOfK>
void check_shared(int rows_of_b) {
  using T = ds::bf16;
  alignas(16) static T a[16 * W], b[16 * W];
  for (int i = 0; i < 16 * W; ++i) a[i] = T(i * 7 % 13 - 6), b[i] = T(i * 5 % 11 - 5);
  std::vector<float> c(256);
  simulation::host_device{}.launch(shared_product<W, RowsOfK>{a, b, c.data(), rows_of_b});
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 16; ++column) {
      float sum = 0;
      for (int k = 0; k < W; ++k) {
        const float right = RowsOfK ? b[k * 16 + column] : b[column * W + k];
        sum += a[row * W + k] * (RowsOfK || column < rows_of_b ? right : 0.0F);
      }
      CHECK(c[static_cast<std::size_t>(row * 16 + column)] == sum);
    }
  }
}

// Reads what it copied without waiting.
struct impatient {
  static constexpr int threads = 32;
  const float* from;
  float* to;
  ds::index_t blocks() const { return 1; }
  std::size_t shared_bytes() const { return 512; }
  template <class Block>
  void operator()(const Block& block) const {
    float* const own = reinterpret_cast<float*>(block.shared()) + block.lane() * 4;
    mma::copy_async(block, own, from + block.lane() * 4, true);
    mma::commit_copies(block);
    to[block.lane()] = own[0];
  }
};

}  // namespace

TEST_CASE("mma: every element of a fragment has one place") {
  const auto check = [](auto type) {
    using T = decltype(type);
    constexpr int k = mma::shape<T>::k, n = mma::shape<T>::packed;
    CHECK(covers_once(4, n, 16, k, mma::a_place<T>));
    CHECK(covers_once(2, n, k, 8, mma::b_place<T>));
  };
  check(ds::bf16{});
  check(ds::f16{});
  check(float{});
  check(std::int8_t{});
  CHECK(covers_once(4, 1, 16, 8, [](int lane, int i, int) { return mma::c_place(lane, i); }));
  // As the PTX manual says: row and column of a lane's first elements of a 16-bit a, b.
  static_assert(mma::a_place<ds::f16>(13, 1, 1) == mma::place{11, 3});
  static_assert(mma::a_place<ds::f16>(13, 2, 0) == mma::place{3, 10});
  static_assert(mma::b_place<ds::f16>(13, 1, 0) == mma::place{10, 3});
  static_assert(mma::a_place<float>(13, 2, 0) == mma::place{3, 5});
  static_assert(mma::a_place<std::int8_t>(13, 2, 3) == mma::place{3, 23});
}

TEST_CASE("mma: swizzled units stay in their row and meet all banks") {
  for (int units : {4, 8, 12, 16, 20, 24, 32, 64, 72}) {
    for (int row = 0; row < 64; ++row) {
      std::set<int> places;
      for (int unit = 0; unit < units; ++unit) places.insert(mma::swizzled(row, unit, units));
      CHECK(static_cast<int>(places.size()) == units);
      CHECK(*places.begin() == 0);
      CHECK(*places.rbegin() == units - 1);
    }
    for (int first = 0; first < 64; first += 8) {
      for (int unit = 0; unit < units; ++unit) {
        std::set<int> groups;  // of 16 bytes among the 128 that shared memory gives at once
        for (int row = first; row < first + 8; ++row) {
          groups.insert((row * units + mma::swizzled(row, unit, units)) % 8);
        }
        CHECK(groups.size() == 8);
      }
    }
  }
}

TEST_CASE("mma: products of fragments") {
  check_small<ds::bf16>();
  check_small<ds::f16>();
  check_small<float>();
  check_small<std::int8_t>();
}

TEST_CASE("mma: products through shared memory") {
  check_shared<32, false>(16);
  check_shared<64, false>(16);
  check_shared<96, false>(5);
  check_shared<128, false>(0);
  check_shared<64, true>(16);
}

TEST_CASE("mma: rounding of two floats at once") {
  for (float x : {1.0F, 1.00390625F, -3.14159F, 65520.0F, 1e-30F, -0.0F}) {
    CHECK(mma::pack<ds::bf16>(x, -x) ==
          (ds::bf16(x).bits | static_cast<std::uint32_t>(ds::bf16(-x).bits) << 16));
    CHECK(mma::pack<ds::f16>(x, 2) ==
          (ds::f16(x).bits | static_cast<std::uint32_t>(ds::f16(2).bits) << 16));
  }
}

TEST_CASE("mma: the simulated device shows a copy that nobody waited for") {
  alignas(16) float from[128] = {};
  float to[32];
  simulation::host_device{}.launch(impatient{from, to});
  int poisoned = 0;
  for (float x : to) poisoned += x != x ? 1 : 0;
  CHECK(poisoned == 16);
}
