// SPDX-License-Identifier: Apache-2.0
// What a layer got, over any number of calls, and the rules that make a range of it; zero is always
// inside. A rule is a type with name and limits(observed_range) -> value_limits:
//   min_max         low = min(0, all values), high = max(0, all values)
//   moving_average  low <- 0.99 low + 0.01 (low of the call), high alike; the first call whole
//   percentile<P>   cuts off the share 1 - P / 10000 of all values at each end
//   least_error     the range in which 256 levels have the least squared error on a histogram of
//                   2,048 bins: tried from each end in hundredths of the extremes, twice
// Kept beside: the extremes of each channel (quant/smoothed.hpp) and a sample of rows (layers/
// quantization_report.hpp). Errors: nonfinite (a value is NaN or infinite).
// Sources: Jacob et al. 2018, section 3.1 (moving average); Wu et al. 2020, section 5.2
// (percentile, histogram).
#pragma once

#include "deepseek/core/error.hpp"
#include "deepseek/quant/histogram.hpp"

#include <concepts>

namespace deepseek {

struct value_limits {
  double low = 0, high = 0;

  void include(double value) { low = std::min(low, value), high = std::max(high, value); }
};

// Some rows of the inputs, and of a stack the expert that each one met.
struct input_sample {
  static constexpr index_t most = 128, most_of_call = 32;
  index_t width = 0;
  std::vector<float> values;  // [rows, width]
  std::vector<std::int32_t> expert;

  index_t rows() const { return static_cast<index_t>(expert.size()); }
};

struct observed_range {
  value_limits extreme, average;
  index_t calls = 0;
  value_histogram histogram = {};
  std::vector<value_limits> channels = {};
  input_sample sample = {};
};

template <class R>
concept CalibrationRule = requires(const observed_range& seen) {
  { R::name } -> std::convertible_to<const char*>;
  { R::limits(seen) } -> std::same_as<value_limits>;
};

struct min_max {
  static constexpr const char* name = "min_max";
  static value_limits limits(const observed_range& seen) { return seen.extreme; }
};
struct moving_average {
  static constexpr const char* name = "moving_average";
  static value_limits limits(const observed_range& seen) { return seen.average; }
};
template <index_t P = 9999>
struct percentile {
  static_assert(P > 5000 && P <= 10000,
                "deepseek::percentile: the share is not between 5000 and 10000 of 10000 values; "
                "write percentile<9999> for 99.99 %");
  static constexpr const char* name = "percentile";
  static value_limits limits(const observed_range& seen) {
    constexpr double share = static_cast<double>(P) / 10000;
    const value_histogram& h = seen.histogram;
    return {std::clamp(h.quantile(1 - share) - h.width(), seen.extreme.low, 0.0),
            std::clamp(h.quantile(share), 0.0, seen.extreme.high)};
  }
};

// The squared error of 256 levels from low to high on what a histogram counted.
inline double level_error(const value_histogram& h, const value_limits& range) {
  const double step = (range.high - range.low) / 255;
  if (!(step > 0)) return static_cast<double>(h.total()) * h.width() * h.width();
  const double zero = std::nearbyint(-range.low / step);
  double sum = 0;
  for (index_t bin = 0; bin < value_histogram::bins; ++bin) {
    if (h.count(bin) == 0) continue;
    const double x = h.center(bin);
    const double code = std::clamp(std::nearbyint(x / step) + zero, 0.0, 255.0);
    const double error = (code - zero) * step - x;
    sum += static_cast<double>(h.count(bin)) * error * error;
  }
  return sum;
}

struct least_error {
  static constexpr const char* name = "least_error";
  static value_limits limits(const observed_range& seen) {
    value_limits best = seen.extreme;
    double least = level_error(seen.histogram, best);
    const auto move = [&](double value_limits::*end, double extreme) {
      for (int hundredth = 99; hundredth > 0; --hundredth) {
        value_limits now = best;
        now.*end = extreme * hundredth / 100;
        const double error = level_error(seen.histogram, now);
        if (error < least) least = error, best = now;
      }
    };
    for (int round = 0; round < 2; ++round) {
      move(&value_limits::high, seen.extreme.high);
      move(&value_limits::low, seen.extreme.low);
    }
    return best;
  }
};

template <class X>
value_limits limits_of(const X& x) {
  value_limits now;
  for (index_t n = 0; n < x.extent(0); ++n) {
    for (index_t i = 0; i < x.extent(1); ++i) {
      const double value = static_cast<double>(x(n, i));
      require(std::isfinite(value), error_code::nonfinite, "calibration: input[", n, ", ", i,
              "] is ", value, "; calibrate with data for which the model is finite");
      now.include(value);
    }
  }
  return now;
}

// x [rows, width]; a call without rows is not counted.
template <class X>
void observe_range(const X& x, observed_range& seen) {
  if (x.extent(0) == 0) return;
  constexpr double kept = 0.99;
  const value_limits now = limits_of(x);
  const double old = seen.calls == 0 ? 0 : kept;
  seen.extreme = {std::min(seen.extreme.low, now.low), std::max(seen.extreme.high, now.high)};
  seen.average = {old * seen.average.low + (1 - old) * now.low,
                  old * seen.average.high + (1 - old) * now.high};
  ++seen.calls;
  seen.histogram.reach(std::max(-now.low, now.high));
  seen.channels.resize(static_cast<std::size_t>(x.extent(1)));
  for (index_t n = 0; n < x.extent(0); ++n) {
    for (index_t i = 0; i < x.extent(1); ++i) {
      const double value = static_cast<double>(x(n, i));
      seen.histogram.add(value);
      seen.channels[static_cast<std::size_t>(i)].include(value);
    }
  }
}

// Up to 32 rows of a call, evenly chosen, until there are 128. expert_of(row): of a stack.
template <class X>
void sample_rows(const X& x, const auto& expert_of, input_sample& to) {
  const index_t have = x.extent(0), room = input_sample::most - to.rows();
  const index_t count = std::min({have, room, input_sample::most_of_call});
  to.width = x.extent(1);
  for (index_t i = 0; i < count; ++i) {
    const index_t n = i * have / count;
    for (index_t k = 0; k < x.extent(1); ++k) {
      to.values.push_back(static_cast<float>(static_cast<double>(x(n, k))));
    }
    to.expert.push_back(expert_of(n));
  }
}

}  // namespace deepseek
