// SPDX-License-Identifier: Apache-2.0
// jitter and noisy_logits: the documented bits on every type and stride, statistics, backward.
#include "deepseek/ops/jitter.hpp"
#include "deepseek/ops/noisy_logits.hpp"

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/reference/jitter.hpp"
#include "deepseek/backend/reference/noisy_logits.hpp"

#include "ops/table.hpp"

using namespace table;

namespace {

constexpr ds::routing_draw draw{0x123456789abcdefULL, 7, 5, 0};
// Word e of the stream, straight from Philox.
std::uint32_t word(std::uint64_t e) {
  const auto words = ds::philox({0x89abcdefU, 0x01234567U ^ 0x524F5554U},
                                {static_cast<std::uint32_t>(e / 4), 0, 5, 7});
  return words[static_cast<std::uint32_t>(e % 4)];
}

template <class T, class B>
std::vector<T> check_jitter(const B& b, const shape_case& c) {
  const reals x = drawn<T>(c, c.size(), " x");
  sheet<T> from(c.rows, c.columns, c.how, x), y(c.rows, c.columns, c.how),
      over(c.rows, c.columns, c.how, x);
  ds::ops::jitter(b, from.matrix(), y.matrix(), 0.25, draw);
  ds::ops::jitter(b, over.matrix(), over.matrix(), 0.25, draw);
  reals want;
  for (std::size_t i = 0; i < x.size(); ++i) {
    want.push_back(x[i] * (0.75 + 0.5 * static_cast<double>(word(i) >> 8U) * 0x1p-24));
  }
  judge("jitter", where<T>(b, c), support::elementwise_limits(type_of<T>, 3), want, y.values(),
        c.columns);
  support::expect_true("jitter", "memory " + where<T>(b, c),
                       from.unchanged() && y.clean() && over.clean() &&
                           support::same_bits(over.values(), y.values()),
                       "memory was written, or y over x differs");
  return y.values();
}

template <class T, class B>
std::vector<T> check_noise(const B& b, const shape_case& c) {
  const reals z = drawn_normal<T>(c, c.size(), " z"), r = drawn_normal<T>(c, c.size(), " r");
  sheet<T> logits(c.rows, c.columns, c.how, z), raw(c.rows, c.columns, c.how, r),
      h(c.rows, c.columns, c.how), flat(c.rows, c.columns, c.how);
  const ds::noise_spec spec{.deviation = 0.5, .draw = draw};
  ds::ops::noisy_logits(b, ds::noisy_inputs{logits.matrix(), raw.matrix()}, h.matrix(), spec);
  ds::ops::noisy_logits(b, ds::noisy_inputs{logits.matrix(), ds::none{}}, flat.matrix(), spec);
  reals want, plain, size;
  const ds::stream_key key{draw.seed, 7, 5, 0, ds::random_use::routing};
  for (std::size_t i = 0; i < z.size(); ++i) {
    const double eps = static_cast<double>(ds::normal(key, i));
    want.push_back(z[i] + eps * std::log1p(std::exp(r[i])));
    plain.push_back(z[i] + 0.5 * eps);
    size.push_back(std::fabs(z[i]) + std::fabs(eps) * std::log1p(std::exp(r[i])));
  }
  const auto limits = support::gemm_limits(type_of<T>, 4);
  judge("noisy_logits", where<T>(b, c), limits, want, h.values(), c.columns, size);
  judge("noisy_logits", "flat " + where<T>(b, c), limits, plain, flat.values(), c.columns, size);
  support::expect_true("noisy_logits", "memory " + where<T>(b, c),
                       logits.unchanged() && raw.unchanged() && h.clean() && flat.clean(),
                       "memory was written");
  return joined(h.values(), flat.values());
}

}  // namespace

TEST_CASE("router noise: values, types, strides") {
  for (const shape_case& c : shape_cases({1, 3, 40}, {1, 7, 8, 65})) {
    everywhere("jitter", c.text(),
               [&](const auto& b, auto zero) { return check_jitter<decltype(zero)>(b, c); });
    everywhere("noisy_logits", c.text(),
               [&](const auto& b, auto zero) { return check_noise<decltype(zero)>(b, c); });
  }
  for (const char* op : {"jitter", "noisy_logits"}) facets(op, {"forward", "strides"});
}

TEST_CASE("router noise: mean and deviation of many numbers") {
  const ds::cpu b;
  const std::size_t n = 40000;
  sheet<double> zeros(n / 8, 8, layout::contiguous, reals(n)),
      ones(n / 8, 8, layout::contiguous, reals(n, 1.0)), y(n / 8, 8, layout::contiguous);
  const auto moments = [&] {
    double mean = 0, square = 0;
    for (double v : y.values()) mean += v / static_cast<double>(n);
    for (double v : y.values()) square += (v - mean) * (v - mean) / static_cast<double>(n);
    return std::pair{mean, std::sqrt(square)};
  };
  ds::ops::noisy_logits(b, ds::noisy_inputs{zeros.matrix(), ds::none{}}, y.matrix(),
                        {.deviation = 2, .draw = draw});
  CHECK(std::fabs(moments().first) < 5 * 2 / std::sqrt(40000.0));
  CHECK(moments().second == doctest::Approx(2).epsilon(0.02));
  ds::ops::jitter(b, ones.matrix(), y.matrix(), 0.3, draw);
  CHECK(moments().first == doctest::Approx(1).epsilon(0.005));
  CHECK(moments().second == doctest::Approx(0.3 / std::sqrt(3.0)).epsilon(0.02));
  const auto all = y.values();
  CHECK(*std::min_element(all.begin(), all.end()) >= 0.7);
  CHECK(*std::max_element(all.begin(), all.end()) <= 1.3);
  // Another step, another lane: other numbers.
  for (const ds::routing_draw& other :
       {ds::routing_draw{draw.seed, 8, 5, 0}, ds::routing_draw{draw.seed, 7, 5, 1}}) {
    ds::ops::jitter(b, ones.matrix(), y.matrix(), 0.3, other);
    CHECK(!support::same_bits(y.values(), all));
  }
}

TEST_CASE("router noise: gradients by differences") {
  on_both([](const auto& b) {
    for (layout how : {layout::contiguous, layout::padded, layout::transposed}) {
      const shape_case c{4, 5, 0, how};
      const reals x = drawn<double>(c, 20, " x"), r = drawn_normal<double>(c, 20, " r"),
                  w = support::loss_weights(20);
      sheet<double> dy(4, 5, how, w), dx(4, 5, how), raw(4, 5, how, r), dr(4, 5, how);
      ds::ops::jitter(b, dy.matrix(), dx.matrix(), 0.25, draw);
      const auto jittered = [&](const reals& at) {
        sheet<double> from(4, 5, how, at), y(4, 5, how);
        ds::ops::jitter(b, from.matrix(), y.matrix(), 0.25, draw);
        return support::weighted_sum(w, y.values());
      };
      support::expect_gradient("jitter", c.text(),
                               support::check_gradient(jittered, x, dx.values()));
      const ds::noise_spec spec{.draw = draw};
      ds::ops::noisy_logits_backward(b, raw.matrix(), dy.matrix(), dr.matrix(), spec);
      const auto noisy = [&](const reals& at) {
        sheet<double> from(4, 5, how, x), moved(4, 5, how, at), y(4, 5, how);
        ds::ops::noisy_logits(b, ds::noisy_inputs{from.matrix(), moved.matrix()}, y.matrix(), spec);
        return support::weighted_sum(w, y.values());
      };
      support::expect_gradient("noisy_logits", c.text(),
                               support::check_gradient(noisy, r, dr.values()));
    }
  });
  for (const char* op : {"jitter", "noisy_logits"}) facets(op, {"gradient"});
}

TEST_CASE("router noise: zero sizes and errors") {
  using matrix = ds::view<double, ds::host, ds::dyn, ds::dyn>;
  double data[6] = {};
  on_both([&](const auto& b) {
    using ds::error_code;
    const matrix empty(nullptr, {0, 3}), x(data, {2, 3}), wrong(data, {3, 2});
    const ds::noise_spec spec{};
    ds::ops::jitter(b, empty, empty, 0.1, draw);
    ds::ops::noisy_logits(b, ds::noisy_inputs{empty, empty}, empty, spec);
    ds::ops::noisy_logits_backward(b, empty, empty, empty, spec);
    CHECK_ERROR(error_code::invalid_argument, "jitter: amount is 1.5",
                ds::ops::jitter(b, x, x, 1.5, draw));
    CHECK_ERROR(error_code::invalid_argument, "jitter: amount is nan",
                ds::ops::jitter(b, x, x, std::nan(""), draw));
    CHECK_ERROR(error_code::shape_mismatch, "jitter: x[3, 2]", "expected 2",
                ds::ops::jitter(b, wrong, x, 0.1, draw));
    CHECK_ERROR(error_code::invalid_argument, "jitter: x[2, 3]", "null",
                ds::ops::jitter(b, matrix(nullptr, {2, 3}), x, 0.1, draw));
    CHECK_ERROR(error_code::invalid_argument, "noisy_logits: deviation is -1",
                ds::ops::noisy_logits(b, ds::noisy_inputs{x, ds::none{}}, x, {.deviation = -1}));
    CHECK_ERROR(error_code::shape_mismatch, "noisy_logits: deviation[3, 2]", "expected 2",
                ds::ops::noisy_logits(b, ds::noisy_inputs{x, wrong}, x, spec));
    CHECK_ERROR(error_code::shape_mismatch, "noisy_logits_backward: dr[3, 2]", "expected 2",
                ds::ops::noisy_logits_backward(b, x, x, wrong, spec));
  });
  for (const char* op : {"jitter", "noisy_logits"}) facets(op, {"zero", "errors"});
}
