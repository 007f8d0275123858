// SPDX-License-Identifier: Apache-2.0
// softmax_gate with its backward, balance_loss and expert_load against the oracle: sizes, layouts,
// types, ties, golden values; gradients by differences with margins between the scores.
#include "deepseek/ops/balance_loss.hpp"
#include "deepseek/ops/softmax_gate.hpp"

#include "deepseek/backend/cpu/gate.hpp"
#include "deepseek/backend/reference/gate.hpp"

#include "ops/table.hpp"
#include "oracle/golden.hpp"
#include "oracle/moe.hpp"

#include <algorithm>

using namespace table;

namespace {

const char* const op = "softmax_gate";

// rows: tokens, columns: experts, extra: active. Logits no two of which are nearer than 0.03 in a
// row: neither rounding nor a difference step exchanges two experts.
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

ds::renormalize rule(oracle::gate_weights w) {
  return w == oracle::gate_weights::divided_by_sum ? ds::renormalize::yes : ds::renormalize::no;
}

oracle::gate_result expected(const shape_case& c, const reals& logits, oracle::gate_weights w) {
  return oracle::gate_softmax_top_k(logits, {c.rows, c.columns, c.extra, w});
}

template <class T, class B>
std::vector<T> check_forward(const B& b, const shape_case& c, oracle::gate_weights how) {
  const reals logits = support::rounded_to<T>(margins(c, 0.06));
  sheet<T> scores(c.rows, c.columns, c.how, logits), weights(c.rows, c.extra, c.how);
  sheet<std::int32_t> ids(c.rows, c.extra, c.how);
  ds::ops::softmax_gate(b, scores.matrix(), ds::gate_outputs{weights.matrix(), ids.matrix()},
                        rule(how));
  CHECK((scores.clean() && weights.clean() && ids.clean()));
  const oracle::gate_result want = expected(c, logits, how);
  const std::string text = where<T>(b, c);
  support::limits l = support::softmax_limits(type_of<T>, c.columns);
  // 16-bit scores are rounded before they are divided by their sum, and after.
  if (type_of<T> == ds::dtype::bf16 || type_of<T> == ds::dtype::f16) l.rounding = 2.5;
  l.c = -1;
  judge(op, "scores " + text, l, want.probability, scores.values(), c.columns);
  judge(op, "weights " + text, support::doubled(l), want.weights, weights.values(), c.extra);
  if (type_of<T> == ds::dtype::f64 || type_of<T> == ds::dtype::f32) {
    support::expect_true(op, "ids " + text, wide(ids.values()) == want.ids, "other experts");
  }
  return joined(scores.values(), weights.values());
}

// The loss w . weights + v . scores as a function of the logits.
template <class B>
void check_gradient(const B& b, const shape_case& c, oracle::gate_weights how) {
  const reals logits = margins(c), w = support::loss_weights(c.rows * c.extra);
  const reals v = support::loss_weights(c.size(), 78);
  const auto run = [&](const reals& at, sheet<double>& scores, sheet<double>& weights,
                       sheet<std::int32_t>& ids) {
    scores = sheet<double>(c.rows, c.columns, c.how, at);
    ds::ops::softmax_gate(b, scores.matrix(), ds::gate_outputs{weights.matrix(), ids.matrix()},
                          rule(how));
    return support::weighted_sum(w, weights.values()) + support::weighted_sum(v, scores.values());
  };
  sheet<double> scores(c.rows, c.columns, c.how), weights(c.rows, c.extra, c.how);
  sheet<std::int32_t> ids(c.rows, c.extra, c.how);
  run(logits, scores, weights, ids);
  sheet<double> dweights(c.rows, c.extra, c.how, w), dscores(c.rows, c.columns, c.how, v);
  ds::ops::softmax_gate_backward(
      b, ds::gate_saved{scores.matrix(), weights.matrix(), ids.matrix()}, dweights.matrix(),
      dscores.matrix(), rule(how));
  CHECK((dweights.unchanged() && dscores.clean()));
  sheet<double> s(c.rows, c.columns, c.how), u(c.rows, c.extra, c.how);
  sheet<std::int32_t> i(c.rows, c.extra, c.how);
  const auto result = support::check_gradient(
      [&](const reals& at) { return run(at, s, u, i); }, logits, dscores.values());
  support::expect_gradient(op, std::string(b.name()) + " " + c.text(), result);
}

constexpr oracle::gate_weights both_rules[] = {oracle::gate_weights::as_they_are,
                                               oracle::gate_weights::divided_by_sum};

}  // namespace

TEST_CASE("softmax_gate: sizes, layouts and types") {
  for (oracle::gate_weights how : both_rules) {
    for (const shape_case& c : shape_cases({1, 2, 17, 130, 300}, {6, 8, 17, 33}, {1, 2, 6})) {
      everywhere(op, c.text(), [&](const auto& b, auto zero) {
        return check_forward<decltype(zero)>(b, c, how);
      });
    }
  }
  facets(op, {"forward", "strides"});
}

TEST_CASE("softmax_gate: gradients by differences") {
  on_both([](const auto& b) {
    for (oracle::gate_weights how : both_rules) {
      for (const shape_case& c : {shape_case{1, 4, 2}, shape_case{3, 6, 1, layout::padded},
                                  shape_case{4, 5, 5}, shape_case{5, 7, 3, layout::transposed}}) {
        check_gradient(b, c, how);
      }
    }
  });
}

TEST_CASE("softmax_gate: golden values, ties, far logits") {
  namespace golden = oracle::golden::gate;
  on_both([](const auto& b) {
    sheet<double> scores(1, 8, layout::contiguous, golden::logits), weights(1, 2, layout::contiguous);
    sheet<std::int32_t> ids(1, 2, layout::contiguous);
    ds::ops::softmax_gate(b, scores.matrix(), ds::gate_outputs{weights.matrix(), ids.matrix()});
    for (std::size_t e = 0; e < 8; ++e) {
      CHECK(scores.values()[e] == doctest::Approx(golden::softmax[e]).epsilon(1e-8));
    }
    CHECK(ids.values() == ints{5, 2});
    CHECK(weights.values()[1] == doctest::Approx(.159144296).epsilon(1e-8));
    sheet<double> again(1, 8, layout::contiguous, golden::logits);
    ds::ops::softmax_gate(b, again.matrix(), ds::gate_outputs{weights.matrix(), ids.matrix()},
                          ds::renormalize::yes);
    CHECK(weights.values()[0] == doctest::Approx(.598687660).epsilon(1e-8));
    // The lower expert wins a tie; logits of any size give finite weights.
    sheet<float> equal(1, 8, layout::contiguous, reals{1, 2, 2, 1, 2, 0, 0, 0});
    sheet<float> w(1, 2, layout::contiguous);
    ds::ops::softmax_gate(b, equal.matrix(), ds::gate_outputs{w.matrix(), ids.matrix()});
    CHECK(ids.values() == ints{1, 2});
    sheet<float> far(1, 3, layout::contiguous, reals{-3e38, 3e38, -HUGE_VAL});
    ds::ops::softmax_gate(b, far.matrix(), ds::gate_outputs{w.matrix(), ids.matrix()},
                          ds::renormalize::yes);
    CHECK(ids.values() == ints{1, 0});
    CHECK(w.values() == std::vector<float>{1, 0});
  });
}

TEST_CASE("softmax_gate: zero sizes and errors") {
  using matrix = ds::view<float, ds::host, ds::dyn, ds::dyn>;
  using table_of_ids = ds::view<std::int32_t, ds::host, ds::dyn, ds::dyn>;
  float data[64] = {};
  std::int32_t numbers[32] = {};
  on_both([&](const auto& b) {
    using ds::error_code;
    const auto& run = ds::ops::softmax_gate;
    run(b, matrix(nullptr, {0, 4}),
        ds::gate_outputs{matrix(nullptr, {0, 2}), table_of_ids(nullptr, {0, 2})});
    ds::ops::softmax_gate_backward(b,
                                   ds::gate_saved{matrix(nullptr, {0, 4}), matrix(nullptr, {0, 2}),
                                                  table_of_ids(nullptr, {0, 2})},
                                   matrix(nullptr, {0, 2}), matrix(nullptr, {0, 4}));
    const matrix scores(data, {3, 4}), w(data, {3, 2}), wrong(data, {2, 2}), five(data, {3, 5});
    const table_of_ids ids(numbers, {3, 2}), ids5(numbers, {3, 5}), three(numbers, {3, 3});
    CHECK_ERROR(error_code::shape_mismatch, "softmax_gate: weights[2, 2]", "expected 3",
                run(b, scores, ds::gate_outputs{wrong, ids}));
    CHECK_ERROR(error_code::shape_mismatch, "softmax_gate: ids[3, 3]", "expected 2",
                run(b, scores, ds::gate_outputs{w, three}));
    CHECK_ERROR(error_code::invalid_argument, "softmax_gate: 5 active experts of 4",
                run(b, scores, ds::gate_outputs{five, ids5}));
    CHECK_ERROR(error_code::invalid_argument, "softmax_gate: scores[3, 4]", "null",
                run(b, matrix(nullptr, {3, 4}), ds::gate_outputs{w, ids}));
    const auto& back = ds::ops::softmax_gate_backward;
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

TEST_CASE("balance_loss: value, gradient and load") {
  const char* loss_op = "balance_loss";
  for (const shape_case& c : shape_cases({1, 3, 40, 200}, {4, 7, 16}, {1, 3})) {
    const reals probability = [&] {
      support::numbers from(c.text());
      return support::rounded_to<float>(support::draw(support::values::positive, c.size(), from));
    }();
    const ints chosen = drawn_ids(c, c.rows * c.extra, c.columns, " ids");
    const auto order = oracle::permute(wide(chosen), c.rows, c.extra, c.columns);
    everywhere(loss_op, c.text(), [&](const auto& b, auto zero) {
      using T = decltype(zero);
      const reals scores = support::rounded_to<T>(probability);
      sheet<T> s(c.rows, c.columns, c.how, scores), ds_(c.rows, c.columns, c.how);
      sheet<std::int32_t> offsets(c.columns + 1, 1, c.how, order.offsets);
      sheet<float> load(c.columns, 1, c.how, reals(c.columns, 2.0));
      const double loss = ds::ops::balance_loss(b, s.matrix(), offsets.vector(), 0.25);
      const double exact =
          oracle::balance_loss(scores, wide(chosen), c.rows, c.columns).loss * 0.25;
      support::expect_true(loss_op, where<T>(b, c), std::fabs(loss - exact) <= 1e-12 * exact,
                           "the loss is " + std::to_string(loss));
      ds::ops::balance_loss_gradient(b, offsets.vector(), ds_.matrix(), 0.25);
      reals gradient(c.size());
      const double per_row =
          0.25 * static_cast<double>(c.columns) / static_cast<double>(c.rows * c.rows * c.extra);
      for (std::size_t i = 0; i < c.size(); ++i) {
        const std::size_t e = i % c.columns;
        gradient[i] = per_row * static_cast<double>(order.offsets[e + 1] - order.offsets[e]);
      }
      judge(loss_op, "gradient " + where<T>(b, c), support::elementwise_limits(type_of<T>, 4),
            gradient, ds_.values(), c.columns);
      ds::ops::expert_load(b, offsets.vector(), load.vector());
      bool right = s.unchanged() && ds_.clean() && offsets.unchanged() && load.clean();
      for (std::size_t e = 0; e < c.columns; ++e) {
        const auto rows = order.offsets[e + 1] - order.offsets[e];
        right = right && load.values()[e] == 2 + static_cast<float>(rows);
      }
      support::expect_true(loss_op, "load " + where<T>(b, c), right, "wrong load or memory");
      return joined(ds_.values(), std::vector<T>{static_cast<T>(loss)});
    });
  }
  facets(loss_op, {"forward", "strides"});
}

TEST_CASE("balance_loss: gradient by differences, golden value, zero sizes, errors") {
  const char* loss_op = "balance_loss";
  using matrix = ds::view<double, ds::host, ds::dyn, ds::dyn>;
  using vector = ds::view<std::int32_t, ds::host, ds::dyn>;
  std::int32_t starts[] = {0, 2, 3, 5, 6};  // counts 2, 1, 2, 1
  const vector offsets(starts, {5});
  on_both([&](const auto& b) {
    reals s = {.9, .2, .6, .1, .3, .8, .7, .2, .5, .4, .3, .6}, d(12);
    for (std::size_t t = 0; t < 3; ++t) {  // the golden scores are divided by their sum
      const double sum = s[4 * t] + s[4 * t + 1] + s[4 * t + 2] + s[4 * t + 3];
      for (std::size_t e = 0; e < 4; ++e) s[4 * t + e] /= sum;
    }
    const auto loss = [&](reals at) {
      return ds::ops::balance_loss(b, matrix(at.data(), {3, 4}), offsets, 0.5);
    };
    CHECK(loss(s) == doctest::Approx(0.5 * 1.061728395).epsilon(1e-9));
    ds::ops::balance_loss_gradient(b, offsets, matrix(d.data(), {3, 4}), 0.5);
    support::expect_gradient(loss_op, std::string(b.name()), support::check_gradient(loss, s, d));
    std::int32_t zeros[5] = {};
    CHECK(ds::ops::balance_loss(b, matrix(nullptr, {0, 4}), vector(zeros, {5}), 1.0) == 0);
    ds::ops::balance_loss_gradient(b, vector(zeros, {5}), matrix(nullptr, {0, 4}), 1.0);
    CHECK(loss(s) == loss(s));
    CHECK_ERROR(ds::error_code::shape_mismatch, "balance_loss: offsets[5]", "expected 4",
                ds::ops::balance_loss(b, matrix(s.data(), {4, 3}), offsets, 1.0));
    CHECK_ERROR(ds::error_code::invalid_argument, "balance_loss: scores[3, 4]", "null",
                ds::ops::balance_loss(b, matrix(nullptr, {3, 4}), offsets, 1.0));
    float load[3] = {};
    CHECK_ERROR(ds::error_code::shape_mismatch, "expert_load: offsets[5]", "expected 4",
                ds::ops::expert_load(b, offsets, ds::view<float, ds::host, ds::dyn>(load, {3})));
  });
  facets(loss_op, {"zero", "errors"});
}
