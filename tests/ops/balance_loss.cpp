// SPDX-License-Identifier: Apache-2.0
// balance_loss with its backward, and expert_load: experts, devices and their traffic, whole batch
// and sequences, scores as they are and divided by their sum; against the oracle and differences.
#include "deepseek/ops/balance_loss.hpp"

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/reference/balance_loss.hpp"

#include "ops/table.hpp"
#include "oracle/golden.hpp"
#include "oracle/moe.hpp"

using namespace table;

namespace {

const char* const op = "balance_loss";
using spec = ds::balance_spec<ds::host>;

struct trial {
  const char* name;
  ds::index_t groups = 0, top_groups = 1;
  ds::balance_count count = ds::balance_count::assignments;
  ds::balance_share share = ds::balance_share::as_it_is;
  bool sequences = false;
};
constexpr trial trials[] = {
    {"experts"},
    {"experts by sequence", 0, 1, ds::balance_count::assignments, ds::balance_share::as_it_is,
     true},
    {"affinity", 0, 1, ds::balance_count::assignments, ds::balance_share::divided, true},
    {"devices", 2},
    {"traffic", 4, 2, ds::balance_count::tokens},
    {"traffic, all", 4, 3, ds::balance_count::tokens, ds::balance_share::divided, true},
};

// Cuts n tokens into three sequences, the second empty.
ints starts_of(std::size_t n) {
  const auto third = static_cast<std::int32_t>(n / 3);
  return {0, third, third, static_cast<std::int32_t>(n)};
}

oracle::balance exact(const reals& scores, const ints& ids, const shape_case& c, const trial& how) {
  const ints starts = starts_of(c.rows);
  oracle::balance_shape s{c.rows, c.columns, static_cast<std::size_t>(how.groups)};
  if (how.count == ds::balance_count::tokens)
    s.top_groups = static_cast<std::size_t>(how.top_groups);
  s.divided = how.share == ds::balance_share::divided;
  if (how.sequences) s.starts.assign(starts.begin(), starts.end());
  return oracle::balance_loss(scores, wide(ids), s);
}

template <class T, class B>
std::vector<T> check(const B& b, const shape_case& c, const trial& how, const reals& positive,
                     const ints& chosen) {
  const reals scores = support::rounded_to<T>(positive);
  const ints starts = starts_of(c.rows);
  sheet<T> s(c.rows, c.columns, c.how, scores),
      d(c.rows, c.columns, c.how, reals(c.size(), std::is_same_v<T, double> ? 2.0 : 0.0));
  sheet<std::int32_t> ids(c.rows, c.extra, c.how, chosen);
  spec how_much{.alpha = 0.25,
                .groups = how.groups,
                .top_groups = how.top_groups,
                .count = how.count,
                .share = how.share};
  if (how.sequences) how_much.sequences = {starts.data(), {4}};
  const ds::balance_inputs in{s.matrix(), ids.matrix()};
  const double loss = ds::ops::balance_loss(b, in, how_much);
  const double want = 0.25 * exact(scores, chosen, c, how).loss;
  const std::string text = std::string(how.name) + " " + where<T>(b, c);
  support::expect_true(op, text, std::fabs(loss - want) <= 1e-12 * want,
                       "the loss is " + std::to_string(loss) + ", not " + std::to_string(want));
  ds::ops::balance_loss_backward(b, in, d.matrix(), how_much);
  CHECK((s.unchanged() && ids.unchanged() && d.clean()));
  if constexpr (std::is_same_v<T, double>) {
    if (c.size() <= 100) {
      reals gradient = d.values();
      for (double& g : gradient) g -= 2;  // it was added to
      support::expect_gradient(op, text,
                               support::check_gradient(
                                   [&](const reals& at) {
                                     sheet<double> moved(c.rows, c.columns, c.how, at);
                                     return ds::ops::balance_loss(
                                         b, ds::balance_inputs{moved.matrix(), ids.matrix()},
                                         how_much);
                                   },
                                   scores, gradient));
    }
  }
  if constexpr (!std::is_same_v<T, double>) {
    sheet<double> wide_s(c.rows, c.columns, c.how, scores),
        wide_d(c.rows, c.columns, c.how, reals(c.size()));
    ds::ops::balance_loss_backward(b, ds::balance_inputs{wide_s.matrix(), ids.matrix()},
                                   wide_d.matrix(), how_much);
    judge(op, "gradient " + text, support::elementwise_limits(type_of<T>, 4), wide_d.values(),
          d.values(), c.columns);
  }
  return joined(d.values(), std::vector<T>{static_cast<T>(loss)});
}

}  // namespace

TEST_CASE("balance_loss: values and gradients") {
  const std::size_t most = ds::RunsKernels<ds::cpu> ? 70 : 200;  // thread by thread is slow
  for (const trial& how : trials) {
    for (const shape_case& c : shape_cases({3, 5, 40, most}, {4, 8, 16}, {1, 3})) {
      support::numbers from(c.text());
      const reals positive =
          support::rounded_to<float>(support::draw(support::values::positive, c.size(), from));
      const ints chosen = drawn_ids(c, c.rows * c.extra, c.columns, " ids");
      everywhere(op, c.text(), [&](const auto& b, auto zero) {
        return check<decltype(zero)>(b, c, how, positive, chosen);
      });
    }
  }
  facets(op, {"forward", "strides"});
}

TEST_CASE("balance_loss: golden value; what a device gets") {
  namespace golden = oracle::golden::balance;
  on_both([](const auto& b) {
    sheet<double> scores(3, 4, layout::contiguous, golden::scores);
    sheet<std::int32_t> ids(3, 2, layout::contiguous, golden::chosen);
    const ds::balance_inputs in{scores.matrix(), ids.matrix()};
    CHECK(ds::ops::balance_loss(b, in, spec{.share = ds::balance_share::divided}) ==
          doctest::Approx(golden::loss).epsilon(1e-9));
    // Experts {0, 1} and {2, 3}: tokens choose (0, 2), (1, 2), (3, 0): each device gets 3 of 6
    // assignments and all 3 tokens: f = 1 and, with one device for a token, f = 2.
    const double all = 1.8 + 2.0 + 1.8;
    CHECK(ds::ops::balance_loss(b, in, spec{.groups = 2}) == doctest::Approx(all / 3));
    CHECK(ds::ops::balance_loss(b, in, spec{.groups = 2, .count = ds::balance_count::tokens}) ==
          doctest::Approx(2 * all / 3));
    // Scores that all underflow are not divided by zero.
    sheet<double> none(3, 4, layout::contiguous, reals(12));
    CHECK(ds::ops::balance_loss(b, ds::balance_inputs{none.matrix(), ids.matrix()},
                                spec{.share = ds::balance_share::divided}) == 0);
  });
}

TEST_CASE("balance_loss: zero sizes and errors; expert_load") {
  using matrix = ds::view<double, ds::host, ds::dyn, ds::dyn>;
  using table_of_ids = ds::view<std::int32_t, ds::host, ds::dyn, ds::dyn>;
  using vector = ds::view<std::int32_t, ds::host, ds::dyn>;
  double data[12] = {}, gradient[12] = {};
  std::int32_t numbers[] = {0, 2, 1, 2, 3, 0}, wrong[] = {0, 2, 1, 2, 4, 0};
  std::int32_t starts[] = {0, 2, 3, 5, 6}, falling[] = {0, 3, 2, 3}, early[] = {0, 2};
  on_both([&](const auto& b) {
    using ds::error_code;
    const auto& loss = ds::ops::balance_loss;
    const ds::balance_inputs empty{matrix(nullptr, {0, 4}), table_of_ids(nullptr, {0, 2})};
    CHECK(loss(b, empty, spec{}) == 0);
    ds::ops::balance_loss_backward(b, empty, matrix(nullptr, {0, 4}), spec{});
    const matrix s(data, {3, 4}), d(gradient, {3, 4});
    const ds::balance_inputs in{s, table_of_ids(numbers, {3, 2})};
    CHECK_ERROR(error_code::shape_mismatch, "balance_loss: ids[2, 3]", "expected 3",
                loss(b, ds::balance_inputs{s, table_of_ids(numbers, {2, 3})}, spec{}));
    CHECK_ERROR(error_code::invalid_argument, "balance_loss: scores[3, 4]", "null",
                loss(b, ds::balance_inputs{matrix(nullptr, {3, 4}), table_of_ids(numbers, {3, 2})},
                     spec{}));
    CHECK_ERROR(error_code::invalid_argument, "balance_loss: 3 groups of 4", "divide",
                loss(b, in, spec{.groups = 3}));
    CHECK_ERROR(error_code::invalid_argument, "top_groups is 0", ">= 1",
                loss(b, in, spec{.top_groups = 0}));
    const ds::balance_inputs outside{s, table_of_ids(wrong, {3, 2})};
    CHECK_ERROR(error_code::index_range, "balance_loss: ids[2, 0] is 4", "0 .. 3",
                ds::ops::balance_loss_backward(b, outside, d, spec{}));
    CHECK_ERROR(error_code::offsets, "sequences[2] is 2", "less than 3",
                loss(b, in, spec{.sequences = {falling, {4}}}));
    CHECK_ERROR(error_code::offsets, "sequences[1] is 2", "for 3 rows",
                loss(b, in, spec{.sequences = {early, {2}}}));
    CHECK_ERROR(error_code::shape_mismatch, "dscores[4, 3]", "expected 3",
                ds::ops::balance_loss_backward(b, in, matrix(gradient, {4, 3}), spec{}));
    for (double g : gradient) CHECK(g == 0);
    float load[4] = {1, 1, 1, 1};
    ds::ops::expert_load(b, vector(starts, {5}), ds::view<float, ds::host, ds::dyn>(load, {4}));
    CHECK((load[0] == 3 && load[1] == 2 && load[2] == 3 && load[3] == 2));
    CHECK_ERROR(error_code::shape_mismatch, "expert_load: offsets[5]", "expected 4",
                ds::ops::expert_load(b, vector(starts, {5}),
                                     ds::view<float, ds::host, ds::dyn>(load, {3})));
  });
  facets(op, {"zero", "errors"});
}
