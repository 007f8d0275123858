// SPDX-License-Identifier: Apache-2.0
// expert_capacity, plans of what was sent (-1: nowhere), gate_weights over what is left,
// expert_sequences and choice_load: against the oracle and by hand.
#include "deepseek/ops/expert_capacity.hpp"
#include "deepseek/ops/balance_loss.hpp"
#include "deepseek/ops/combine.hpp"
#include "deepseek/ops/expert_plan.hpp"
#include "deepseek/ops/expert_sequences.hpp"
#include "deepseek/ops/permute.hpp"

#include "deepseek/backend/cpu/combine.hpp"
#include "deepseek/backend/cpu/gate.hpp"
#include "deepseek/backend/cpu/permute.hpp"
#include "deepseek/backend/reference/balance_loss.hpp"
#include "deepseek/backend/reference/expert_capacity.hpp"
#include "deepseek/backend/reference/expert_plan.hpp"
#include "deepseek/backend/reference/expert_sequences.hpp"

#include "ops/table.hpp"
#include "oracle/routing.hpp"

using namespace table;

namespace {

const char* const op = "expert_capacity";
constexpr ds::routing_draw draw{3, 4, 5, 0};

// K different experts of a token.
ints distinct_ids(const shape_case& c) {
  support::numbers from(c.text() + " ids");
  ints out;
  for (std::size_t t = 0; t < c.rows; ++t) {
    ints all;
    for (std::size_t e = 0; e < c.columns; ++e) all.push_back(static_cast<std::int32_t>(e));
    for (std::size_t k = 0; k < c.extra; ++k) {
      // Low experts are chosen more often, so that they overflow.
      const std::size_t at = k + from.below(1 + from.below(c.columns - k));
      std::swap(all[k], all[at]);
      out.push_back(all[k]);
    }
  }
  return out;
}

// rows: tokens, columns: experts, extra: choices.
template <class T, class B>
std::vector<T> check(const B& b, const shape_case& c, ds::drop_order order, ds::index_t room) {
  const reals s = drawn_normal<T>(c, c.size(), " scores");
  const ints ids = distinct_ids(c);
  sheet<T> scores(c.rows, c.columns, c.how, s);
  sheet<std::int32_t> chosen(c.rows, c.extra, c.how, ids), sent(c.rows, c.extra, c.how);
  reals priority;
  const ds::stream_key key{draw.seed, 4, 5, 0, ds::random_use::routing};
  for (std::size_t a = 0; a < ids.size() && order != ds::drop_order::by_position; ++a) {
    priority.push_back(order == ds::drop_order::at_random
                           ? static_cast<double>(ds::random_word(key, a))
                           : s[a / c.extra * c.columns + static_cast<std::size_t>(ids[a])]);
  }
  const auto want =
      oracle::capacity(wide(ids), c.rows, c.columns, static_cast<std::size_t>(room), priority);
  const ds::index_t kept =
      ds::ops::expert_capacity(b, ds::capacity_inputs{scores.matrix(), chosen.matrix()},
                               sent.matrix(), {.capacity = room, .order = order, .draw = draw});
  const auto lost = std::count(want.begin(), want.end(), -1);
  support::expect_true(op, where<T>(b, c),
                       wide(sent.values()) == want &&
                           kept == static_cast<ds::index_t>(want.size()) - lost &&
                           scores.unchanged() && chosen.unchanged() && sent.clean(),
                       "not the oracle's places");
  std::vector<T> out;
  for (std::int32_t id : sent.values()) out.push_back(static_cast<T>(static_cast<float>(id)));
  return out;
}

}  // namespace

TEST_CASE("expert_capacity: position, score, random; types and strides") {
  for (const shape_case& c : shape_cases({1, 5, 40, 130}, {4, 7, 16}, {1, 2, 4})) {
    for (ds::index_t room : {0, 1, 3, 20}) {
      for (auto order :
           {ds::drop_order::by_position, ds::drop_order::by_score, ds::drop_order::at_random}) {
        everywhere(op, c.text(), [&](const auto& b, auto zero) {
          return check<decltype(zero)>(b, c, order, room);
        });
      }
    }
  }
  facets(op, {"forward", "strides"});
  support::not_applicable(op, "gradient");
}

TEST_CASE("expert_capacity: the number") {
  CHECK(ds::expert_capacity_of(1.25, 2 * 10, 4) == 7);  // ceil(6.25)
  CHECK(ds::expert_capacity_of(1, 2 * 10, 4) == 5);
  CHECK(ds::expert_capacity_of(1.25, 2 * 10, 4, 9) == 9);
  CHECK(ds::expert_capacity_of(0.01, 1, 64) == 1);
  CHECK(ds::expert_capacity_of(1.25, 0, 4) == 0);
  static_assert(ds::expert_capacity_of(1.25, 20, 4) == 7);
  constexpr auto invalid = ds::error_code::invalid_argument;
  CHECK_ERROR(invalid, "factor is 0;", "> 0", ds::expert_capacity_of(0, 20, 4));
  CHECK_ERROR(invalid, "factor is -1;", ds::expert_capacity_of(-1, 20, 4));
  CHECK_ERROR(invalid, "factor is nan;", ds::expert_capacity_of(std::nan(""), 20, 4));
  CHECK_ERROR(invalid, "20 assignments to 0 experts", ds::expert_capacity_of(1, 20, 0));
  CHECK_ERROR(invalid, "-20 assignments to 4 experts", ds::expert_capacity_of(1, -20, 4));
  CHECK_ERROR(ds::error_code::overflow, "factor 1e+300 times 20 assignments to 4",
              ds::expert_capacity_of(1e300, 20, 4));
}

TEST_CASE("expert_capacity: by hand") {
  on_both([](const auto& b) {
    // Three tokens of three experts, two choices; expert 0 takes two rows.
    sheet<double> s(3, 3, layout::contiguous, reals{.5, .3, .2, .6, .1, .3, .7, .2, .1});
    sheet<std::int32_t> ids(3, 2, layout::contiguous, reals{1, 0, 0, 2, 0, 1}),
        sent(3, 2, layout::contiguous);
    const ds::capacity_inputs in{s.matrix(), ids.matrix()};
    const auto places = [&](const ds::capacity_rule& rule) {
      ds::ops::expert_capacity(b, in, sent.matrix(), rule);
      return sent.values();
    };
    // First choices come first: token 0's second choice finds expert 0 full.
    CHECK(places({.capacity = 2}) == ints{1, -1, 0, 2, 0, 1});
    CHECK(places({.capacity = 1}) == ints{1, -1, 0, 2, -1, -1});
    CHECK(places({.capacity = 1, .order = ds::drop_order::by_score}) == ints{1, -1, -1, 2, 0, -1});
    // Token 0 goes on to expert 2, the next by score with room.
    CHECK(places({.capacity = 2, .then = ds::overflow::rerouted}) == ints{1, 2, 0, 2, 0, 1});
    // All three experts are full: nobody finds another.
    CHECK(places({.capacity = 1, .then = ds::overflow::rerouted}) == ints{1, -1, 0, 2, -1, -1});
    CHECK(places({.capacity = 0}) == ints(6, -1));
    // NaN comes last.
    sheet<double> lost(2, 2, layout::contiguous, reals{NAN, .5, -1, .5});
    sheet<std::int32_t> same(2, 1, layout::contiguous, reals{0, 0}), out(2, 1, layout::contiguous);
    CHECK(ds::ops::expert_capacity(b, ds::capacity_inputs{lost.matrix(), same.matrix()},
                                   out.matrix(),
                                   {.capacity = 1, .order = ds::drop_order::by_score}) == 1);
    CHECK(out.values() == ints{-1, 0});
  });
}

TEST_CASE("expert_capacity: a plan without the dropped; what they add and get") {
  on_both([](const auto& b) {
    const shape_case c{23, 9, 3, layout::padded};  // columns: width; 5 experts
    const shape_case of_ids{23, 5, 3};
    const ints ids = distinct_ids(of_ids);
    sheet<double> s(23, 5, layout::contiguous, drawn_normal<double>(of_ids, 115, " s"));
    sheet<std::int32_t> chosen(23, 3, layout::contiguous, ids), sent(23, 3, layout::contiguous),
        slot(23, 3, layout::contiguous), offsets(6, 1, layout::contiguous);
    const auto kept = static_cast<std::size_t>(ds::ops::expert_capacity(
        b, ds::capacity_inputs{s.matrix(), chosen.matrix()}, sent.matrix(), {.capacity = 7}));
    CHECK((kept < 69 && kept >= 14));
    sheet<std::int32_t> source(kept, 1, layout::contiguous);
    ds::ops::expert_plan(b, sent.matrix(), 5,
                         ds::expert_plan_views{offsets.vector(), source.vector(), slot.matrix()});
    const ints o = offsets.values(), from = source.values(), to = slot.values(), at = sent.values();
    for (std::size_t e = 0; e < 5; ++e) CHECK(o[e + 1] - o[e] <= 7);
    for (std::size_t a = 0; a < 69; ++a) {
      CHECK((to[a] < 0) == (at[a] < 0));
      if (to[a] >= 0) CHECK(from[static_cast<std::size_t>(to[a])] == static_cast<int>(a));
    }
    // combine: a dropped choice adds nothing, also where its row would be NaN.
    const reals ys = drawn_normal<double>(c, kept * 9, " ys"),
                w = drawn_normal<double>(c, 69, " w"), dy = drawn_normal<double>(c, 207, " dy");
    sheet<double> rows(kept, 9, c.how, ys), weights(23, 3, c.how, w), y(23, 9, c.how),
        grad(23, 9, c.how, dy), dys(kept, 9, c.how), dw(23, 3, c.how), dx(23, 9, c.how);
    ds::ops::combine(b, rows.matrix(), ds::combine_by{weights.matrix(), slot.matrix()}, y.matrix());
    ds::ops::combine_backward(b, ds::combine_inputs{rows.matrix(), weights.matrix(), slot.matrix()},
                              grad.matrix(), ds::combine_gradients{dys.matrix(), dw.matrix()});
    ds::ops::permute_backward(b, rows.matrix(), slot.matrix(), dx.matrix());
    reals want(207), want_dx(207), want_dw(69), want_dys(kept * 9);
    for (std::size_t a = 0; a < 69; ++a) {
      for (std::size_t d = 0; d < 9 && to[a] >= 0; ++d) {
        const std::size_t row = static_cast<std::size_t>(to[a]) * 9 + d, here = a / 3 * 9 + d;
        want[here] += w[a] * ys[row];
        want_dx[here] += ys[row];
        want_dw[a] += dy[here] * ys[row];
        want_dys[row] = w[a] * dy[here];
      }
    }
    const auto near = [](const std::vector<double>& got, const reals& exact) {
      bool right = got.size() == exact.size();
      for (std::size_t i = 0; i < exact.size(); ++i) {
        right = right && std::fabs(got[i] - exact[i]) < 1e-13;
      }
      return right;
    };
    CHECK(near(y.values(), want));
    CHECK(near(dx.values(), want_dx));
    CHECK(near(dw.values(), want_dw));
    CHECK(near(dys.values(), want_dys));
    CHECK_ERROR(ds::error_code::shape_mismatch, "expert_plan: source", "extent 0 is 69", [&] {
      sheet<std::int32_t> all(69, 1, layout::contiguous);
      ds::ops::expert_plan(b, sent.matrix(), 5,
                           ds::expert_plan_views{offsets.vector(), all.vector(), slot.matrix()});
    }());
    ds::tensor<float, ds::host, 5> load;
    ds::ops::choice_load(b, chosen.matrix(), load);
    ds::ops::choice_load(b, chosen.matrix(), load);
    for (std::int32_t e = 0; e < 5; ++e) {
      CHECK(load.data()[e] == 2 * static_cast<float>(std::count(ids.begin(), ids.end(), e)));
    }
  });
}

TEST_CASE("gate_weights: over the experts that are left") {
  on_both([](const auto& b) {
    sheet<double> s(2, 3, layout::padded, reals{.5, .3, .2, .6, .1, .3}), w(2, 2, layout::padded);
    sheet<std::int32_t> ids(2, 2, layout::padded, reals{0, -1, 0, 2});
    const ds::gate_outputs out{w.matrix(), ids.matrix()};
    ds::ops::gate_weights(b, s.matrix(), out, {.norm = ds::renormalize::yes, .scale = 2});
    CHECK(w.values()[0] == doctest::Approx(2));  // .5 / .5
    CHECK(w.values()[1] == 0);
    CHECK(w.values()[2] == doctest::Approx(2 * .6 / .9));
    ds::ops::gate_weights(b, s.matrix(), out, {});
    CHECK(w.values() == reals{.5, 0, .6, .3});
    CHECK((s.unchanged() && ids.unchanged() && w.clean()));
    sheet<double> d(2, 2, layout::padded, reals{1, 5, 1, 1}), ds_(2, 3, layout::padded, reals(6));
    ds::ops::gate_backward(b, ds::gate_saved{s.matrix(), w.matrix(), ids.matrix()}, d.matrix(),
                           ds_.matrix(), {.score = ds::gate_score::sigmoid});
    const reals want{.25, 0, 0, .24, 0, .21};  // s (1 - s) where an expert was kept
    for (std::size_t i = 0; i < 6; ++i) CHECK(ds_.values()[i] == doctest::Approx(want[i]));
    using matrix = ds::view<double, ds::host, ds::dyn, ds::dyn>;
    const ds::view<std::int32_t, ds::host, ds::dyn, ds::dyn> none(nullptr, {0, 2});
    ds::ops::gate_weights(b, matrix(nullptr, {0, 3}),
                          ds::gate_outputs{matrix(nullptr, {0, 2}), none});
    ids = sheet<std::int32_t>(2, 2, layout::padded, reals{0, -2, 0, 2});
    CHECK_ERROR(ds::error_code::index_range, "gate_weights: ids[0, 1] is -2", "(or -1)",
                ds::ops::gate_weights(b, s.matrix(), ds::gate_outputs{w.matrix(), ids.matrix()}));
  });
  facets("gate_weights", {"forward", "errors", "strides", "zero"});
  support::not_applicable("gate_weights", "gradient");
}

TEST_CASE("gate: all experts, in order") {
  everywhere("gate", "all", [](const auto& b, auto zero) {
    using T = decltype(zero);
    sheet<T> s(1, 4, layout::contiguous, reals{0, 1, 2, 3}), w(1, 4, layout::contiguous);
    sheet<std::int32_t> ids(1, 4, layout::contiguous);
    const ds::gate_rule all{.choice = ds::gate_choice::all};
    ds::ops::gate(b, s.matrix(), ds::none{}, ds::gate_outputs{w.matrix(), ids.matrix()}, all);
    CHECK(ids.values() == ints{0, 1, 2, 3});
    double sum = 0;
    for (std::size_t e = 0; e < 4; ++e) {
      const double p = std::exp(double(e)) / (1 + std::exp(1) + std::exp(2) + std::exp(3));
      CHECK(support::to_double(w.values()[e]) == doctest::Approx(p).epsilon(0.01));
      sum += support::to_double(w.values()[e]);
    }
    CHECK(sum == doctest::Approx(1).epsilon(0.01));
    sheet<T> few(1, 2, layout::contiguous);
    sheet<std::int32_t> two(1, 2, layout::contiguous);
    CHECK_ERROR(ds::error_code::invalid_argument, "gate: 2 active experts of 4", "takes them all",
                ds::ops::gate(b, s.matrix(), ds::none{},
                              ds::gate_outputs{few.matrix(), two.matrix()}, all));
    return w.values();
  });
}

TEST_CASE("expert_sequences") {
  on_both([](const auto& b) {
    // Tokens 0 .. 4 in sequences {0, 1}, {}, {2, 3, 4}; K = 2; expert 1 got nothing.
    const std::int32_t starts[] = {0, 2, 2, 5};
    const ds::sequence_offsets<ds::host> sequences(starts, {4});
    sheet<std::int32_t> offsets(4, 1, layout::padded, reals{0, 3, 3, 7}),
        source(7, 1, layout::padded, reals{0, 3, 8, 1, 5, 6, 9}), out(3, 4, layout::transposed);
    const auto run = [&](ds::index_t choices) {
      ds::ops::expert_sequences(b, ds::expert_rows{offsets.vector(), source.vector(), choices},
                                sequences, out.matrix());
    };
    run(2);
    CHECK(out.values() == ints{0, 2, 2, 3, 0, 0, 0, 0, 0, 1, 1, 4});
    CHECK((out.clean() && offsets.unchanged() && source.unchanged()));
    CHECK_ERROR(ds::error_code::offsets, "expert_sequences: sequences hold tokens 0 .. 4",
                "expert 0 got others", run(1));
    CHECK_ERROR(ds::error_code::invalid_argument, "expert_sequences: K is 0", run(0));
    sheet<std::int32_t> narrow(3, 3, layout::contiguous), none(0, 4, layout::contiguous);
    CHECK_ERROR(ds::error_code::shape_mismatch, "expert_sequences: sequences[4]", "expected 3",
                ds::ops::expert_sequences(
                    b, ds::expert_rows{offsets.vector(), source.vector(), ds::index_t{2}},
                    sequences, narrow.matrix()));
    const ds::view<const std::int32_t, ds::host, ds::dyn> first(starts, {1}), empty(starts, {0});
    ds::ops::expert_sequences(b, ds::expert_rows{first, empty, ds::index_t{2}}, sequences,
                              none.matrix());
  });
  facets("expert_sequences", {"forward", "errors", "strides", "zero"});
  support::not_applicable("expert_sequences", "gradient");
}

TEST_CASE("expert_capacity: zero sizes and errors") {
  using matrix = ds::view<double, ds::host, ds::dyn, ds::dyn>;
  using table_of_ids = ds::view<std::int32_t, ds::host, ds::dyn, ds::dyn>;
  double data[12] = {};
  std::int32_t numbers[6] = {0, 1, 2, 3, 4, 0}, out[6] = {7};
  on_both([&](const auto& b) {
    using ds::error_code;
    const table_of_ids none(nullptr, {0, 2}), ids(numbers, {3, 2}), sent(out, {3, 2});
    const auto& run = ds::ops::expert_capacity;
    CHECK(run(b, ds::capacity_inputs{matrix(nullptr, {0, 4}), none}, none, {}) == 0);
    const matrix s(data, {3, 4});
    CHECK_ERROR(error_code::index_range, "expert_capacity: ids[2, 0] is 4", "0 .. 3",
                run(b, ds::capacity_inputs{s, ids}, sent, {}));
    CHECK(out[0] == 7);
    CHECK_ERROR(error_code::invalid_argument, "expert_capacity: capacity is -1",
                run(b, ds::capacity_inputs{s, ids}, sent, {.capacity = -1}));
    CHECK_ERROR(error_code::shape_mismatch, "expert_capacity: sent[2, 3]", "expected 3",
                run(b, ds::capacity_inputs{s, ids}, table_of_ids(out, {2, 3}), {}));
    CHECK_ERROR(error_code::shape_mismatch, "expert_capacity: scores[4, 3]", "expected 3",
                run(b, ds::capacity_inputs{matrix(data, {4, 3}), ids}, sent, {}));
    CHECK_ERROR(error_code::invalid_argument, "expert_capacity: ids[3, 2]", "null",
                run(b, ds::capacity_inputs{s, table_of_ids(nullptr, {3, 2})}, sent, {}));
  });
  facets(op, {"zero", "errors"});
}
