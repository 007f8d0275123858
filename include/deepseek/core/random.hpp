// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: Philox4x32-10, so that the n-th number of a stream is computed
// alone.
//
//   c0 = block (word i of a stream is word i mod 4 of block i / 4), c1 = lane + (block >> 32),
//   c2 = site, c3 = step, k0 = low half of the seed, k1 = high half of the seed xor use:
// streams that differ in one of these share nothing (a lane has 2^34 words before it meets the
// next). Words, uniform01, below and sample_without_replacement are integer arithmetic, the same
// bits on every machine; normal uses the machine's double log, sin and cos. Host-device; allocates
// nothing. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, 3.3
// (Philox); Lemire, "Fast random integer generation in an interval", 2019, 4; Box and Muller, 1958.
#pragma once

#include <deepseek/config.hpp>

#include <cmath>
#include <cstdint>

namespace deepseek {

struct philox_key {
  std::uint32_t k0 = 0, k1 = 0;
};

struct philox_counter {
  std::uint32_t c0 = 0, c1 = 0, c2 = 0, c3 = 0;
};

struct philox_words {
  std::uint32_t w[4] = {};
  DEEPSEEK_HOST_DEVICE constexpr std::uint32_t operator[](std::uint32_t i) const { return w[i]; }
  friend constexpr bool operator==(const philox_words&, const philox_words&) = default;
};

// Ten rounds; between rounds the key moves on by two odd constants.
DEEPSEEK_HOST_DEVICE constexpr philox_words philox(philox_key key, philox_counter counter) {
  constexpr std::uint64_t multiplier0 = 0xD2511F53U, multiplier1 = 0xCD9E8D57U;
  constexpr std::uint32_t golden = 0x9E3779B9U, root_three = 0xBB67AE85U;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = multiplier0 * counter.c0;
    const std::uint64_t product1 = multiplier1 * counter.c2;
    const auto high0 = static_cast<std::uint32_t>(product0 >> 32U);
    const auto high1 = static_cast<std::uint32_t>(product1 >> 32U);
    counter = {high1 ^ counter.c1 ^ key.k0, static_cast<std::uint32_t>(product1),
               high0 ^ counter.c3 ^ key.k1, static_cast<std::uint32_t>(product0)};
    key = {key.k0 + golden, key.k1 + root_three};
  }
  return {{counter.c0, counter.c1, counter.c2, counter.c3}};
}

// What a stream is for. Two uses with the same seed, step, site and lane are unrelated.
enum class random_use : std::uint32_t {
  general = 0,
  initial_values = 0x494E4954U,
  dropout = 0x44524F50U,
  pattern = 0x50415454U,
  sampling = 0x53414D50U,
  data = 0x44415441U,
  routing = 0x524F5554U
};

// site: where in the model (a hash of the parameter path, or a layer number); lane: a row, head or
// query block.
struct stream_key {
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  std::uint32_t site = 0;
  std::uint32_t lane = 0;
  random_use use = random_use::general;
};

// The stream of a random pattern, keyed by (seed, layer, head, query block).
DEEPSEEK_HOST_DEVICE constexpr stream_key pattern_stream(std::uint64_t seed, std::uint32_t layer,
                                                         std::uint32_t head,
                                                         std::uint32_t query_block) {
  return {seed, head, layer, query_block, random_use::pattern};
}

// Words 4*block ... 4*block+3 of the stream.
DEEPSEEK_HOST_DEVICE constexpr philox_words random_block(const stream_key& key,
                                                         std::uint64_t block) {
  const auto seed_low = static_cast<std::uint32_t>(key.seed);
  const auto seed_high = static_cast<std::uint32_t>(key.seed >> 32U);
  return philox({seed_low, seed_high ^ static_cast<std::uint32_t>(key.use)},
                {static_cast<std::uint32_t>(block),
                 key.lane + static_cast<std::uint32_t>(block >> 32U), key.site, key.step});
}

DEEPSEEK_HOST_DEVICE constexpr std::uint32_t random_word(const stream_key& key, std::uint64_t i) {
  return random_block(key, i / 4)[static_cast<std::uint32_t>(i % 4)];
}

// The upper 24 bits times 2^-24: a float in [0, 1), every value equally likely.
DEEPSEEK_HOST_DEVICE constexpr float uniform01(std::uint32_t word) {
  return static_cast<float>(word >> 8U) * 0x1p-24F;
}

struct normal_pair {
  float first = 0, second = 0;
};

// Box-Muller in double: r = sqrt(-2 ln((a+1) 2^-32)), t = 2 pi b 2^-32 -> r cos t, r sin t, each
// rounded to float. No value is beyond 6.67; a = 2^32-1 gives zero.
DEEPSEEK_HOST_DEVICE inline normal_pair normal(std::uint32_t a, std::uint32_t b) {
  constexpr double two_pi = 6.283185307179586476925286766559;
  const double radius = std::sqrt(-2 * std::log((static_cast<double>(a) + 1) * 0x1p-32));
  const double angle = two_pi * (static_cast<double>(b) * 0x1p-32);
  return {static_cast<float>(radius * std::cos(angle)),
          static_cast<float>(radius * std::sin(angle))};
}

// The i-th standard normal number of a stream: words 2*(i/2) and 2*(i/2)+1; cosine for even i, sine
// for odd.
DEEPSEEK_HOST_DEVICE inline float normal(const stream_key& key, std::uint64_t i) {
  const philox_words block = random_block(key, i / 4);
  const normal_pair pair = i % 4 < 2 ? normal(block[0], block[1]) : normal(block[2], block[3]);
  return i % 2 == 0 ? pair.first : pair.second;
}

// Reads a stream from a position on. Copying it copies the position.
class random_stream {
 public:
  DEEPSEEK_HOST_DEVICE constexpr explicit random_stream(const stream_key& key,
                                                        std::uint64_t position = 0)
      : key_(key), position_(position), block_(random_block(key, position / 4)) {}

  DEEPSEEK_HOST_DEVICE constexpr std::uint32_t word() {
    const std::uint64_t at = position_++;
    const std::uint32_t result = block_[static_cast<std::uint32_t>(at % 4)];
    if (position_ % 4 == 0) block_ = random_block(key_, position_ / 4);
    return result;
  }
  DEEPSEEK_HOST_DEVICE constexpr float uniform() { return uniform01(word()); }

  // An integer in [0, n), without bias: the high half of word*n, drawing again where the low half
  // says that the value has one word too many. n = 0 gives 0 and takes no word.
  DEEPSEEK_HOST_DEVICE constexpr std::uint32_t below(std::uint32_t n) {
    if (n == 0) return 0;
    std::uint64_t product = std::uint64_t{word()} * n;
    if (static_cast<std::uint32_t>(product) < n) {
      const std::uint32_t surplus = (0U - n) % n;  // 2^32 mod n
      while (static_cast<std::uint32_t>(product) < surplus) product = std::uint64_t{word()} * n;
    }
    return static_cast<std::uint32_t>(product >> 32U);
  }

  DEEPSEEK_HOST_DEVICE constexpr std::uint64_t position() const { return position_; }

 private:
  stream_key key_;
  std::uint64_t position_;
  philox_words block_;
};

// Fisher-Yates on 0 ... n-1, stopped after `wanted` exchanges: chosen[0 ... min(wanted, n)) are
// distinct, in the order drawn. Step i exchanges place i with place i + below(n - i). The list
// itself is never stored: the value at a place is found by walking the exchanges back. Returns how
// many were chosen. Cost: wanted^2 / 2 comparisons.
DEEPSEEK_HOST_DEVICE constexpr std::uint32_t sample_without_replacement(const stream_key& key,
                                                                        std::uint32_t n,
                                                                        std::uint32_t wanted,
                                                                        std::uint32_t* chosen) {
  const std::uint32_t count = wanted < n ? wanted : n;
  random_stream stream(key);
  for (std::uint32_t i = 0; i < count; ++i) chosen[i] = i + stream.below(n - i);
  for (std::uint32_t i = count; i-- > 0;) {
    std::uint32_t place = chosen[i];
    for (std::uint32_t earlier = i; earlier-- > 0;) {
      if (chosen[earlier] == place) place = earlier;
    }
    chosen[i] = place;
  }
  return count;
}

}  // namespace deepseek
