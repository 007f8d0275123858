// SPDX-License-Identifier: Apache-2.0
// sampler: logits of one token -> the next token.
//   p_i = softmax(logits / temperature); of these the top_k largest stay (0: all), and of those the
//   fewest whose renormalized sum reaches top_p; at least one. Equal values: the lower index first.
//   The token is the inverse of the cumulative sum at a uniform number of 53 bits.
// temperature 0: the largest logit, the lowest index among equals; no random number is used.
// Computed in double. The random number depends on (seed, position) alone, position being how many
// tokens were drawn before: the same calls give the same tokens, on every machine whose exp agrees.
// Errors: nonfinite (a logit is NaN or +inf, or all are -inf), invalid_argument (config, no
// logits). Source: Holtzman et al. 2020 (top-p); Fan et al. 2018 (top-k).
#pragma once

#include "deepseek/core/backend.hpp"
#include "deepseek/core/random.hpp"
#include "deepseek/core/tensor.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace deepseek {

struct sampler_config {
  double temperature = 1;  // >= 0; 0: always the most likely token
  index_t top_k = 0;       // >= 0; 0: all tokens
  double top_p = 1;        // in (0, 1]
  std::uint64_t seed = 0;
};

// A number of 53 random bits in [0, 1): block `at` of a stream.
inline double uniform53(const stream_key& key, std::uint64_t at) {
  const philox_words words = random_block(key, at);
  return static_cast<double>((std::uint64_t{words[0]} << 32U | words[1]) >> 11U) * 0x1p-53;
}

class sampler {
 public:
  explicit sampler(sampler_config config = {}) : config_(config) {
    require(std::isfinite(config.temperature) && config.temperature >= 0,
            error_code::invalid_argument, "sampler: temperature is ", config.temperature,
            "; write a finite number >= 0, 0 for the most likely token");
    require(config.top_k >= 0, error_code::invalid_argument, "sampler: top_k is ", config.top_k,
            "; write 0 for all tokens or a number > 0");
    require(config.top_p > 0 && config.top_p <= 1, error_code::invalid_argument,
            "sampler: top_p is ", config.top_p, "; write a number in (0, 1], 1 for all tokens");
  }

  const sampler_config& config() const { return config_; }
  std::uint64_t position() const { return position_; }
  // Goes back to (or on from) a position: the next tokens are drawn as they were there.
  void set_position(std::uint64_t position) { position_ = position; }

  // logits [vocabulary] in host memory, any floating type.
  template <class Logits>
  std::int32_t next(const Logits& logits_in) {
    const auto logits = as_const(as_view(logits_in));
    static_assert(decltype(logits)::rank == 1,
                  "deepseek::sampler: pass the logits of one token, slice(logits, row)");
    static_assert(std::is_same_v<typename decltype(logits)::space, host>,
                  "deepseek::sampler: the logits are not in host memory; copy them with ds::copy");
    const index_t best = largest(logits);
    const std::uint64_t at = position_++;
    if (config_.temperature == 0) return static_cast<std::int32_t>(best);
    weigh(logits, static_cast<double>(logits(best)));
    keep_most_likely();
    return choose(at);
  }

  // What next() draws from: p[i] for every token, 0 where it is not kept, summing to 1. With
  // temperature 0 the most likely token has all of it.
  template <class Logits>
  void distribution(const Logits& logits_in, std::vector<double>& p) {
    const auto logits = as_const(as_view(logits_in));
    const index_t best = largest(logits);
    p.assign(static_cast<std::size_t>(logits.extent(0)), 0);
    if (config_.temperature == 0) {
      p[static_cast<std::size_t>(best)] = 1;
      return;
    }
    weigh(logits, static_cast<double>(logits(best)));
    keep_most_likely();
    const double sum = total();
    for (const candidate& c : kept_) p[static_cast<std::size_t>(c.token)] = c.weight / sum;
  }

 private:
  struct candidate {
    double weight;
    std::int32_t token;
  };
  // More likely first; equal ones in the order of their index.
  static bool before(const candidate& a, const candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  }

  template <class Logits>
  static index_t largest(const Logits& logits) {
    require(logits.extent(0) > 0 && logits.extent(0) <= std::numeric_limits<std::int32_t>::max(),
            error_code::invalid_argument, "sampler: ", logits.extent(0),
            " logits; pass at least one and fewer than 2^31");
    constexpr double infinity = std::numeric_limits<double>::infinity();
    index_t best = 0;
    for (index_t i = 0; i < logits.extent(0); ++i) {
      const double x = static_cast<double>(logits(i));
      require(x < infinity, error_code::nonfinite, "sampler: logit ", i, " is ", x,
              "; the model has left the finite numbers, look for the first layer that does");
      if (x > static_cast<double>(logits(best))) best = i;
    }
    require(static_cast<double>(logits(best)) > -infinity, error_code::nonfinite, "sampler: all ",
            logits.extent(0), " logits are -inf; leave at least one token allowed");
    return best;
  }

  // Weights proportional to the probabilities, the largest being 1.
  template <class Logits>
  void weigh(const Logits& logits, double most) {
    kept_.clear();
    for (index_t i = 0; i < logits.extent(0); ++i) {
      const double distance = static_cast<double>(logits(i)) - most;  // <= 0, may be -inf
      const double weight = distance == 0 ? 1 : std::exp(distance / config_.temperature);
      if (weight > 0) kept_.push_back({weight, static_cast<std::int32_t>(i)});
    }
  }

  void keep_most_likely() {
    const auto count = static_cast<index_t>(kept_.size());
    if (config_.top_k > 0 && config_.top_k < count) {
      std::nth_element(kept_.begin(), kept_.begin() + config_.top_k, kept_.end(), before);
      kept_.resize(static_cast<std::size_t>(config_.top_k));
    }
    if (config_.top_k > 0 || config_.top_p < 1) std::sort(kept_.begin(), kept_.end(), before);
    if (config_.top_p == 1) return;
    const double wanted = config_.top_p * total();
    double sum = 0;
    std::size_t n = 0;
    while (n < kept_.size() && sum < wanted) sum += kept_[n++].weight;
    kept_.resize(n);
  }

  double total() const {
    double sum = 0;
    for (const candidate& c : kept_) sum += c.weight;
    return sum;
  }

  std::int32_t choose(std::uint64_t at) const {
    double left = uniform53({config_.seed, 0, 0, 0, random_use::sampling}, at) * total();
    for (const candidate& c : kept_) {
      if (left < c.weight) return c.token;
      left -= c.weight;
    }
    return kept_.back().token;  // the sum was rounded up
  }

  sampler_config config_;
  std::uint64_t position_ = 0;
  std::vector<candidate> kept_;
};

}  // namespace deepseek
