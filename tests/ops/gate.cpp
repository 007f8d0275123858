// SPDX-License-Identifier: Apache-2.0
// gate with its backward against the oracle: every released rule by sizes, layouts and types; ties,
// NaN, groups with negative scores, golden values; gradients by differences with margins between
// the scores.
#include "deepseek/ops/gate.hpp"

#include "deepseek/backend/cpu/gate.hpp"
#include "deepseek/backend/reference/gate.hpp"

#include "ops/table.hpp"
#include "oracle/golden.hpp"
#include "oracle/moe.hpp"

#include <algorithm>

using namespace table;

namespace {

const char* const op = "gate";

struct trial {
  const char* name;
  ds::gate_rule rule;
  bool biased = false;
};
constexpr ds::renormalize divided = ds::renormalize::yes;
constexpr trial trials[] = {
    {"greedy", {}},
    {"greedy, divided", {.norm = divided}},
    {"V2", {.scale = 16, .groups = 4, .top_groups = 2}},
    {"V3",
     {.score = ds::gate_score::sigmoid,
      .norm = divided,
      .scale = 2.5,
      .groups = 4,
      .top_groups = 2,
      .group = ds::group_score::best_two},
     true},
    {"V4", {.score = ds::gate_score::sqrt_softplus, .norm = divided, .scale = 1.5}, true},
    {"sigmoid as it is", {.score = ds::gate_score::sigmoid, .groups = 4, .top_groups = 3}, true},
};

// Biases of both signs, some equal.
reals bias_of(std::size_t experts, const trial& how) {
  reals out(how.biased ? experts : 0);
  for (std::size_t e = 0; e < out.size(); ++e) {
    out[e] = 0.25 * static_cast<double>((5 * e) % 7) - 0.75;
  }
  return support::rounded_to<float>(out);
}

// rows: tokens, columns: experts, extra: active. Logits no two of which are nearer than 0.03 in a
// row: neither rounding nor a difference step exchanges two.
reals margins(const shape_case& c, double scale = 0.03) {
  support::numbers from(c.text() + " margins");
  reals out(c.size());
  for (std::size_t t = 0; t < c.rows; ++t) {
    for (std::size_t e = 0; e < c.columns; ++e) {
      out[t * c.columns + e] = scale * static_cast<double>(e) - 0.5;
    }
    for (std::size_t e = c.columns; e > 1; --e) {
      std::swap(out[t * c.columns + e - 1], out[t * c.columns + from.below(e)]);
    }
  }
  return out;
}

oracle::gate_shape shape_of(const shape_case& c, const trial& how) {
  const ds::gate_rule& r = how.rule;
  return {
      c.rows,
      c.columns,
      c.extra,
      r.norm == divided ? oracle::gate_weights::divided_by_sum : oracle::gate_weights::as_they_are,
      r.scale,
      r.score == ds::gate_score::softmax   ? oracle::gate_scores::softmax
      : r.score == ds::gate_score::sigmoid ? oracle::gate_scores::sigmoid
                                           : oracle::gate_scores::sqrt_softplus,
      bias_of(c.columns, how),
      static_cast<std::size_t>(r.groups),
      static_cast<std::size_t>(r.top_groups),
      r.group == ds::group_score::best_two ? oracle::group_rank::sum_of_two
                                           : oracle::group_rank::best};
}

bool possible(const shape_case& c, const trial& how) {
  const auto groups = static_cast<std::size_t>(how.rule.groups);
  return c.columns % groups == 0 &&
         c.columns / groups * static_cast<std::size_t>(how.rule.top_groups) >= c.extra;
}

template <class Bias, class B, class S, class W, class I>
void run_gate(const B& b, S& scores, W& weights, I& ids, const trial& how) {
  const reals bias = bias_of(static_cast<std::size_t>(scores.matrix().extent(1)), how);
  const ds::gate_outputs out{weights.matrix(), ids.matrix()};
  if (!how.biased) return ds::ops::gate(b, scores.matrix(), ds::none{}, out, how.rule);
  sheet<Bias> given(bias.size(), 1, layout::contiguous, bias);
  ds::ops::gate(b, scores.matrix(), given.vector(), out, how.rule);
  CHECK(given.unchanged());
}

// A swap is legal only between experts whose s + bias in double differ by less than `within`.
bool legal(const ints& ids, const oracle::gate_result& want, const oracle::gate_shape& s,
           double within) {
  bool right = ids.size() == want.ids.size();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto value = [&](std::int64_t id) {
      const auto e = static_cast<std::size_t>(id);
      return want.probability.at(i / s.active * s.experts + e) + (s.bias.empty() ? 0 : s.bias[e]);
    };
    right = right && std::fabs(value(ids[i]) - value(want.ids[i])) <= within;
    for (std::size_t j = i / s.active * s.active; j < i; ++j) right = right && ids[j] != ids[i];
  }
  return right;
}
// The weights of these experts.
reals weights_of(const ints& ids, const oracle::gate_result& want, const oracle::gate_shape& s) {
  reals out;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto p = [&](std::size_t k) {
      return want.probability[i / s.active * s.experts + static_cast<std::size_t>(ids[k])];
    };
    double sum = 0;
    for (std::size_t k = 0; k < s.active; ++k) sum += p(i / s.active * s.active + k);
    out.push_back(s.scale * p(i) / (s.weights == oracle::gate_weights::as_they_are ? 1 : sum));
  }
  return out;
}

template <class T, class B>
std::vector<T> check_forward(const B& b, const shape_case& c, const trial& how) {
  const reals logits =
      support::rounded_to<T>(margins(c, std::min(0.06, 4 / static_cast<double>(c.columns))));
  sheet<T> scores(c.rows, c.columns, c.how, logits), weights(c.rows, c.extra, c.how);
  sheet<std::int32_t> ids(c.rows, c.extra, c.how);
  run_gate<float>(b, scores, weights, ids, how);
  CHECK((scores.clean() && weights.clean() && ids.clean()));
  const oracle::gate_shape shape = shape_of(c, how);
  const oracle::gate_result want = oracle::gate_top_k(logits, shape);
  const std::string text = std::string(how.name) + " " + where<T>(b, c);
  support::limits l = support::softmax_limits(type_of<T>, c.columns);
  constexpr bool narrow = type_of<T> == ds::dtype::bf16 || type_of<T> == ds::dtype::f16;
  // 16-bit scores are rounded before they are divided by their sum, and after.
  if (narrow) l.rounding = 2.5;
  l.c = -1;
  judge(op, "scores " + text, l, want.probability, scores.values(), c.columns);
  const ints chosen = ids.values();
  const double near = type_of<T> == ds::dtype::f64 ? 1e-14 : 1e-6;
  // Rounded to 16 bits, scores may rank two experts or groups the other way round.
  support::expect_true(op, "ids " + text, narrow || legal(chosen, want, shape, near),
                       "other experts");
  judge(op, "weights " + text, support::doubled(l), weights_of(chosen, want, shape),
        weights.values(), c.extra);
  return joined(scores.values(), weights.values());
}

// The loss w . weights + v . scores as a function of the logits.
template <class B>
void check_gradient(const B& b, const shape_case& c, const trial& how) {
  const reals logits = margins(c), w = support::loss_weights(c.rows * c.extra);
  const reals v = support::loss_weights(c.size(), 78);
  const auto run = [&](const reals& at, sheet<double>& scores, sheet<double>& weights,
                       sheet<std::int32_t>& ids) {
    scores = sheet<double>(c.rows, c.columns, c.how, at);
    run_gate<float>(b, scores, weights, ids, how);
    return support::weighted_sum(w, weights.values()) + support::weighted_sum(v, scores.values());
  };
  sheet<double> scores(c.rows, c.columns, c.how), weights(c.rows, c.extra, c.how);
  sheet<std::int32_t> ids(c.rows, c.extra, c.how);
  run(logits, scores, weights, ids);
  sheet<double> dweights(c.rows, c.extra, c.how, w), dscores(c.rows, c.columns, c.how, v);
  ds::ops::gate_backward(b, ds::gate_saved{scores.matrix(), weights.matrix(), ids.matrix()},
                         dweights.matrix(), dscores.matrix(), how.rule);
  CHECK((dweights.unchanged() && dscores.clean()));
  sheet<double> s(c.rows, c.columns, c.how), u(c.rows, c.extra, c.how);
  sheet<std::int32_t> i(c.rows, c.extra, c.how);
  const auto result = support::check_gradient([&](const reals& at) { return run(at, s, u, i); },
                                              logits, dscores.values());
  support::expect_gradient(op, std::string(how.name) + " " + std::string(b.name()) + " " + c.text(),
                           result);
}

// One token, contiguous; bias may be empty.
template <class B>
struct one_token {
  sheet<double> scores, weights;
  sheet<std::int32_t> ids;
  one_token(const B& b, const reals& logits, const reals& bias, std::size_t active,
            const ds::gate_rule& rule)
      : scores(1, logits.size(), layout::contiguous, logits),
        weights(1, active, layout::contiguous),
        ids(1, active, layout::contiguous) {
    const ds::gate_outputs out{weights.matrix(), ids.matrix()};
    if (bias.empty()) {
      ds::ops::gate(b, scores.matrix(), ds::none{}, out, rule);
    } else {
      sheet<double> given(bias.size(), 1, layout::contiguous, bias);
      ds::ops::gate(b, scores.matrix(), given.vector(), out, rule);
    }
  }
};

bool near(const reals& got, const reals& want, double within) {
  bool right = got.size() == want.size();
  for (std::size_t i = 0; i < got.size(); ++i)
    right = right && std::fabs(got[i] - want[i]) < within;
  return right;
}

}  // namespace

TEST_CASE("gate: rules, sizes, layouts and types") {
  for (const trial& how : trials) {
    for (const shape_case& c : shape_cases({1, 2, 17, 130}, {6, 8, 17, 48, 256}, {1, 2, 6, 17})) {
      if (c.extra > c.columns || !possible(c, how)) continue;
      everywhere(op, c.text(), [&](const auto& b, auto zero) {
        return check_forward<decltype(zero)>(b, c, how);
      });
    }
  }
  facets(op, {"forward", "strides"});
}

TEST_CASE("gate: gradients by differences") {
  on_both([](const auto& b) {
    for (const trial& how : trials) {
      for (const shape_case& c : {shape_case{1, 4, 2}, shape_case{3, 8, 1, layout::padded},
                                  shape_case{2, 8, 4}, shape_case{5, 7, 3, layout::transposed}}) {
        if (possible(c, how)) check_gradient(b, c, how);
      }
    }
  });
}

TEST_CASE("gate: golden values") {
  namespace golden = oracle::golden::gate;
  on_both([](const auto& b) {
    const one_token plain(b, golden::logits, {}, 2, {});
    CHECK(near(plain.scores.values(), golden::softmax, 1e-9));
    CHECK(plain.ids.values() == ints{5, 2});
    CHECK(near(plain.weights.values(), golden::weights, 1e-9));
    CHECK(near(one_token(b, golden::logits, {}, 2, {.norm = divided}).weights.values(),
               golden::divided, 1e-9));
    const one_token limited(b, golden::logits, {}, 3, trials[2].rule);
    CHECK(wide(limited.ids.values()) == golden::limited);
    CHECK(near(limited.weights.values(), golden::limited_weights, 3e-9));
    const one_token balanced(b, golden::logits, golden::bias, 3, trials[3].rule);
    CHECK(wide(balanced.ids.values()) == golden::balanced);
    CHECK(near(balanced.weights.values(), golden::balanced_weights, 1e-9));
    const one_token root(b, golden::logits, golden::bias, 3, trials[4].rule);
    CHECK(wide(root.ids.values()) == golden::root);
    CHECK(near(root.weights.values(), golden::root_weights, 1e-9));
  });
}

TEST_CASE("gate: the bias selects and does not weigh; masked groups are out, even at -1") {
  on_both([](const auto& b) {
    const ds::gate_rule sigmoid{.score = ds::gate_score::sigmoid};
    const one_token biased(b, {2, 0, 0, 0}, {0, 9, 0, 0}, 1, sigmoid);
    CHECK(biased.ids.values() == ints{1});
    CHECK(biased.weights.values() == std::vector<double>{0.5});  // of s, not of s + 9
    // Every s + bias is negative: a masked group must not win with 0.
    const ds::gate_rule groups{.score = ds::gate_score::sigmoid,
                               .groups = 2,
                               .top_groups = 1,
                               .group = ds::group_score::best_two};
    const one_token negative(b, {0, 0, 1, 1}, {-5, -5, -5, -5}, 2, groups);
    CHECK(negative.ids.values() == ints{2, 3});
    // The best of a group and the sum of its best two disagree.
    const reals logits = {4, -4, -4, 1, 1, -4};
    ds::gate_rule by{.score = ds::gate_score::sigmoid, .groups = 2, .top_groups = 1};
    CHECK(one_token(b, logits, {}, 1, by).ids.values() == ints{0});
    by.group = ds::group_score::best_two;
    CHECK(one_token(b, logits, {}, 1, by).ids.values() == ints{3});
    // All groups kept: as without groups. One expert a group: the sum of two is the one.
    const reals eight = oracle::golden::gate::logits;
    const auto free = one_token(b, eight, {}, 3, {}).ids.values();
    CHECK(one_token(b, eight, {}, 3, {.groups = 4, .top_groups = 4}).ids.values() == free);
    CHECK(one_token(b, eight, {}, 3,
                    {.groups = 8, .top_groups = 3, .group = ds::group_score::best_two})
              .ids.values() == free);
  });
}

TEST_CASE("gate: ties, far logits, NaN, underflow") {
  on_both([](const auto& b) {
    CHECK(one_token(b, {1, 2, 2, 1, 2, 0, 0, 0}, {}, 2, {}).ids.values() == ints{1, 2});
    // Equal groups: the lower one; equal pairs inside one register lane order count twice.
    const ds::gate_rule pairs{.score = ds::gate_score::sigmoid,
                              .groups = 3,
                              .top_groups = 1,
                              .group = ds::group_score::best_two};
    CHECK(one_token(b, {0, 0, 1, 1, 1, 1}, {}, 2, pairs).ids.values() == ints{2, 3});
    const one_token far(b, {-3e38, 3e38, -HUGE_VAL}, {}, 2, {.norm = divided});
    CHECK(far.ids.values() == ints{1, 0});
    CHECK(far.weights.values() == std::vector<double>{1, 0});
    for (const trial& how : trials) {  // distinct experts whatever comes
      const one_token lost(b, reals(8, NAN), {}, 3, how.rule);
      const ints ids = lost.ids.values();
      CHECK((ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]));
      CHECK(*std::min_element(ids.begin(), ids.end()) >= 0);
      CHECK(*std::max_element(ids.begin(), ids.end()) < 8);
      CHECK(std::isnan(lost.weights.values()[0]));
    }
    // NaN ranks as -inf; a group that is out stays out even when those left hold NaN only.
    CHECK(one_token(b, {0, NAN, 1, -1}, {}, 3, trials[5].rule).ids.values() == ints{2, 0, 3});
    const ds::gate_rule half{.score = ds::gate_score::sigmoid, .groups = 2, .top_groups = 1};
    CHECK(one_token(b, {NAN, 5, 4, 4}, {}, 2, half).ids.values() == ints{1, 0});
    // All scores underflow: finite weights.
    const one_token none(b, reals(4, -800), {}, 2,
                         {.score = ds::gate_score::sigmoid, .norm = divided});
    CHECK(none.weights.values() == std::vector<double>{0, 0});
  });
}

TEST_CASE("gate: given experts") {
  on_both([](const auto& b) {
    ds::gate_rule rule = trials[4].rule;
    rule.choice = ds::gate_choice::given;
    sheet<double> scores(2, 4, layout::contiguous, reals{0, 1, 2, 3, 3, 2, 1, 0}),
        weights(2, 2, layout::contiguous);
    sheet<std::int32_t> ids(2, 2, layout::contiguous, reals{0, 2, 3, 0});
    ds::ops::gate(b, scores.matrix(), ds::none{}, ds::gate_outputs{weights.matrix(), ids.matrix()},
                  rule);
    CHECK(ids.unchanged());
    const auto root = [](double z) { return std::sqrt(std::log1p(std::exp(z))); };
    const double s0 = root(0), s2 = root(2), s3 = root(3);
    CHECK(near(
        weights.values(),
        {1.5 * s0 / (s0 + s2), 1.5 * s2 / (s0 + s2), 1.5 * s0 / (s0 + s3), 1.5 * s3 / (s0 + s3)},
        1e-14));
    sheet<std::int32_t> wrong(2, 2, layout::contiguous, reals{0, 2, 4, 0});
    CHECK_ERROR(ds::error_code::index_range, "gate: ids[1, 0] is 4", "0 .. 3",
                ds::ops::gate(b, scores.matrix(), ds::none{},
                              ds::gate_outputs{weights.matrix(), wrong.matrix()}, rule));
  });
}

TEST_CASE("gate: zero sizes and errors") {
  using matrix = ds::view<float, ds::host, ds::dyn, ds::dyn>;
  using vector = ds::view<float, ds::host, ds::dyn>;
  using table_of_ids = ds::view<std::int32_t, ds::host, ds::dyn, ds::dyn>;
  float data[64] = {};
  std::int32_t numbers[32] = {};
  on_both([&](const auto& b) {
    using ds::error_code;
    const auto& run = ds::ops::gate;
    const ds::none free;
    run(b, matrix(nullptr, {0, 4}), free,
        ds::gate_outputs{matrix(nullptr, {0, 2}), table_of_ids(nullptr, {0, 2})});
    ds::ops::gate_backward(b,
                           ds::gate_saved{matrix(nullptr, {0, 4}), matrix(nullptr, {0, 2}),
                                          table_of_ids(nullptr, {0, 2})},
                           matrix(nullptr, {0, 2}), matrix(nullptr, {0, 4}));
    const matrix scores(data, {3, 4}), w(data, {3, 2}), wrong(data, {2, 2}), five(data, {3, 5});
    const table_of_ids ids(numbers, {3, 2}), ids5(numbers, {3, 5}), three(numbers, {3, 3});
    CHECK_ERROR(error_code::shape_mismatch, "gate: weights[2, 2]", "expected 3",
                run(b, scores, free, ds::gate_outputs{wrong, ids}));
    CHECK_ERROR(error_code::shape_mismatch, "gate: ids[3, 3]", "expected 2",
                run(b, scores, free, ds::gate_outputs{w, three}));
    CHECK_ERROR(error_code::invalid_argument, "gate: 5 active experts of 4", "exceed",
                run(b, scores, free, ds::gate_outputs{five, ids5}));
    CHECK_ERROR(error_code::invalid_argument, "gate: scores[3, 4]", "null",
                run(b, matrix(nullptr, {3, 4}), free, ds::gate_outputs{w, ids}));
    CHECK_ERROR(error_code::shape_mismatch, "gate: bias[3]", "expected 4",
                run(b, scores, vector(data, {3}), ds::gate_outputs{w, ids}));
    const ds::gate_outputs out{w, ids};
    CHECK_ERROR(error_code::invalid_argument, "gate: 3 groups of 4 experts", "divide",
                run(b, scores, free, out, {.groups = 3}));
    CHECK_ERROR(error_code::invalid_argument, "gate: 5 top groups of 4", "1 to 4",
                run(b, scores, free, out, {.groups = 4, .top_groups = 5}));
    CHECK_ERROR(error_code::invalid_argument, "2 active experts of the 1 in 1 groups",
                "more groups", run(b, scores, free, out, {.groups = 4, .top_groups = 1}));
    CHECK_ERROR(error_code::invalid_argument, "gate: scale is nan", "finite",
                run(b, scores, free, out, {.scale = NAN}));
    const auto& back = ds::ops::gate_backward;
    const ds::gate_saved saved{scores, w, ids};
    CHECK_ERROR(error_code::shape_mismatch, "dweights[2, 2]", "expected 3",
                back(b, saved, wrong, scores));
    CHECK_ERROR(error_code::shape_mismatch, "dscores[3, 5]", "expected 4", back(b, saved, w, five));
    CHECK_ERROR(error_code::invalid_argument, "dweights[3, 2]", "null",
                back(b, saved, matrix(nullptr, {3, 2}), scores));
    CHECK_ERROR(error_code::invalid_argument, "dscores[3, 4]", "null",
                back(b, saved, w, matrix(nullptr, {3, 4})));
  });
  support::expect_true(op, "zero", data[0] == 0, "something was written");
  facets(op, {"zero", "errors"});
}
