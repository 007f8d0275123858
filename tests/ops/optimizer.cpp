// SPDX-License-Identifier: Apache-2.0
// The optimizer updates: golden values, 30 steps against the oracle in double to 1e-14, float
// within a few roundings, every stride, mixed types, bad rates; lists of tensors at once.
#include "deepseek/ops/optimizer.hpp"

#include "deepseek/backend/cpu/optimizer.hpp"
#include "deepseek/backend/cpu/sum_of_squares.hpp"
#include "deepseek/ops/sum_of_squares_all.hpp"
#include "deepseek/ops/update_all.hpp"

#include "ops/table.hpp"
#include "oracle/golden.hpp"
#include "oracle/optimizer.hpp"

#include <cstring>
#include <limits>

using namespace table;

namespace {

constexpr int steps = 30;
constexpr oracle::optimizer_rule rule{2e-3, 0.9, 0.98, 1e-8, 0.05, 0.8};
constexpr const char* names[] = {"adamw_update", "sgd_update", "sgd_update",
                                 "lion_update",  "amf_update", "amf_update"};
constexpr int ways = 6;  // of names; the second sgd is Nesterov's, the second amf the corrected one

// What an update changes.
template <class T>
struct state {
  sheet<T> p, m, v, buffer;
  state(const shape_case& c, const reals& p0)
      : p(c.rows, c.columns, c.how, p0),
        m(c.rows, c.columns, c.how, reals(c.size(), 0.0)),
        v(c.rows, c.columns, c.how, reals(c.size(), 0.0)),
        buffer(c.rows, c.columns, c.how, reals(c.size(), 0.0)) {}
};

template <class B, class T>
void library_step(const B& b, int way, int t, state<T>& s, sheet<T>& g) {
  const auto p = s.p.matrix(), m = s.m.matrix(), v = s.v.matrix(), buffer = s.buffer.matrix();
  const double c1 = 1 - std::pow(rule.beta1, t), c2 = 1 - std::pow(rule.beta2, t);
  const auto& r = rule;
  const double factor = 0.5;
  if (way == 0) {
    ds::ops::adamw_update(b, p, g.matrix(), ds::moments{m, v},
                          {r.lr, r.beta1, r.beta2, r.eps, r.decay, c1, c2, factor});
  } else if (way <= 2) {
    ds::ops::sgd_update(b, p, g.matrix(), buffer,
                        {r.lr, r.momentum, r.decay, factor,
                         way == 2 ? ds::sgd_momentum::nesterov : ds::sgd_momentum::heavy_ball});
  } else if (way == 3) {
    ds::ops::lion_update(b, p, g.matrix(), m, {r.lr, r.beta1, r.beta2, r.decay, factor});
  } else {
    ds::ops::amf_update(b, p, g.matrix(), ds::amf_moments{m, v, buffer},
                        {r.lr, r.beta1, r.beta2, r.momentum, r.eps, r.decay, c1, c2, factor,
                         way == 5 ? ds::amf_form::corrected : ds::amf_form::printed});
  }
}

void oracle_step(int way, int t, oracle::optimizer_state& s, double g) {
  if (way == 0) oracle::adamw(s, g, t, rule);
  if (way == 1) oracle::sgd(s, g, rule);
  if (way == 2) oracle::sgd(s, g, rule, oracle::momentum_form::nesterov);
  if (way == 3) oracle::lion(s, g, rule);
  if (way == 4) oracle::amf(s, g, t, rule, oracle::amf_form::printed);
  if (way == 5) oracle::amf(s, g, t, rule, oracle::amf_form::corrected);
}

// 16-bit parameters and moments lose too much in 30 steps: they take one.
template <class T, class B>
std::vector<T> check(const B& b, const shape_case& c, int way) {
  const int last = sizeof(T) == 2 ? 1 : steps;
  const reals p0 = drawn_normal<T>(c, c.size(), " p");
  state<T> s(c, p0);
  std::vector<oracle::optimizer_state> want(c.size());
  for (std::size_t i = 0; i < want.size(); ++i) want[i].p = p0[i];
  bool sound = true;
  for (int t = 1; t <= last; ++t) {
    const reals g = drawn<T>(c, c.size(), (" g" + std::to_string(t)).c_str());
    sheet<T> gradient(c.rows, c.columns, c.how, g);
    library_step(b, way, t, s, gradient);
    for (std::size_t i = 0; i < g.size(); ++i) oracle_step(way, t, want[i], 0.5 * g[i]);
    sound = sound && gradient.unchanged();
  }
  const auto p = s.p.values();
  double worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    worst = std::max(worst,
                     std::fabs(support::to_double(p[i]) - want[i].p) / (std::fabs(want[i].p) + 1));
  }
  // Lion jumps where its average is zero but for rounding; sums of large gradients cancel in sgd.
  using v = support::values;
  const bool large = c.kind == v::large || c.kind == v::outlier || c.kind == v::wide;
  const bool jumps = way == 3 && c.kind == v::integer;
  const double size = large && (way == 1 || way == 2) ? 1e3 : 1;
  const double limit =
      jumps ? 2 * steps * rule.lr
            : size * (sizeof(T) == 8 ? 1e-14 : (16 + 2 * last) * ds::unit_roundoff<T>);
  support::expect_true(names[way], where<T>(b, c), worst <= limit && sound,
                       support::text("error", worst, "allowed", limit));
  support::expect_true(names[way], "memory " + where<T>(b, c),
                       s.p.clean() && s.m.clean() && s.v.clean() && s.buffer.clean(),
                       "memory around a tensor was written");
  return joined(joined(p, s.m.values()), joined(s.v.values(), s.buffer.values()));
}

template <class B>
void check_golden(const B& b) {
  reals adamw, lion, amf;
  ds::tensor<double, ds::host, ds::dyn> p({3}), m({3}), v({3}), buffer({3}), g({3});
  const auto run = [&](reals& out, const auto& step) {
    p.data()[1] = 1;
    m.zero();
    v.zero();
    for (int t = 1; t <= 2; ++t) {
      g.data()[1] = oracle::golden::optimizer::gradients[static_cast<std::size_t>(t - 1)];
      step(t);
      out.push_back(p.data()[1]);
    }
  };
  run(adamw, [&](int t) {
    ds::ops::adamw_update(
        b, p, g, ds::moments{m, v},
        {1e-3, 0.9, 0.999, 1e-8, 0.01, 1 - std::pow(0.9, t), 1 - std::pow(0.999, t), 1});
  });
  run(lion, [&](int) { ds::ops::lion_update(b, p, g, m, {3e-5, 0.9, 0.99, 0.01, 1}); });
  const double lion_m = m.data()[1];
  run(amf, [&](int) { ds::ops::amf_update(b, p, g, ds::amf_moments{m, v, buffer}, {.lr = 1e-4}); });
  const auto near = [&](const char* op, const reals& got, const reals& want) {
    for (std::size_t i = 0; i < want.size(); ++i) {
      support::expect_true(op, "golden", std::fabs(got[i] - want[i]) < 6e-13,
                           support::text("got", got[i], "expected", want[i]));
    }
  };
  near("adamw_update", adamw, oracle::golden::optimizer::adamw);
  near("lion_update", lion, oracle::golden::optimizer::lion);
  near("lion_update", {lion_m}, {oracle::golden::optimizer::lion_m});
  near("amf_update", amf, oracle::golden::optimizer::amf);
}

}  // namespace

TEST_CASE("optimizer: golden values") {
  on_both([](const auto& b) { check_golden(b); });
}

TEST_CASE("optimizer: table of cases") {
  for (const shape_case& c : shape_cases({1, 3, 17}, {1, 7, 8, 15, 16, 17, 33, 64})) {
    for (int way = 0; way < ways; ++way) {
      everywhere(names[way], c.text(),
                 [&](const auto& b, auto type) { return check<decltype(type)>(b, c, way); });
    }
  }
  for (const char* op : names) {
    facets(op, {"forward", "strides"});
    support::not_applicable(op, "gradient");
  }
}

TEST_CASE("optimizer: zero gradient, NaN, mixed types") {
  on_both([](const auto& b) {
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    ds::tensor<float, ds::host, ds::dyn> p({19}), g({19}), m({19}), v({19});
    for (int i = 0; i < 19; ++i) p.data()[i] = 1;
    g.data()[18] = nan;
    ds::ops::lion_update(b, p, g, m, {.lr = 0.5, .weight_decay = 0});
    const bool lion = p.data()[17] == 1 && std::isnan(p.data()[18]) && std::isnan(m.data()[18]);
    p.data()[18] = 1;
    m.zero();
    ds::ops::adamw_update(b, p, g, ds::moments{m, v}, {.lr = 0.5, .weight_decay = 0.5});
    const bool adamw = p.data()[17] == 0.75F && std::isnan(p.data()[18]);
    support::expect_true("lion_update", "zero and NaN", lion, "sign(0) is not 0 or NaN is lost");
    support::expect_true("adamw_update", "zero and NaN", adamw, "not decay alone, or NaN is lost");
    ds::tensor<ds::bf16, ds::host, ds::dyn> h({19});
    ds::tensor<double, ds::host, ds::dyn> d({19});
    d.data()[4] = 2;
    ds::ops::sgd_update(b, h, d, m, {.lr = 0.5, .momentum = 0, .weight_decay = 0});
    support::expect_true("sgd_update", "mixed", static_cast<float>(h.data()[4]) == -1, "not -1");
  });
}

// Tensors of many sizes in one list, every second beginning in the middle of 16 bytes: the bits of
// the op tensor by tensor, which only touches those.
template <class P, class G, class B, class Step>
void check_together(const B& b, const Step& step, const char* op) {
  constexpr int states = ds::states_of(Step{});
  using item = ds::update_item<P, G, ds::host, states>;
  const std::vector<ds::index_t> sizes = {0, 1, 4097, 8192, 0, 23, 5000, 0};
  std::vector<std::vector<P>> listed(sizes.size() * (states + 1));
  std::vector<std::vector<G>> gradients(sizes.size());
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const auto n = static_cast<std::size_t>(sizes[i]) + 2;
    for (std::size_t e = 0; e < n; ++e) {
      const double x = std::sin(static_cast<double>(e + 7 * i));
      gradients[i].push_back(static_cast<G>(static_cast<float>(x)));
      for (std::size_t s = 0; s <= states; ++s) {
        const double y = s == 0 ? std::cos(3 * x) : 0.25 + 0.1 * x;
        listed[i * (states + 1) + s].push_back(static_cast<P>(static_cast<float>(y)));
      }
    }
  }
  auto alone = listed;
  const auto items_of = [&](std::vector<std::vector<P>>& from) {
    std::vector<item> items;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const auto at = [&](auto& memory) { return memory.data() + i % 2; };
      item one{
          {at(from[i * (states + 1)]), {sizes[i]}}, {at(gradients[i]), {sizes[i]}}, {}, i != 3};
      for (std::size_t s = 0; s < states; ++s) {
        one.state[s] = {at(from[i * (states + 1) + s + 1]), {sizes[i]}};
      }
      items.push_back(one);
    }
    return items;
  };
  const auto together = items_of(listed);
  ds::ops::update_all(b, std::span<const item>(together), step);
  for (const item& one : items_of(alone)) {
    ds::update_one(b, one, one.decays ? step : ds::without_decay(step));
  }
  bool same = true;
  for (std::size_t i = 0; i < listed.size(); ++i) {
    same = same && std::memcmp(listed[i].data(), alone[i].data(), alone[i].size() * sizeof(P)) == 0;
  }
  support::expect_true("update_all", op, same, "not the bits of one tensor after the other");

  std::vector<ds::view<const G, ds::host, ds::dyn>> squares;
  double sum = 0;
  for (const item& one : together) {
    squares.push_back(one.g);
    sum += ds::ops::sum_of_squares(b, one.g);
  }
  const auto list = std::span<const ds::view<const G, ds::host, ds::dyn>>(squares);
  support::expect_true("sum_of_squares_all", op,
                       ds::ops::sum_of_squares_all(b, list) == sum && sum > 0,
                       "not the sum of one tensor after the other");
}

TEST_CASE("optimizer: all tensors of a list at once") {
  on_both([](const auto& b) {
    check_together<float, float>(b, ds::adamw_step{.weight_decay = 0.1}, "adamw");
    check_together<ds::bf16, float>(b, ds::adamw_step{.weight_decay = 0.1}, "adamw, bf16");
    check_together<float, float>(b, ds::sgd_step{.weight_decay = 0.1}, "sgd");
    check_together<double, float>(b, ds::lion_step{.weight_decay = 0.1}, "lion");
    check_together<float, ds::f16>(
        b, ds::amf_step{.weight_decay = 0.1, .form = ds::amf_form::corrected}, "amf");

    using item = ds::update_item<float, float, ds::host, 1>;
    using numbers = ds::view<const float, ds::host, ds::dyn>;
    ds::ops::update_all(b, std::span<const item>(), ds::sgd_step{});
    CHECK(ds::ops::sum_of_squares_all(b, std::span<const numbers>()) == 0);
    ds::tensor<float, ds::host, ds::dyn> p({3}), q({4});
    const item odd{p.view(), q.view(), {p.view()}}, null{{nullptr, {3}}, p.view(), {p.view()}},
        apart{{q.data(), {2}, {2}}, {q.data(), {2}}, {{q.data(), {2}}}};
    const auto update = [&](const item& one, double lr) {
      ds::ops::update_all(b, std::span<const item>(&one, 1), ds::sgd_step{.lr = lr});
    };
    CHECK_ERROR(ds::error_code::shape_mismatch, "update_all: g or state[4]", update(odd, 1));
    CHECK_ERROR(ds::error_code::invalid_argument, "data pointer is null", update(null, 1));
    CHECK_ERROR(ds::error_code::unsupported, "not contiguous", update(apart, 1));
    CHECK_ERROR(ds::error_code::invalid_argument, "lr is -1", update(odd, -1));
    const numbers strided(q.data(), {2}, {2}), missing(nullptr, {2});
    CHECK_ERROR(ds::error_code::unsupported, "not contiguous",
                ds::ops::sum_of_squares_all(b, std::span<const numbers>(&strided, 1)));
    CHECK_ERROR(ds::error_code::invalid_argument, "data pointer is null",
                ds::ops::sum_of_squares_all(b, std::span<const numbers>(&missing, 1)));
  });
  for (const char* op : {"update_all", "sum_of_squares_all"}) {
    facets(op, {"forward", "zero", "errors"});
    support::not_applicable(op, "gradient");
    support::not_applicable(op, "strides");
  }
}

TEST_CASE("optimizer: zero sizes and errors") {
  on_both([](const auto& b) {
    ds::tensor<float, ds::host, ds::dyn> none({0}), p({3}), q({4});
    ds::ops::adamw_update(b, none, none, ds::moments{none, none}, {});
    ds::ops::sgd_update(b, none, none, none, {});
    ds::ops::lion_update(b, none, none, none, {});
    ds::ops::amf_update(b, none, none, ds::amf_moments{none, none, none}, {});
    const double nan = std::nan("");
    const auto bad = ds::error_code::invalid_argument;
    const ds::moments both{p, p};
    CHECK_ERROR(bad, "adamw_update: lr is nan", ds::ops::adamw_update(b, p, p, both, {.lr = nan}));
    CHECK_ERROR(bad, "beta1 is 1", "[0, 1)", ds::ops::adamw_update(b, p, p, both, {.beta1 = 1}));
    CHECK_ERROR(bad, "beta2 is -0.5", ds::ops::adamw_update(b, p, p, both, {.beta2 = -0.5}));
    CHECK_ERROR(bad, "eps is 0", ds::ops::adamw_update(b, p, p, both, {.eps = 0}));
    CHECK_ERROR(bad, "weight_decay is -1",
                ds::ops::adamw_update(b, p, p, both, {.weight_decay = -1}));
    CHECK_ERROR(bad, "bias_correction2 is 0",
                ds::ops::adamw_update(b, p, p, both, {.bias_correction2 = 0}));
    CHECK_ERROR(bad, "gradient_factor is inf",
                ds::ops::adamw_update(b, p, p, both, {.gradient_factor = HUGE_VAL}));
    CHECK_ERROR(bad, "sgd_update: momentum is 1", ds::ops::sgd_update(b, p, p, p, {.momentum = 1}));
    CHECK_ERROR(bad, "lion_update: lr is -1", ds::ops::lion_update(b, p, p, p, {.lr = -1}));
    CHECK_ERROR(bad, "amf_update: momentum is nan",
                ds::ops::amf_update(b, p, p, ds::amf_moments{p, p, p}, {.momentum = nan}));
    CHECK_ERROR(ds::error_code::shape_mismatch, "adamw_update: g, m or v[4]", "expected 3",
                ds::ops::adamw_update(b, p, q, both, {}));
    CHECK_ERROR(ds::error_code::shape_mismatch, "lion_update: g or m[4]",
                ds::ops::lion_update(b, p, p, q, {}));
    for (int i = 0; i < 3; ++i) {
      support::expect_true("adamw_update", "refused", p.data()[i] == 0, "a refused step changed p");
    }
  });
  for (const char* op : names) facets(op, {"zero", "errors"});
}
