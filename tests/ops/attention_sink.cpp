// SPDX-License-Identifier: Apache-2.0
// attention_sink and attention_merge: against attention over one more key of value 0 and over all
// keys at once, golden values, gradients through attention, limits at infinity, errors.
#include "deepseek/ops/attention_sink.hpp"

#include "deepseek/backend/cpu/attention_sink.hpp"
#include "deepseek/backend/reference/attention_sink.hpp"
#include "deepseek/ops/attention_merge.hpp"
#include "deepseek/pattern/band.hpp"
#include "ops/attention_case.hpp"
#include "oracle/golden.hpp"

using namespace attention_test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
using sink_view = view<double, host, dyn>;

std::vector<double> sinks_of(index_t heads) {
  std::vector<double> a = support::loss_weights(static_cast<std::size_t>(heads), 3);
  for (double& e : a) e *= 2;
  return a;
}
template <class T>
view<T, host, dyn> viewed(std::vector<T>& v) {
  return {v.data(), {static_cast<index_t>(v.size())}};
}
template <class T>
auto outputs_of(arrays<T>& a) {
  return attention_outputs{a.o.get(), a.lse_view()};
}

// o and lse with a sink in each head: what is seen keeps its weight among more.
answer with_sinks(answer r, const problem& p, const std::vector<double>& sinks) {
  for (index_t i = 0; i < p.n * p.h; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const double lse = r.lse[at], a = sinks[static_cast<std::size_t>(i % p.h)];
    const double keep = std::isinf(lse) ? 0 : 1 / (1 + std::exp(a - lse));
    r.lse[at] = std::isinf(lse) ? a : std::log(std::exp(lse) + std::exp(a));
    for (std::size_t d = 0; d < static_cast<std::size_t>(p.dv); ++d) {
      r.o[at * static_cast<std::size_t>(p.dv) + d] *= keep;
    }
  }
  return r;
}

const problem shapes[] = {
    {.n = 5, .m = 7, .h = 4, .hk = 2, .d = 3, .dv = 5},
    {.n = 9, .m = 4, .h = 2, .hk = 1, .d = 4, .dv = 3},  // the first queries see nothing
    {.n = 33, .m = 33, .h = 3, .hk = 3, .d = 8, .dv = 17},
};

template <class T, class B>
void forward(const B& b, const problem& p, layout how) {
  const std::string name = case_name(p, std::string(b.name()) + " " + to_string(how));
  const data x = draw<T>(p, name);
  std::vector<T> sinks = support::as<T>(sinks_of(p.h));
  arrays<T> a(p, x, how);
  a.forward(b, spec_of(p, causal{}));
  ops::attention_sink(b, viewed(sinks), outputs_of(a));
  const answer r = with_sinks(oracle_answer(p, x, causal_rule()), p, support::to_double(sinks));
  const auto limits = trusting(
      support::doubled(support::attention_limits(dtype_of<T>, static_cast<std::size_t>(p.m))));
  support::expect("attention_sink", name,
                  support::compare(limits, a.o.values(), r.o, static_cast<std::size_t>(p.dv)));
  CHECK(log_sums_agree(a.lse.values(), r.lse));
  CHECK(a.clean());
}

// Keys 0 .. cut - 1 and the others apart, merged, against all at once.
template <class T, class B>
void merged(const B& b, index_t cut) {
  const problem p{.n = 12, .m = 12, .h = 4, .hk = 2, .d = 8, .dv = 6};
  const std::string name = case_name(p, std::string(b.name()) + support::text(" cut", cut));
  const data x = draw<T>(p, name);
  arrays<T> all(p, x);
  array<T> other(p.n, p.h, p.dv);
  std::vector<accumulate_t<T>> lse(static_cast<std::size_t>(p.n * p.h));
  const view<accumulate_t<T>, host, dyn, dyn> lse_view(lse.data(), {p.n, p.h});
  const auto q = all.q.get();
  const auto part = [&](index_t first, index_t last, const auto& to) {
    ops::attention(b,
                   attention_inputs{q, rows(all.k.get(), first, last - first),
                                    rows(all.v.get(), first, last - first)},
                   to, attention_spec<everyone>{});
  };
  part(0, cut, outputs_of(all));
  part(cut, p.m, attention_outputs{other.get(), lse_view});
  ops::attention_merge(b, attention_outputs{other.get(), lse_view}, outputs_of(all));
  const answer want = oracle_answer(p, x, all_rule());
  support::expect("attention_merge", name,
                  support::compare(support::doubled(support::attention_limits(
                                       dtype_of<T>, static_cast<std::size_t>(p.m))),
                                   all.o.values(), want.o, static_cast<std::size_t>(p.dv)));
  CHECK(log_sums_agree(all.lse.values(), want.lse));
  CHECK(all.clean());
}

// The loss is sum w o through two attentions, merge and sink; backward gets the final o and lse.
template <class B>
struct both_parts {
  const B& b;
  problem p;
  index_t cut;
  arrays<double> a;
  array<double> other, dq_more;
  std::vector<double> lse, sinks, dsinks;

  both_parts(const B& backend, const problem& shape, index_t at, const data& x)
      : b(backend),
        p(shape),
        cut(at),
        a(shape, x),
        other(shape.n, shape.h, shape.dv),
        dq_more(shape.n, shape.h, shape.d),
        lse(static_cast<std::size_t>(shape.n * shape.h)),
        sinks(sinks_of(shape.h)),
        dsinks(sinks.size(), 0.5) {}

  auto inputs(index_t first, index_t last) {
    return attention_inputs{a.q.get(), rows(a.k.get(), first, last - first),
                            rows(a.v.get(), first, last - first)};
  }
  static attention_spec<causal> early() { return {.pattern = {}, .start = 2}; }
  static attention_spec<everyone> late() { return {}; }
  void forward() {
    const view<double, host, dyn, dyn> lse_view(lse.data(), {p.n, p.h});
    const attention_outputs more{other.get(), lse_view};
    ops::attention(b, inputs(0, cut), outputs_of(a), early());
    ops::attention(b, inputs(cut, p.m), more, late());
    ops::attention_merge(b, more, outputs_of(a));
    ops::attention_sink(b, viewed(sinks), outputs_of(a));
  }
  void backward() {
    const auto part = [&](index_t first, index_t last, auto dq, const auto& spec) {
      const index_t n = last - first;
      ops::attention_backward(b, inputs(first, last), outputs_of(a),
                              attention_gradients{a.g.get(), dq, rows(a.dk.get(), first, n),
                                                  rows(a.dv.get(), first, n)},
                              spec);
    };
    ops::attention_sink_backward(b, viewed(sinks), outputs_of(a), a.g.get(), viewed(dsinks));
    part(0, cut, a.dq.get(), early());
    part(cut, p.m, dq_more.get(), late());
  }
};

template <class B>
void differences(const B& b, const problem& p, index_t cut) {
  const std::string name = case_name(p, std::string(b.name()) + support::text(" cut", cut));
  data x = draw<double>(p, name);
  x.g = support::loss_weights(x.g.size());
  both_parts<B> t(b, p, cut, x);
  t.forward();
  t.backward();
  auto dq = t.a.dq.values();
  const auto more = t.dq_more.values();
  for (std::size_t i = 0; i < dq.size(); ++i) dq[i] += more[i];
  for (double& e : t.dsinks) e -= 0.5;
  const auto loss = [&] {
    t.forward();
    return support::weighted_sum(x.g, t.a.o.values());
  };
  const auto check = [&](array<double>& moved, const std::vector<double>& at,
                         const std::vector<double>& gradient, const char* what) {
    const auto at_values = [&](const std::vector<double>& values) {
      moved.set(values);
      return loss();
    };
    support::expect_gradient("attention_sink", name + " " + what,
                             support::check_gradient(at_values, at, gradient));
    moved.set(at);
  };
  check(t.a.q, x.q, dq, "dq");
  check(t.a.k, x.k, t.a.dk.values(), "dk");
  check(t.a.v, x.v, t.a.dv.values(), "dv");
  const auto at_sinks = [&](const std::vector<double>& values) {
    t.sinks = values;
    return loss();
  };
  support::expect_gradient("attention_sink", name + " dsinks",
                           support::check_gradient(at_sinks, sinks_of(p.h), t.dsinks));
}

template <class T, class B>
std::vector<T> after_sink(const B& b, std::vector<T> o, T& lse, T sink) {
  const view<T, host, dyn, dyn, dyn> ov(o.data(), {1, 1, static_cast<index_t>(o.size())});
  const view<T, host, dyn, dyn> lv(&lse, {1, 1});
  ops::attention_sink(b, view<T, host, dyn>(&sink, {1}), attention_outputs{ov, lv});
  return o;
}

template <class B>
void at_infinity(const B& b) {
  double lse = -infinity;
  CHECK(after_sink<double>(b, {0, 0}, lse, 0.7) == std::vector<double>{0, 0});
  CHECK(lse == 0.7);
  lse = 1.25;
  CHECK(after_sink<double>(b, {3, -4}, lse, -infinity) == std::vector<double>{3, -4});
  CHECK(lse == 1.25);
  CHECK(after_sink<double>(b, {3, -4}, lse, infinity) == std::vector<double>{0, 0});
  CHECK(lse == infinity);
  lse = std::numeric_limits<double>::quiet_NaN();
  CHECK(std::isnan(after_sink<double>(b, {1}, lse, 0)[0]));
  lse = -infinity;
  CHECK(after_sink<double>(b, {0}, lse, -infinity) == std::vector<double>{0});
  CHECK(lse == -infinity);
  lse = 800;  // e^800 overflows
  CHECK(after_sink<double>(b, {2}, lse, 800)[0] == doctest::Approx(1));
  CHECK(lse == doctest::Approx(800 + std::log(2)));
}

// A part that saw nothing changes no bit, whatever its o; into an empty part the other is copied.
template <class B>
void merge_with_nothing(const B& b) {
  double o[] = {1.5, -2}, more[] = {0.1, std::numeric_limits<double>::quiet_NaN()};
  double lse = 0.3, none = -infinity;
  using three = view<double, host, dyn, dyn, dyn>;
  using two = view<double, host, dyn, dyn>;
  const attention_outputs seen{three(o, {1, 1, 2}), two(&lse, {1, 1})};
  const attention_outputs empty{three(more, {1, 1, 2}), two(&none, {1, 1})};
  ops::attention_merge(b, empty, seen);
  CHECK((o[0] == 1.5 && o[1] == -2 && lse == 0.3));
  ops::attention_merge(b, seen, empty);
  CHECK((more[0] == 1.5 && more[1] == -2 && none == 0.3));
}

template <class B>
void golden(const B& b) {
  namespace g = oracle::golden::merge;
  const auto attend = [&](std::size_t first, std::size_t n, double& o, double& lse) {
    std::vector<double> k(g::scores.begin() + static_cast<std::ptrdiff_t>(first),
                          g::scores.begin() + static_cast<std::ptrdiff_t>(first + n));
    std::vector<double> v(g::values.begin() + static_cast<std::ptrdiff_t>(first),
                          g::values.begin() + static_cast<std::ptrdiff_t>(first + n));
    double one = 1;
    using three = view<double, host, dyn, dyn, dyn>;
    const auto keys = static_cast<index_t>(n);
    ops::attention(
        b,
        attention_inputs{three(&one, {1, 1, 1}), three(k.data(), {keys, 1, 1}),
                         three(v.data(), {keys, 1, 1})},
        attention_outputs{three(&o, {1, 1, 1}), view<double, host, dyn, dyn>(&lse, {1, 1})},
        attention_spec<everyone>{});
  };
  double o[2], lse[2];
  attend(0, 2, o[0], lse[0]);
  attend(2, 1, o[1], lse[1]);
  using three = view<double, host, dyn, dyn, dyn>;
  using two = view<double, host, dyn, dyn>;
  ops::attention_merge(b, attention_outputs{three(o + 1, {1, 1, 1}), two(lse + 1, {1, 1})},
                       attention_outputs{three(o, {1, 1, 1}), two(lse, {1, 1})});
  CHECK(std::fabs(o[0] - g::out) < 1e-9);
  CHECK(std::fabs(lse[0] - g::lse) < 1e-9);
  CHECK(std::fabs(after_sink<double>(b, {o[0]}, lse[0], g::sink)[0] - g::with_sink) < 1e-9);
}

template <class B>
void errors(const B& b) {
  array<double> o(2, 3, 4), other(2, 3, 5);
  std::vector<double> l(6), a(3), few(2);
  const view<double, host, dyn, dyn> lse(l.data(), {2, 3}), turned(l.data(), {3, 2});
  const attention_outputs out{o.get(), lse};
  CHECK_ERROR(error_code::shape_mismatch, "attention_sink: sinks[2]", "expected 3",
              ops::attention_sink(b, viewed(few), out));
  CHECK_ERROR(error_code::shape_mismatch, "attention_sink: lse[3, 2]",
              ops::attention_sink(b, viewed(a), attention_outputs{o.get(), turned}));
  CHECK_ERROR(error_code::invalid_argument, "attention_sink: sinks[3]",
              ops::attention_sink(b, sink_view(nullptr, {3}), out));
  CHECK_ERROR(error_code::shape_mismatch, "d_o[2, 3, 5]",
              ops::attention_sink_backward(b, viewed(a), out, other.get(), viewed(a)));
  CHECK_ERROR(error_code::shape_mismatch, "dsinks[2]",
              ops::attention_sink_backward(b, viewed(a), out, o.get(), viewed(few)));
  CHECK_ERROR(error_code::shape_mismatch, "attention_merge: from o[2, 3, 5]",
              ops::attention_merge(b, attention_outputs{other.get(), lse}, out));
  CHECK_ERROR(error_code::shape_mismatch, "attention_merge: lse[3, 2]",
              ops::attention_merge(b, out, attention_outputs{o.get(), turned}));
  array<double> nothing(0, 3, 4);
  const view<double, host, dyn, dyn> no_lse(l.data(), {0, 3});
  std::vector<double> kept(3, 0.5);
  ops::attention_sink(b, viewed(a), attention_outputs{nothing.get(), no_lse});
  ops::attention_sink_backward(b, viewed(a), attention_outputs{nothing.get(), no_lse},
                               nothing.get(), viewed(kept));
  ops::attention_merge(b, attention_outputs{nothing.get(), no_lse},
                       attention_outputs{nothing.get(), no_lse});
  CHECK(kept == std::vector<double>(3, 0.5));
  for (const char* op : {"attention_sink", "attention_merge"}) {
    support::facet(op, "errors");
    support::facet(op, "zero");
    support::facet(op, "forward");
    support::facet(op, "strides");
  }
}

}  // namespace

TEST_CASE_TEMPLATE("attention_sink: one more logit in the denominator", B, reference, cpu) {
  const B b;
  for (const problem& p : shapes) {
    for (const layout how : layouts) {
      forward<double>(b, p, how);
      forward<float>(b, p, how);
    }
    forward<bf16>(b, p, layout::plain);
  }
}
TEST_CASE_TEMPLATE("attention_merge: parts against all keys", B, reference, cpu) {
  const B b;
  for (const index_t cut : {0, 1, 5, 12}) {
    merged<double>(b, cut);
    merged<float>(b, cut);
  }
}
TEST_CASE_TEMPLATE("attention_sink, attention_merge: 4-point differences", B, reference, cpu) {
  const B b;
  differences(b, {.n = 4, .m = 6, .h = 2, .hk = 1, .d = 3, .dv = 4}, 4);
  differences(b, {.n = 3, .m = 5, .h = 4, .hk = 2, .d = 4, .dv = 2}, 3);
  support::facet("attention_merge", "gradient");
}
TEST_CASE_TEMPLATE("attention_sink: infinity, golden values, errors", B, reference, cpu) {
  const B b;
  at_infinity(b);
  merge_with_nothing(b);
  golden(b);
  errors(b);
}
TEST_CASE("attention_sink: the bits do not depend on threads") {
  const problem p{.n = 70, .m = 70, .h = 4, .hk = 2, .d = 8, .dv = 16};
  const data x = draw<float>(p, "threads");
  std::vector<std::vector<float>> first;
  for (const int threads : {1, 2, 3}) {
    const cpu b({.threads = threads});
    std::vector<float> sinks = support::as<float>(sinks_of(p.h)), dsinks(4);
    arrays<float> a(p, x);
    a.forward(b, spec_of(p, causal{}));
    ops::attention_sink(b, viewed(sinks), outputs_of(a));
    ops::attention_merge(b, outputs_of(a), outputs_of(a));
    ops::attention_sink_backward(b, viewed(sinks), outputs_of(a), a.g.get(), viewed(dsinks));
    auto now = results(a, wanted::forward);
    now.push_back(dsinks);
    if (first.empty()) first = now;
    CHECK(same(first, now));
  }
}
