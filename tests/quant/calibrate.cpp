// SPDX-License-Identifier: Apache-2.0
// Calibration: the histogram, and each rule against its definition on values drawn here: extremes,
// moving average, percentiles of the sorted values, and the least error by trying more ranges than
// the rule does.
#include "deepseek/quant/calibrate.hpp"

#include "deepseek/core/tensor.hpp"
#include "deepseek/core/view.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <numeric>

namespace ds = deepseek;

namespace {

using matrix = ds::view<const float, ds::host, ds::dyn, ds::dyn>;

// Normal values with outliers, of several sizes from call to call.
struct observed_case {
  std::vector<std::vector<float>> calls;
  std::vector<double> all;
  ds::observed_range seen;

  explicit observed_case(const char* name) {
    support::numbers from(name);
    for (double size : {1.0, 0.5, 7.0, 2.0}) {
      std::vector<float> call;
      for (int i = 0; i < 4096; ++i) {
        const double outlier = from.below(3000) == 0 ? 30 : 1;
        call.push_back(static_cast<float>(from.normal() * size * outlier));
        all.push_back(static_cast<double>(call.back()));
      }
      calls.push_back(call);
    }
    for (const auto& call : calls) ds::observe_range(matrix(call.data(), {64, 64}), seen);
    std::sort(all.begin(), all.end());
  }
};

double error_of(const std::vector<double>& all, const ds::value_limits& range) {
  const double step = (range.high - range.low) / 255, zero = std::nearbyint(-range.low / step);
  double sum = 0;
  for (double x : all) {
    const double code = std::clamp(std::nearbyint(x / step) + zero, 0.0, 255.0);
    sum += ((code - zero) * step - x) * ((code - zero) * step - x);
  }
  return sum;
}

}  // namespace

TEST_CASE_TEMPLATE("every rule: a name, zero inside, never beyond the extremes, equal bits twice",
                   R, ds::min_max, ds::moving_average, ds::percentile<9990>, ds::percentile<>,
                   ds::least_error) {
  static_assert(ds::CalibrationRule<R>);
  const observed_case a("rule"), b("rule");
  const ds::value_limits got = R::limits(a.seen), again = R::limits(b.seen);
  CHECK((got.low == again.low && got.high == again.high));
  CHECK((got.low <= 0 && got.high >= 0 && got.low < got.high));
  CHECK((got.low >= a.seen.extreme.low && got.high <= a.seen.extreme.high));
  const ds::value_limits nothing = R::limits(ds::observed_range{});
  CHECK((nothing.low == 0 && nothing.high == 0));
  ds::observed_range zeros;
  const std::vector<float> none(16);
  ds::observe_range(matrix(none.data(), {4, 4}), zeros);
  CHECK((R::limits(zeros).low == 0 && R::limits(zeros).high == 0));
  ds::observed_range positive;
  const std::vector<float> ones(16, 1.0F);
  ds::observe_range(matrix(ones.data(), {4, 4}), positive);
  CHECK(R::limits(positive).low == 0);
  CHECK(std::fabs(R::limits(positive).high - 1) < 0.01);
}

TEST_CASE("percentile: the quantile of the sorted values, up to a bin") {
  const observed_case c("percentile");
  const auto n = static_cast<double>(c.all.size());
  for (const auto& [share, got] : {std::pair{0.999, ds::percentile<9990>::limits(c.seen)},
                                   {0.9999, ds::percentile<9999>::limits(c.seen)}}) {
    const double width = c.seen.histogram.width();
    const double high = c.all[static_cast<std::size_t>(std::ceil(share * n)) - 1];
    const double low = c.all[static_cast<std::size_t>(std::floor((1 - share) * n))];
    CHECK(got.high >= high);
    CHECK(got.high <= high + width);
    CHECK(got.low <= low);
    CHECK(got.low >= low - 2 * width);
  }
}

TEST_CASE("least_error: no other range of a fine grid is much better on the values themselves") {
  const observed_case c("error");
  const ds::value_limits got = ds::least_error::limits(c.seen), all = c.seen.extreme;
  const double error = error_of(c.all, got);
  CHECK(error < 0.98 * error_of(c.all, all));  // outliers: cutting off pays
  double best = error;
  for (int i = 1; i <= 60; ++i) {
    for (int j = 1; j <= 60; ++j) {
      best = std::min(best, error_of(c.all, {all.low * i / 60, all.high * j / 60}));
    }
  }
  CHECK(error < 1.05 * best);
}

TEST_CASE("histogram: every value is counted once, in its bin, whatever the order of the calls") {
  const observed_case c("histogram");
  ds::observed_range turned;
  for (auto call = c.calls.rbegin(); call != c.calls.rend(); ++call) {
    ds::observe_range(matrix(call->data(), {64, 64}), turned);
  }
  const ds::value_histogram& h = c.seen.histogram;
  CHECK(h.total() == static_cast<ds::index_t>(c.all.size()));
  CHECK(h.width() == turned.histogram.width());
  ds::index_t wrong = 0;
  for (ds::index_t bin = 0; bin < h.bins; ++bin) {
    const auto count = std::count_if(c.all.begin(), c.all.end(), [&](double x) {
      return x >= h.edge(bin) && x < h.edge(bin) + h.width();
    });
    wrong += h.count(bin) != count || turned.histogram.count(bin) != count;
  }
  CHECK(wrong == 0);
}

TEST_CASE("channels and sample: extremes of each column, rows as they were") {
  const observed_case c("channels");
  REQUIRE(c.seen.channels.size() == 64);
  float least = 0, most = 0;
  for (const auto& call : c.calls) {
    for (std::size_t n = 0; n < 64; ++n) {
      least = std::min(least, call[n * 64 + 5]), most = std::max(most, call[n * 64 + 5]);
    }
  }
  CHECK(c.seen.channels[5].low == static_cast<double>(least));
  CHECK(c.seen.channels[5].high == static_cast<double>(most));
  ds::input_sample sample;
  for (const auto& call : c.calls) {
    ds::sample_rows(
        matrix(call.data(), {64, 64}), [](ds::index_t n) { return static_cast<std::int32_t>(n); },
        sample);
  }
  CHECK(sample.rows() == 128);
  CHECK(sample.expert[1] == 2);  // 32 of 64 rows: every second one
  CHECK(sample.values[64] == c.calls[0][128]);
  ds::sample_rows(
      matrix(c.calls[0].data(), {3, 64}), [](ds::index_t) { return 0; }, sample);
  CHECK(sample.rows() == 128);
}
