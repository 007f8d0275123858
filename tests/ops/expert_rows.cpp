// SPDX-License-Identifier: Apache-2.0
// expert_plan, permute and combine against the oracle: plans with empty experts, repeated choices,
// every stride and type; gradients by differences.
#include "deepseek/ops/combine.hpp"
#include "deepseek/ops/expert_plan.hpp"
#include "deepseek/ops/permute.hpp"

#include "deepseek/backend/cpu/combine.hpp"
#include "deepseek/backend/cpu/permute.hpp"
#include "deepseek/backend/reference/expert_plan.hpp"

#include "ops/table.hpp"
#include "oracle/moe.hpp"

using namespace table;

namespace {

// rows: tokens, columns: dim, extra: choices; 5 experts, of which the ids leave some empty.
constexpr std::size_t experts = 5;

struct plan {
  oracle::permutation want;
  sheet<std::int32_t> ids, offsets, source, slot;

  template <class B>
  plan(const B& b, const shape_case& c)
      : ids(c.rows, c.extra, c.how, drawn_ids(c, c.rows * c.extra, 4, " ids")),
        offsets(experts + 1, 1, c.how),
        source(c.rows * c.extra, 1, c.how),
        slot(c.rows, c.extra, c.how) {
    want = oracle::permute(wide(ids.values()), c.rows, c.extra, experts);
    ds::ops::expert_plan(b, ids.matrix(), static_cast<ds::index_t>(experts),
                         ds::expert_plan_views{offsets.vector(), source.vector(), slot.matrix()});
  }
  bool right() const {
    const ints o = offsets.values(), from = source.values(), to = slot.values();
    bool ok = ids.unchanged() && offsets.clean() && source.clean() && slot.clean();
    for (std::size_t e = 0; e < o.size(); ++e) ok = ok && o[e] == static_cast<int>(want.offsets[e]);
    for (std::size_t a = 0; a < to.size(); ++a) {
      ok = ok && to[a] == static_cast<int>(want.row_of[a]) &&
           from[static_cast<std::size_t>(to[a])] == static_cast<int>(a);
    }
    return ok;
  }
};

reals absolute(reals x) {
  for (double& e : x) e = std::fabs(e);
  return x;
}

template <class T, class B>
std::vector<T> check_permute(const B& b, const shape_case& c, plan& p) {
  const std::size_t r = c.rows * c.extra;
  const auto choices = static_cast<ds::index_t>(c.extra);
  const reals x = drawn<T>(c, c.size(), " x"), dxs = drawn<T>(c, r * c.columns, " dxs");
  sheet<T> from(c.rows, c.columns, c.how, x), xs(r, c.columns, c.how);
  ds::ops::permute(b, from.matrix(), p.source.vector(), choices, xs.matrix());
  judge("permute", where<T>(b, c), support::exact(type_of<T>),
        oracle::gather_rows(x, p.want, c.columns), xs.values(), c.columns);
  sheet<T> grad(r, c.columns, c.how, dxs), dx(c.rows, c.columns, c.how);
  ds::ops::permute_backward(b, grad.matrix(), p.slot.matrix(), dx.matrix());
  const reals ones(r, 1.0);
  judge("permute", "gradient " + where<T>(b, c), support::gemm_limits(type_of<T>, c.extra),
        oracle::combine(dxs, ones, p.want, c.extra, c.columns), dx.values(), c.columns,
        oracle::combine(absolute(dxs), ones, p.want, c.extra, c.columns));
  support::expect_true("permute", "memory " + where<T>(b, c),
                       from.unchanged() && xs.clean() && grad.unchanged() && dx.clean(),
                       "an input or memory around an output was written");
  return joined(xs.values(), dx.values());
}

// dys[slot] = w dy and dw = <dy, ys[slot]>, with S.
struct combine_slopes {
  reals dys, dw;
};
combine_slopes slopes(const reals& ys, const reals& w, const reals& dy, const plan& p,
                      const shape_case& c) {
  combine_slopes out{reals(ys.size()), reals(w.size())};
  for (std::size_t a = 0; a < w.size(); ++a) {
    const std::size_t row = p.want.row_of[a], token = a / c.extra;
    for (std::size_t d = 0; d < c.columns; ++d) {
      out.dys[row * c.columns + d] = w[a] * dy[token * c.columns + d];
      out.dw[a] += ys[row * c.columns + d] * dy[token * c.columns + d];
    }
  }
  return out;
}

reals added(reals a, const reals& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

template <class T, class B>
std::vector<T> check_combine(const B& b, const shape_case& c, plan& p) {
  const std::size_t r = c.rows * c.extra;
  const reals ys = drawn<T>(c, r * c.columns, " ys"), w = drawn_normal<T>(c, r, " w"),
              dy = drawn_normal<T>(c, c.size(), " dy");
  sheet<T> from(r, c.columns, c.how, ys), weights(c.rows, c.extra, c.how, w),
      y(c.rows, c.columns, c.how), grad(c.rows, c.columns, c.how, dy), dys(r, c.columns, c.how),
      dw(c.rows, c.extra, c.how), over(r, c.columns, c.how, ys);
  ds::ops::combine(b, from.matrix(), ds::combine_by{weights.matrix(), p.slot.matrix()}, y.matrix());
  judge("combine", where<T>(b, c), support::gemm_limits(type_of<T>, c.extra),
        oracle::combine(ys, w, p.want, c.extra, c.columns), y.values(), c.columns,
        oracle::combine(absolute(ys), absolute(w), p.want, c.extra, c.columns));
  sheet<T> sum(c.rows, c.columns, c.how, dy);
  ds::ops::combine(b, from.matrix(),
                   ds::combine_by{weights.matrix(), p.slot.matrix(), ds::update::add},
                   sum.matrix());
  judge(
      "combine", "added " + where<T>(b, c), support::gemm_limits(type_of<T>, c.extra + 1),
      added(oracle::combine(ys, w, p.want, c.extra, c.columns), dy), sum.values(), c.columns,
      added(oracle::combine(absolute(ys), absolute(w), p.want, c.extra, c.columns), absolute(dy)));
  ds::ops::combine_backward(b, ds::combine_inputs{from.matrix(), weights.matrix(), p.slot.matrix()},
                            grad.matrix(), ds::combine_gradients{dys.matrix(), dw.matrix()});
  const auto want = slopes(ys, w, dy, p, c),
             size = slopes(absolute(ys), absolute(w), absolute(dy), p, c);
  judge("combine", "gradient ys " + where<T>(b, c), support::gemm_limits(type_of<T>, 1), want.dys,
        dys.values(), c.columns, size.dys);
  support::limits l = support::gemm_limits(type_of<T>, c.columns);
  l.relative = 1;  // a dot product may cancel: judged by S
  if (type_of<T> == ds::dtype::f64) l.c += static_cast<double>(c.columns);
  judge("combine", "gradient w " + where<T>(b, c), l, want.dw, dw.values(), c.extra, size.dw);
  ds::ops::combine_backward(b, ds::combine_inputs{over.matrix(), weights.matrix(), p.slot.matrix()},
                            grad.matrix(), ds::combine_gradients{over.matrix(), ds::none{}});
  support::expect_true("combine", "memory " + where<T>(b, c),
                       from.unchanged() && weights.unchanged() && y.clean() && grad.unchanged() &&
                           dys.clean() && dw.clean() && over.clean() && sum.clean() &&
                           support::same_bits(over.values(), dys.values()),
                       "an input or memory was written, or dys over ys differs");
  return joined(joined(y.values(), dys.values()), dw.values());
}

template <class B>
void check_gradients(const B& b, layout how) {
  const shape_case c{6, 5, 2, how};
  plan p(b, c);
  const reals x = drawn<double>(c, 30, " x"), ys = drawn<double>(c, 60, " ys"),
              w = drawn<double>(c, 12, " w"), many = support::loss_weights(60),
              few = support::loss_weights(30);
  const auto permuted = [&](const reals& moved) {
    sheet<double> from(6, 5, how, moved), xs(12, 5, how);
    ds::ops::permute(b, from.matrix(), p.source.vector(), 2, xs.matrix());
    return support::weighted_sum(many, xs.values());
  };
  sheet<double> dxs(12, 5, how, many), dx(6, 5, how);
  ds::ops::permute_backward(b, dxs.matrix(), p.slot.matrix(), dx.matrix());
  support::expect_gradient("permute", c.text(), support::check_gradient(permuted, x, dx.values()));
  const auto combined = [&](const reals& moved_ys, const reals& moved_w) {
    sheet<double> from(12, 5, how, moved_ys), weights(6, 2, how, moved_w), y(6, 5, how);
    ds::ops::combine(b, from.matrix(), ds::combine_by{weights.matrix(), p.slot.matrix()},
                     y.matrix());
    return support::weighted_sum(few, y.values());
  };
  sheet<double> from(12, 5, how, ys), weights(6, 2, how, w), dy(6, 5, how, few), dys(12, 5, how),
      dw(6, 2, how);
  ds::ops::combine_backward(b, ds::combine_inputs{from.matrix(), weights.matrix(), p.slot.matrix()},
                            dy.matrix(), ds::combine_gradients{dys.matrix(), dw.matrix()});
  support::expect_gradient(
      "combine", "ys " + c.text(),
      support::check_gradient([&](const reals& m) { return combined(m, w); }, ys, dys.values()));
  support::expect_gradient(
      "combine", "w " + c.text(),
      support::check_gradient([&](const reals& m) { return combined(ys, m); }, w, dw.values()));
}

}  // namespace

TEST_CASE("expert rows: table of cases") {
  for (const shape_case& c :
       shape_cases({1, 2, 5, 17, 64, 200}, {1, 3, 8, 15, 16, 17, 33, 64, 130}, {1, 2, 3, 6})) {
    everywhere("combine", c.text(), [&](const auto& b, auto type) {
      plan p(b, c);
      support::expect_true("expert_plan", std::string(b.name()) + " " + c.text(), p.right(),
                           "not the oracle's plan");
      auto out = check_permute<decltype(type)>(b, c, p);
      return joined(std::move(out), check_combine<decltype(type)>(b, c, p));
    });
  }
  for (layout how : {layout::contiguous, layout::padded, layout::transposed}) {
    on_both([&](const auto& b) { check_gradients(b, how); });
  }
  for (const char* op : {"permute", "combine"}) facets(op, {"forward", "gradient", "strides"});
  facets("expert_plan", {"forward", "strides"});
  support::not_applicable("expert_plan", "gradient");
}

TEST_CASE("expert rows: zero sizes") {
  on_both([](const auto& b) {
    ds::tensor<std::int32_t, ds::host, ds::dyn, ds::dyn> ids({0, 2});
    ds::tensor<std::int32_t, ds::host, ds::dyn> offsets({4}), none({0}), one({1});
    for (int e = 0; e < 4; ++e) offsets.data()[e] = 7;
    ds::ops::expert_plan(b, ids, 3, ds::expert_plan_views{offsets, none, ids});
    one.data()[0] = 7;
    ds::ops::expert_plan(b, ids, 0, ds::expert_plan_views{one, none, ids});
    support::expect_true("expert_plan", "zero",
                         offsets.data()[0] == 0 && offsets.data()[3] == 0 && one.data()[0] == 0,
                         "no tokens do not give offsets of zero");
    ds::tensor<float, ds::host, ds::dyn, ds::dyn> x({0, 4}), weights({0, 2}), y({2, 4}),
        no_choice({2, 0});
    ds::tensor<std::int32_t, ds::host, ds::dyn, ds::dyn> no_slot({2, 0});
    ds::ops::permute(b, x, none, 2, x);
    ds::ops::permute_backward(b, x, ids, x);
    ds::ops::combine(b, x, ds::combine_by{weights, ids}, x);
    ds::ops::combine_backward(b, ds::combine_inputs{x, weights, ids}, x,
                              ds::combine_gradients{x, weights});
    y.data()[3] = 2;
    ds::ops::combine(b, x, ds::combine_by{no_choice, no_slot}, y);
    support::expect_true("combine", "zero", y.data()[3] == 0, "no choices do not give zeros");
    y.data()[3] = 2;
    ds::ops::permute_backward(b, x, no_slot, y);
    support::expect_true("permute", "zero", y.data()[3] == 0, "no choices do not give zeros");
  });
  for (const char* op : {"permute", "combine", "expert_plan"}) facets(op, {"zero"});
}

TEST_CASE("expert rows: errors") {
  on_both([](const auto& b) {
    ds::tensor<std::int32_t, ds::host, ds::dyn, ds::dyn> ids({3, 2}), slot({3, 2});
    ds::tensor<std::int32_t, ds::host, ds::dyn> offsets({5}), source({6});
    ds::tensor<float, ds::host, ds::dyn, ds::dyn> x({3, 4}), xs({6, 4}), dxs({6, 4}), w({3, 2}),
        narrow({6, 3});
    ids.data()[3] = 4;
    offsets.data()[0] = 9;
    CHECK_ERROR(ds::error_code::index_range, "expert_plan: ids[1, 1] is 4", "0 .. 3",
                ds::ops::expert_plan(b, ids, 4, ds::expert_plan_views{offsets, source, slot}));
    CHECK(offsets.data()[0] == 9);
    CHECK_ERROR(ds::error_code::shape_mismatch, "expert_plan: offsets[5]", "expected 6",
                ds::ops::expert_plan(b, ids, 5, ds::expert_plan_views{offsets, source, slot}));
    source.data()[5] = 6;
    CHECK_ERROR(ds::error_code::index_range, "permute: source[5] is 6", "0 .. 5",
                ds::ops::permute(b, x, source, 2, xs));
    CHECK_ERROR(ds::error_code::invalid_argument, "permute: K is 0",
                ds::ops::permute(b, x, source, 0, xs));
    CHECK_ERROR(ds::error_code::shape_mismatch, "permute: xs[6, 3]", "expected 4",
                ds::ops::permute(b, x, source, 2, narrow));
    slot.data()[2] = -2;
    CHECK_ERROR(ds::error_code::index_range, "permute_backward: slot[1, 0] is -2",
                ds::ops::permute_backward(b, xs, slot, x));
    CHECK_ERROR(ds::error_code::index_range, "combine: slot[1, 0] is -2",
                ds::ops::combine(b, xs, ds::combine_by{w, slot}, x));
    CHECK_ERROR(ds::error_code::index_range, "combine_backward: slot[1, 0] is -2",
                ds::ops::combine_backward(b, ds::combine_inputs{xs, w, slot}, x,
                                          ds::combine_gradients{dxs, w}));
    slot.data()[2] = 6;  // the first row that is not there: it would be written
    std::fill_n(dxs.data(), 24, 5.0F);
    CHECK_ERROR(ds::error_code::index_range, "combine_backward: slot[1, 0] is 6", "0 .. 5",
                ds::ops::combine_backward(b, ds::combine_inputs{xs, w, slot}, x,
                                          ds::combine_gradients{dxs, ds::none{}}));
    CHECK(std::count(dxs.data(), dxs.data() + 24, 5.0F) == 24);
    CHECK_ERROR(ds::error_code::shape_mismatch, "combine: weights[3, 4]", "expected 2",
                ds::ops::combine(b, xs, ds::combine_by{x, slot}, x));
  });
  for (const char* op : {"permute", "combine", "expert_plan"}) facets(op, {"errors"});
}
