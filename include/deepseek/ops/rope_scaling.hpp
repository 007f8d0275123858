// SPDX-License-Identifier: Apache-2.0
// rope_scaling: how rotary frequencies f_i = theta^(-2 i / count) change beyond the L0 positions
// (original_length) of the first training, with s = factor.
//   linear:      f_i / s
//   dynamic_ntk: theta (s L / L0 - (s - 1))^(count / (count - 2)) is the base once L > L0
//   llama3:      f_i if it turns more than `high` times in L0, f_i / s if less than `low`, a blend
//   yarn:        f_i (1 - r_i) + f_i / s r_i, r_i a ramp over the pairs that turn beta_fast to
//                beta_slow times in L0; amplitude g(mscale) / g(mscale_all_dim), g(m) =
//                0.1 m ln s + 1. The softmax scale is multiplied by g(mscale_all_dim)^2: by the
//                attention layers, not by rope. Equal mscale: amplitude 1. Both 0 (as they are here
//                unless given): amplitude and factor 1; the YaRN paper has mscale 1 and 0
// In double. Sources: Chen et al. 2023 (linear); Peng et al., YaRN (2023), sections 3.2 to 3.4;
// The Llama 3 Herd of Models (2024); DeepSeek-V2 (2024), section 3.1.4.
#pragma once

#include "deepseek/core/view.hpp"

#include <algorithm>
#include <cmath>

namespace deepseek {

enum class rope_scaling_kind : index_t { none, linear, dynamic_ntk, llama3, yarn };

struct rope_scaling {
  rope_scaling_kind kind = rope_scaling_kind::none;
  double factor = 1;                     // s >= 1
  index_t original_length = 0;           // L0 > 0, all but linear
  double low = 1, high = 4;              // llama3: 0 < low < high, turns in L0
  double beta_fast = 32, beta_slow = 1;  // yarn: 0 < beta_slow <= beta_fast, turns in L0
  double mscale = 0;                     // yarn: >= 0, of the amplitude; 0: g = 1
  double mscale_all_dim = 0;             // yarn: >= 0, of the softmax scale and below the amplitude

  bool operator==(const rope_scaling&) const = default;
};

// What is wrong with a scaling of frequencies of base theta; null: nothing. For static_assert and
// require alike.
constexpr const char* rope_scaling_problem(const rope_scaling& s, double theta) {
  constexpr double largest = 1.7976931348623157e308;
  const auto within = [](double x, double low) { return x >= low && x <= largest; };
  if (s.kind == rope_scaling_kind::none) return nullptr;
  if (!within(s.factor, 1)) return "factor is not >= 1 and finite";
  if (s.kind == rope_scaling_kind::linear) return nullptr;
  if (s.original_length <= 0) return "original_length is not positive";
  if (s.kind == rope_scaling_kind::llama3) {
    return s.low > 0 && s.low < s.high && s.high <= largest ? nullptr : "not 0 < low < high";
  }
  if (s.kind == rope_scaling_kind::dynamic_ntk) return nullptr;
  if (!(s.beta_slow > 0 && s.beta_slow <= s.beta_fast && s.beta_fast <= largest)) {
    return "not 0 < beta_slow <= beta_fast";
  }
  if (!within(s.mscale, 0) || !within(s.mscale_all_dim, 0)) return "an mscale is negative";
  return theta > 1 ? nullptr : "theta is not above 1";
}

// Dynamic NTK depends on L: what a sequence's rows are rotated by depends on its length.
constexpr bool depends_on_length(const rope_scaling& s) {
  return s.kind == rope_scaling_kind::dynamic_ntk;
}

// The frequencies of `count` rotated elements: pair i < count / 2.
struct rope_frequencies {
  double theta;
  index_t count;
  index_t length = 0;  // L of dynamic_ntk, else unused

  DEEPSEEK_HOST_DEVICE double plain(index_t i) const {
    return std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(count));
  }
};

// The pairs between which yarn's ramp rises: rounded outwards, high at most count - 1.
struct yarn_ramp {
  double low, high;

  DEEPSEEK_HOST_DEVICE double at(index_t i) const {
    const double x = (static_cast<double>(i) - low) / (high - low);
    return x < 0 ? 0 : x > 1 ? 1 : x;
  }
};
// The (fractional) pair that turns `turns` times in L0 positions.
DEEPSEEK_HOST_DEVICE inline double pair_that_turns(const rope_scaling& s, const rope_frequencies& f,
                                                   double turns) {
  constexpr double two_pi = 6.283185307179586476925286766559;
  return static_cast<double>(f.count) *
         std::log(static_cast<double>(s.original_length) / (turns * two_pi)) /
         (2 * std::log(f.theta));
}
DEEPSEEK_HOST_DEVICE inline yarn_ramp yarn_ramp_of(const rope_scaling& s,
                                                   const rope_frequencies& f) {
  const double last = static_cast<double>(f.count - 1);
  const double fast = std::floor(pair_that_turns(s, f, s.beta_fast));
  const double slow = std::ceil(pair_that_turns(s, f, s.beta_slow));
  const double low = fast > 0 ? fast : 0, high = slow < last ? slow : last;
  return {low, low == high ? high + 0.001 : high};
}

// The scaled frequency of pair i.
DEEPSEEK_HOST_DEVICE inline double scaled_frequency(const rope_scaling& s,
                                                    const rope_frequencies& f, index_t i) {
  const double plain = f.plain(i), original = static_cast<double>(s.original_length);
  switch (s.kind) {
    case rope_scaling_kind::linear:
      return plain / s.factor;
    case rope_scaling_kind::dynamic_ntk: {
      if (f.length <= s.original_length) return plain;
      const double stretch = s.factor * static_cast<double>(f.length) / original - (s.factor - 1);
      const double count = static_cast<double>(f.count);
      return rope_frequencies{f.theta * std::pow(stretch, count / (count - 2)), f.count}.plain(i);
    }
    case rope_scaling_kind::llama3: {
      const double turns = original * plain / 6.283185307179586476925286766559;
      if (turns > s.high) return plain;
      if (turns < s.low) return plain / s.factor;
      const double t = (turns - s.low) / (s.high - s.low);
      return (1 - t) * plain / s.factor + t * plain;
    }
    case rope_scaling_kind::yarn: {
      const double ramp = yarn_ramp_of(s, f).at(i);
      return plain * (1 - ramp) + plain / s.factor * ramp;
    }
    case rope_scaling_kind::none:
      break;
  }
  return plain;
}

// g(m) = 0.1 m ln s + 1 where s > 1.
DEEPSEEK_HOST_DEVICE inline double yarn_magnitude(double factor, double mscale) {
  return factor > 1 ? 0.1 * mscale * std::log(factor) + 1 : 1;
}
// What sine and cosine are multiplied by.
DEEPSEEK_HOST_DEVICE inline double rope_amplitude(const rope_scaling& s) {
  if (s.kind != rope_scaling_kind::yarn) return 1;
  return yarn_magnitude(s.factor, s.mscale) / yarn_magnitude(s.factor, s.mscale_all_dim);
}
// What the softmax scale d^-1/2 is multiplied by: g(mscale_all_dim)^2, for q and for k; on rotated
// and unrotated elements alike.
DEEPSEEK_HOST_DEVICE inline double softmax_scale_factor(const rope_scaling& s) {
  if (s.kind != rope_scaling_kind::yarn) return 1;
  const double g = yarn_magnitude(s.factor, s.mscale_all_dim);
  return g * g;
}

}  // namespace deepseek
