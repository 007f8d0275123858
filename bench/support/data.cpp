// SPDX-License-Identifier: Apache-2.0
#include "support/data.hpp"

#include "deepseek/core/random.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bench {
namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();

template <class T, class Make>
void fill_with(T* data, index_t count, unsigned seed, const Make& make) {
  const ds::stream_key key{seed, 0, 0, 0, ds::random_use::data};
  for (index_t i = 0; i < count; i += 4) {
    const ds::philox_words words = ds::random_block(key, static_cast<std::uint64_t>(i / 4));
    for (index_t j = i; j < std::min(i + 4, count); ++j) {
      data[j] = make(words[static_cast<std::uint32_t>(j - i)]);
    }
  }
}

}  // namespace

void fill(float* data, index_t count, unsigned seed, interval in) {
  fill_with(data, count, seed,
            [&](std::uint32_t word) { return in.low + (in.high - in.low) * ds::uniform01(word); });
}

void fill(std::int32_t* data, index_t count, unsigned seed, std::int32_t below) {
  fill_with(data, count, seed, [&](std::uint32_t word) {
    return static_cast<std::int32_t>((std::uint64_t{word} * static_cast<std::uint32_t>(below)) >>
                                     32U);
  });
}

double difference(const output& got, const output& want) {
  if (got.count != want.count) return infinite;
  if (got.integers != nullptr) {
    return std::equal(got.integers, got.integers + got.count, want.integers) ? 0 : infinite;
  }
  double largest = 0, apart = 0;
  for (index_t i = 0; i < got.count; ++i) {
    const double d = std::abs(double{got.values[i]} - double{want.values[i]});
    if (!(d < infinite)) return infinite;
    apart = std::max(apart, d);
    largest = std::max(largest, std::abs(double{want.values[i]}));
  }
  if (largest == 0) return infinite;
  return apart / (16 * std::sqrt(want.terms) * double{std::numeric_limits<float>::epsilon()}) /
         largest;
}

double difference(const std::vector<output>& got, const std::vector<output>& want) {
  if (got.size() != want.size() || got.empty()) return infinite;
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) worst = std::max(worst, difference(got[i], want[i]));
  return worst;
}

}  // namespace bench
