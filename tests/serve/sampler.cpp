// SPDX-License-Identifier: Apache-2.0
// The sampler: which tokens may come, how often they do, that a seed repeats them, bad input.
#include "deepseek/serve/sampler.hpp"

#include "deepseek/core/dtype.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <map>

namespace ds = deepseek;

namespace {

template <class T = float>
struct row {
  std::vector<T> values;
  explicit row(const std::vector<double>& from) {
    for (double v : from) values.push_back(static_cast<T>(v));
  }
  ds::view<const T, ds::host, ds::dyn> view() const {
    return {values.data(), {static_cast<ds::index_t>(values.size())}};
  }
};

constexpr double infinity = std::numeric_limits<double>::infinity();

// |z| of every token's count against its probability; tokens of probability 0 must not come.
double largest_z(const ds::sampler_config& config, const row<>& logits,
                 const std::vector<double>& probability) {
  constexpr int draws = 1000000;
  ds::sampler s(config);
  std::vector<int> counts(probability.size());
  for (int i = 0; i < draws; ++i) ++counts[static_cast<std::size_t>(s.next(logits.view()))];
  double worst = 0;
  for (std::size_t t = 0; t < counts.size(); ++t) {
    const double p = probability[t];
    if (p == 0) {
      if (counts[t] != 0) return infinity;
      continue;
    }
    const double spread = std::sqrt(draws * p * (1 - p));
    worst = std::max(worst, std::fabs(counts[t] - draws * p) / (spread > 0 ? spread : 1));
  }
  return worst;
}

std::vector<double> softmax(const std::vector<double>& x, double temperature) {
  std::vector<double> p;
  double sum = 0;
  for (double v : x) sum += std::exp(v / temperature);
  for (double v : x) p.push_back(std::exp(v / temperature) / sum);
  return p;
}

}  // namespace

TEST_CASE("a million draws have the probabilities of the softmax") {
  const std::vector<double> x = {0.5, -1, 2, 0, 1.5, -infinity, 1};
  CHECK(largest_z({.seed = 1}, row(x), softmax(x, 1)) < 5);
  CHECK(largest_z({.temperature = 0.6, .seed = 2}, row(x), softmax(x, 0.6)) < 5);
  CHECK(largest_z({.temperature = 3, .seed = 3}, row(x), softmax(x, 3)) < 5);
}

TEST_CASE("top_k and top_p leave the right tokens with the right odds") {
  // Probabilities .4 .3 .2 .1 in the order 2, 0, 3, 1.
  const row<> x({std::log(.3), std::log(.1), std::log(.4), std::log(.2)});
  CHECK(largest_z({.top_k = 2, .seed = 4}, x, {3. / 7, 0, 4. / 7, 0}) < 5);
  CHECK(largest_z({.top_k = 9, .seed = 5}, x, {.3, .1, .4, .2}) < 5);
  CHECK(largest_z({.top_p = .65, .seed = 6}, x, {3. / 7, 0, 4. / 7, 0}) < 5);
  CHECK(largest_z({.top_p = .75, .seed = 7}, x, {3. / 9, 0, 4. / 9, 2. / 9}) < 5);
  CHECK(largest_z({.top_p = .1, .seed = 8}, x, {0, 0, 1, 0}) < 5);
  // top_p counts what top_k left: .4 of .7 is 57 %.
  CHECK(largest_z({.top_k = 2, .top_p = .55, .seed = 9}, x, {0, 0, 1, 0}) < 5);
}

TEST_CASE("equal logits: the lower index is kept") {
  const row<> x({1, 3, 3, 3, 0});
  ds::sampler greedy({.temperature = 0});
  CHECK(greedy.next(x.view()) == 1);
  CHECK(largest_z({.top_k = 2, .seed = 1}, x, {0, .5, .5, 0, 0}) < 5);
  CHECK(largest_z({.top_k = 1, .seed = 1}, x, {0, 1, 0, 0, 0}) < 5);
}

TEST_CASE("the token depends on seed and position alone") {
  const row<> flat(std::vector<double>(1000, 0.0));
  ds::sampler a({.seed = 5}), b({.seed = 5}), other({.seed = 6});
  std::vector<std::int32_t> first;
  int same = 0;
  for (int i = 0; i < 100; ++i) {
    first.push_back(a.next(flat.view()));
    CHECK(b.next(flat.view()) == first.back());
    same += other.next(flat.view()) == first.back();
  }
  CHECK(same < 10);
  CHECK(a.position() == 100);
  a.set_position(40);
  CHECK(a.next(flat.view()) == first[40]);
  std::map<std::int32_t, int> seen;
  for (std::int32_t t : first) ++seen[t];
  CHECK(seen.size() > 85);  // 100 of 1000 without many repetitions
}

TEST_CASE("temperature 0 is the argmax, near 0 as well; types and strides") {
  const std::vector<double> values = {-2, 0.25, 7, 6.5, -infinity};
  CHECK(ds::sampler({.temperature = 0}).next(row<ds::bf16>(values).view()) == 2);
  CHECK(ds::sampler({.temperature = 1e-300}).next(row<double>(values).view()) == 2);
  const row<> x(values);
  const ds::view<const float, ds::host, ds::dyn> every_second(x.values.data(), {2}, {3});
  CHECK(ds::sampler({.temperature = 0}).next(every_second) == 1);
  CHECK(ds::sampler().next(row<>({-3}).view()) == 0);
}

TEST_CASE("bad logits and bad configurations") {
  using code = ds::error_code;
  for (double temperature : {0.0, 1.0}) {
    ds::sampler s({.temperature = temperature});
    CHECK_ERROR(code::nonfinite, "logit 1", "nan", s.next(row<>({0, std::nan(""), 1}).view()));
    CHECK_ERROR(code::nonfinite, "logit 0", "nan", s.next(row<>({std::nan("")}).view()));
    CHECK_ERROR(code::nonfinite, "logit 2", "inf", s.next(row<>({0, 1, infinity}).view()));
    CHECK_ERROR(code::nonfinite, "all 2 logits", s.next(row<>({-infinity, -infinity}).view()));
    CHECK_ERROR(code::invalid_argument, "0 logits", s.next(row<>({}).view()));
    CHECK(s.position() == 0);
  }
  for (double bad : {-1.0, infinity, std::nan("")}) {
    CHECK_ERROR(code::invalid_argument, "temperature", ds::sampler({.temperature = bad}));
  }
  for (double bad : {-0.1, 0.0, 1.5, std::nan("")}) {
    CHECK_ERROR(code::invalid_argument, "top_p", ds::sampler({.top_p = bad}));
  }
  CHECK_ERROR(code::invalid_argument, "top_k is -1", ds::sampler({.top_k = -1}));
}
