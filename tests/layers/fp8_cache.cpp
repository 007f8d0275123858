// SPDX-License-Identifier: Apache-2.0
// Cached rows in 8 bits: every byte of the 656 of a latent row and the 132 of an index key against
// an encoder written here; what is read back; rewinding, capacity, numbers that are not finite.
#include "deepseek/layers/fp8_cache.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "support/compare.hpp"
#include "support/poison.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

static_assert(ds::fp8_row<512, 64>::bytes == 656);
static_assert(ds::fp8_row<128, 0>::bytes == 132);
static_assert(ds::fp8_cache<ds::host, 512, 64>::bytes_per_token() == 656);
static_assert(ds::fp8_cache<ds::host, 128, 0>::bytes_per_token() == 132);

// The value of a code by its definition.
double code_value(int code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  const double size =
      exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return code < 128 ? size : -size;
}
// The nearest of all codes, ties to the even one.
int nearest_code(double x) {
  int best = 0;
  for (int code = 0; code < 127; ++code) {
    const double near = std::fabs(code_value(code) - std::fabs(x));
    const double least = std::fabs(code_value(best) - std::fabs(x));
    if (near < least || (near == least && code % 2 == 0)) best = code;
  }
  return std::signbit(x) ? best + 128 : best;
}
double scale_of(const std::vector<double>& tile) {
  double amax = 1e-4, scale = std::ldexp(1, -40);
  for (double x : tile) amax = std::max(amax, std::fabs(x));
  while (static_cast<float>(scale) < static_cast<float>(amax) / 448.0F) scale *= 2;
  return scale;
}
template <class T>
void put(std::vector<unsigned char>& bytes, T value) {
  unsigned char raw[sizeof(T)];
  std::memcpy(raw, &value, sizeof(T));
  bytes.insert(bytes.end(), raw, raw + sizeof(T));
}

// One row by the layout's description; `read` gets the numbers it stands for.
std::vector<unsigned char> encoded(const std::vector<double>& row, std::size_t coded,
                                   std::vector<double>& read) {
  std::vector<unsigned char> bytes;
  std::vector<double> scales;
  for (std::size_t first = 0; first < coded; first += 128) {
    const std::vector<double> tile(
        row.begin() + static_cast<std::ptrdiff_t>(first),
        row.begin() + static_cast<std::ptrdiff_t>(std::min(coded, first + 128)));
    scales.push_back(scale_of(tile));
    for (double x : tile) {
      const int code = nearest_code(x / scales.back());
      bytes.push_back(static_cast<unsigned char>(code));
      read.push_back(code_value(code) * scales.back());
    }
  }
  for (double s : scales) put(bytes, static_cast<float>(s));
  for (std::size_t i = coded; i < row.size(); ++i) {
    const ds::bf16 rounded(static_cast<float>(row[i]));
    put(bytes, rounded);
    read.push_back(static_cast<double>(static_cast<float>(rounded)));
  }
  return bytes;
}

template <ds::index_t Coded, ds::index_t Rest, class T, class B>
void check(const B& b) {
  constexpr ds::index_t width = Coded + Rest, n = 5;
  ds::fp8_cache<ds::host, Coded, Rest> cache;
  cache.reserve(8);
  CHECK(cache.capacity() == 8);
  ds::tensor<T, ds::host, ds::dyn, width> x({n, width}), y({n, width});
  support::numbers from("fp8 cache");
  auto values = support::draw(support::values::normal, static_cast<std::size_t>(n * width), from);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t row = i / width;
    values[i] *= row == 1 ? 1e-3 : row == 2 ? 1e3 : row == 3 ? 1e-7 : row == 4 ? 0 : 1;
  }
  values = support::rounded_to<T>(values);
  for (std::size_t i = 0; i < values.size(); ++i) x.data()[i] = static_cast<T>(values[i]);
  cache.append(b, 2, x.view());
  cache.read(b, 2, y.view());
  for (ds::index_t i = 0; i < n; ++i) {
    std::vector<double> read;
    const auto at = values.begin() + i * width;
    const auto want = encoded({at, at + width}, Coded, read);
    const auto* stored = cache.stored.data() + (i + 2) * cache.bytes_per_token();
    CHECK(std::vector<unsigned char>(stored, stored + cache.bytes_per_token()) == want);
    bool right = true;
    for (ds::index_t c = 0; c < width; ++c) {
      right = right && y.view()(i, c) == static_cast<T>(read[static_cast<std::size_t>(c)]);
    }
    CHECK(right);
  }
  for (ds::index_t i = 0; i < 2 * cache.bytes_per_token(); ++i) CHECK(cache.stored.data()[i] == 0);
}

}  // namespace

TEST_CASE_TEMPLATE("fp8 cache: the layout, byte for byte", B, ds::reference, ds::cpu) {
  const B b{};
  check<512, 64, float>(b);
  check<512, 64, double>(b);
  check<128, 0, float>(b);
  check<128, 0, ds::bf16>(b);
  check<132, 2, float>(b);  // a second tile of 4
}

TEST_CASE("fp8 cache: errors leave it as it was") {
  const ds::cpu b;
  ds::fp8_cache<ds::host, 128, 0> cache;
  cache.reserve(2);
  ds::tensor<float, ds::host, ds::dyn, 128> row({1, 128}), two({2, 128});
  for (ds::index_t i = 0; i < 128; ++i) row.data()[i] = static_cast<float>(i);
  cache.append(b, 0, row.view());
  const std::vector<unsigned char> before(cache.stored.data(), cache.stored.data() + 264);
  row.data()[7] = std::numeric_limits<float>::quiet_NaN();
  CHECK_ERROR(ds::error_code::nonfinite, "x[0, 7]", cache.append(b, 0, row.view()));
  CHECK_ERROR(ds::error_code::index_range, "1 .. 2", "capacity of 2",
              cache.append(b, 1, two.view()));
  CHECK_ERROR(ds::error_code::index_range, "capacity of 2", cache.read(b, 1, two.view()));
  CHECK(std::equal(before.begin(), before.end(), cache.stored.data()));
}
