// SPDX-License-Identifier: Apache-2.0
// How often values were seen, in 2,048 bins of equal width over [-limit, limit), limit a power of
// two that doubles as it must: two bins then become one, so the counts do not depend on how values
// came in calls, but for the first width. Zero is an edge. A bin stands for its middle.
#pragma once

#include "deepseek/core/space.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace deepseek {

class value_histogram {
 public:
  static constexpr index_t bins = 2048, middle = bins / 2;

  index_t total() const { return total_; }
  double width() const { return limit_ / middle; }
  double edge(index_t bin) const { return static_cast<double>(bin - middle) * width(); }
  double center(index_t bin) const { return edge(bin) + width() / 2; }
  index_t count(index_t bin) const {
    return counts_.empty() ? 0 : counts_[static_cast<std::size_t>(bin)];
  }

  // Makes room for values of this size; finite.
  void reach(double largest) {
    if (counts_.empty()) {
      counts_.resize(static_cast<std::size_t>(bins));
      limit_ = largest > 0 ? std::exp2(std::floor(std::log2(largest)) + 1) : 1;
    }
    while (largest >= limit_) double_limit();
  }
  // Inside what reach() was told.
  void add(double value) {
    const auto bin = middle + static_cast<index_t>(std::floor(value / width()));
    ++counts_[static_cast<std::size_t>(std::clamp<index_t>(bin, 0, bins - 1))];
    ++total_;
  }
  // The value below which a share of all values lies: the edge of a bin.
  double quantile(double share) const {
    const double wanted = share * static_cast<double>(total_);
    double below = 0;
    for (index_t bin = 0; bin < bins; ++bin) {
      if (below >= wanted) return edge(bin);
      below += static_cast<double>(count(bin));
    }
    return edge(bins);
  }

 private:
  void double_limit() {
    std::vector<index_t> wide(counts_.size());
    for (index_t bin = 0; bin < bins; ++bin) {
      wide[static_cast<std::size_t>((bin + middle) / 2)] += count(bin);
    }
    counts_ = std::move(wide);
    limit_ *= 2;
  }

  double limit_ = 1;
  index_t total_ = 0;
  std::vector<index_t> counts_;
};

}  // namespace deepseek
