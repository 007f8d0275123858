// SPDX-License-Identifier: Apache-2.0
// data_mix: from which source the next example comes: source s with probability weight_s / sum, for
// example 60 / 25 / 10 / 5. Example i of stream (seed, random_use::data) is drawn alone: any part
// of a run can be repeated. The share of s among n examples is within 5 sqrt(w (1 - w) / n) of its
// weight but once in some million times.
// largest_remainder: the exact form: n examples as whole numbers that add up to n, each within one
// of n weight / sum. Errors: invalid_argument (no weights, a negative one, a sum of 0), limit (n
// beyond 2^50, where shares in double are no longer whole numbers).
#pragma once

#include <algorithm>
#include <numeric>

#include "deepseek/data/masking.hpp"

namespace deepseek {

namespace detail {

inline double checked_sum(std::span<const double> weights) {
  require(!weights.empty(), error_code::invalid_argument,
          "data_mix: no weights; pass one a source");
  double sum = 0;
  for (std::size_t s = 0; s < weights.size(); ++s) {
    require(weights[s] >= 0 && weights[s] < 1e300, error_code::invalid_argument,
            "data_mix: weight ", s, " is ", weights[s], "; pass finite numbers >= 0");
    sum += weights[s];
  }
  require(sum > 0, error_code::invalid_argument, "data_mix: the weights sum to ", sum,
          "; pass one above 0");
  return sum;
}

}  // namespace detail

class data_mix {
 public:
  explicit data_mix(std::span<const double> weights, std::uint64_t seed = 0) : seed_(seed) {
    const double sum = detail::checked_sum(weights);
    double below = 0;
    for (const double w : weights) ends_.push_back((below += w) / sum);
    // The last source with a weight ends at 1 whatever was rounded.
    std::size_t last = weights.size() - 1;
    while (weights[last] == 0) --last;
    std::fill(ends_.begin() + static_cast<std::ptrdiff_t>(last), ends_.end(), 1.0);
  }

  std::size_t source(std::uint64_t example) const {
    const auto words = random_block({seed_, 0, 2, 0, random_use::data}, example);
    const double at = (static_cast<double>(words[0]) + static_cast<double>(words[1]) * 0x1p-32) *
                      0x1p-32;  // 53 bits and more: in [0, 1)
    const auto end = std::ranges::upper_bound(ends_, std::min(at, 1 - 0x1p-53));
    return static_cast<std::size_t>(end - ends_.begin());
  }

 private:
  std::vector<double> ends_;
  std::uint64_t seed_;
};

inline std::vector<std::size_t> largest_remainder(std::span<const double> weights, std::size_t n) {
  const double sum = detail::checked_sum(weights);
  require(n <= std::size_t{1} << 50, error_code::limit, "largest_remainder: ", n,
          " examples; pass at most 2^50");
  std::vector<std::size_t> counts, order(weights.size());
  std::vector<double> rest;
  for (const double w : weights) {
    const double exact = static_cast<double>(n) * w / sum;
    counts.push_back(static_cast<std::size_t>(exact));
    rest.push_back(exact - static_cast<double>(counts.back()));
  }
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t i, std::size_t j) { return rest[i] > rest[j]; });
  const std::size_t given = std::accumulate(counts.begin(), counts.end(), std::size_t{0});
  for (std::size_t i = 0; i < n - given; ++i) ++counts[order[i % order.size()]];
  return counts;
}

}  // namespace deepseek
