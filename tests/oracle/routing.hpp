// SPDX-License-Identifier: Apache-2.0
// What surrounds the choice of experts, in double: places of limited experts, losses of a router.
//   capacity: assignments in order of priority take the places of their expert, C each
//   cv2: population variance over squared mean; z loss: mean of squared log-sum-exp
//   chance that an expert is among the K best when its own noise is drawn anew
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

namespace oracle {

inline double cv2(const std::vector<double>& v) {
  const double n = static_cast<double>(v.size());
  const double mean = std::accumulate(v.begin(), v.end(), 0.0) / n;
  double variance = 0;
  for (double x : v) variance += (x - mean) * (x - mean) / n;
  return mean == 0 ? 0 : variance / (mean * mean);
}

inline double z_loss(const std::vector<double>& logits, std::size_t tokens) {
  const std::size_t experts = logits.size() / tokens;
  double sum = 0;
  for (std::size_t t = 0; t < tokens; ++t) {
    double exps = 0;
    for (std::size_t e = 0; e < experts; ++e) exps += std::exp(logits[t * experts + e]);
    sum += std::pow(std::log(exps), 2);
  }
  return sum / static_cast<double>(tokens);
}

inline std::vector<double> importance(const std::vector<double>& weights,
                                      const std::vector<std::int64_t>& ids, std::size_t experts) {
  std::vector<double> out(experts);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0) out.at(static_cast<std::size_t>(ids[i])) += weights[i];
  }
  return out;
}

// clean, raw, noisy [tokens, experts]: the smooth number of tokens of each expert.
inline std::vector<double> smooth_load(const std::vector<double>& clean,
                                       const std::vector<double>& raw,
                                       const std::vector<double>& noisy, std::size_t tokens,
                                       std::size_t active) {
  const std::size_t experts = clean.size() / tokens;
  std::vector<double> out(experts);
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t e = 0; e < experts; ++e) {
      std::vector<double> others;
      for (std::size_t j = 0; j < experts; ++j) {
        if (j != e) others.push_back(noisy[t * experts + j]);
      }
      std::sort(others.rbegin(), others.rend());
      const double q = (clean[t * experts + e] - others.at(active - 1)) /
                       std::log1p(std::exp(raw[t * experts + e]));
      out[e] += 0.5 * std::erfc(-q / std::sqrt(2.0));
    }
  }
  return out;
}

// priority: larger first, [tokens, active] or empty (by position). Returns ids or -1.
inline std::vector<std::int64_t> capacity(const std::vector<std::int64_t>& ids, std::size_t tokens,
                                          std::size_t experts, std::size_t room,
                                          const std::vector<double>& priority = {}) {
  const std::size_t active = ids.size() / tokens;
  std::vector<std::int64_t> out(ids.size(), -1);
  // An assignment has room if fewer than `room` of its expert's come before it.
  const auto before = [&](std::size_t a, std::size_t b) {
    if (!priority.empty() && priority[a] != priority[b]) return priority[a] > priority[b];
    const std::size_t ka = a % active, kb = b % active;
    return ka != kb ? ka < kb : a / active < b / active;
  };
  for (std::size_t a = 0; a < ids.size(); ++a) {
    std::size_t ahead = 0;
    for (std::size_t b = 0; b < ids.size(); ++b) ahead += ids[b] == ids[a] && before(b, a) ? 1 : 0;
    if (ahead < room && ids[a] < static_cast<std::int64_t>(experts)) out[a] = ids[a];
  }
  return out;
}

}  // namespace oracle
