// SPDX-License-Identifier: Apache-2.0
// The test of a row-wise op, written once: sizes x strides x value classes x types x backends, with
// poison in every gap, forward and backward against the oracle, gradients against differences.
// An Op names its arguments (rank 2: [rows, dim], rank 1: [dim]) and says how it is called and what
// it must give. backward gets the inputs, then y, then dy, and gives one gradient for each input;
// those of rank 1 are added to, and start at 0.5 here.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "deepseek/backend/cpu/context.hpp"
#include "ops/row_case.hpp"
#include "support/cases.hpp"
#include "support/compare.hpp"
#include "support/gradient.hpp"
#include "support/report.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

namespace row_cases {

namespace ds = deepseek;

template <class T>
using grids = std::deque<grid<T>>;
template <class T>
using outputs = std::vector<std::vector<T>>;

template <class T>
grids<T> make_grids(const row_case& c, const std::vector<int>& ranks) {
  grids<T> out;
  for (int rank : ranks) out.emplace_back(rank == 2 ? c.rows : 1, c.dim, c.how);
  return out;
}

// Runs `call` with guarded arguments; poison, canaries and inputs are checked.
template <class T, class Call>
outputs<T> run(const row_case& c, const std::vector<reals>& in, const std::vector<int>& in_ranks,
               const std::vector<int>& out_ranks, const Call& call) {
  grids<T> from = make_grids<T>(c, in_ranks), to = make_grids<T>(c, out_ranks);
  for (std::size_t i = 0; i < in.size(); ++i) from[i].fill(in[i]);
  for (std::size_t i = 0; i < to.size(); ++i) {
    if (out_ranks[i] == 1) to[i].fill(reals(c.dim, 0.5));
  }
  call(from, to);
  outputs<T> out;
  bool sound = true;
  for (const auto& g : from) sound = sound && g.unchanged();
  for (const auto& g : to) {
    sound = sound && g.clean();
    out.push_back(g.values());
  }
  CHECK_MESSAGE(sound, "an input or memory around an output was written: ", c.text());
  return out;
}

template <class Op>
std::vector<int> backward_ranks() {
  std::vector<int> ranks = Op::inputs();
  ranks.insert(ranks.end(), {2, 2});
  return ranks;
}
template <class Op, class T, class B>
outputs<T> run_forward(const B& b, const row_case& c, const std::vector<reals>& in) {
  return run<T>(c, in, Op::inputs(), {2}, [&](auto& from, auto& to) { Op::forward(b, from, to); });
}
template <class Op, class T, class B>
outputs<T> run_backward(const B& b, const row_case& c, const std::vector<reals>& in) {
  return run<T>(c, in, backward_ranks<Op>(), Op::inputs(),
                [&](auto& from, auto& to) { Op::backward(b, from, to); });
}

// The first input has the values of the case, the others are normal; all rounded to T.
template <class Op, class T>
std::vector<reals> draw_inputs(const row_case& c) {
  support::numbers from(c.text());
  std::vector<reals> in;
  for (int rank : Op::inputs()) {
    const auto kind = in.empty() ? c.kind : support::values::normal;
    const reals drawn = support::draw(kind, rank == 2 ? c.rows * c.dim : c.dim, from);
    in.push_back(support::to_double(support::as<T>(drawn)));
  }
  return in;
}
template <class Op, class T>
std::vector<reals> draw_backward(const row_case& c) {
  std::vector<reals> in = draw_inputs<Op, T>(c);
  const reals y = Op::expected(in, c).value;
  in.push_back(support::to_double(support::as<T>(y)));
  support::numbers from(c.text() + " dy");
  const reals dy = support::draw(support::values::normal, c.rows * c.dim, from);
  in.push_back(support::to_double(support::as<T>(dy)));
  return in;
}

// Far tails only: the comparison would not trust such a reference.
inline bool all_but_zero(const reals& r) {
  double squares = 0;
  bool zeros = true;
  for (double e : r) {
    squares += e * e;
    zeros = zeros && e == 0;
  }
  return !zeros && std::sqrt(squares) < 1e-30;
}

template <class Op, class T>
void judge(const row_case& c, const std::string& where, support::limits allowed, const result& want,
           const std::vector<T>& got) {
  if (c.special()) {
    allowed.zeros = 1;
    allowed.trust_equal = true;
  }
  if (c.special() && all_but_zero(want.value)) {
    bool right = true;
    for (const T& e : got) right = right && std::fabs(support::to_double(e)) < 1e-29;
    return support::expect_true(Op::name, where + " " + c.text(), right, "not all but zero");
  }
  support::expect(Op::name, where + " " + c.text(),
                  support::compare(allowed, got, want.value, c.dim, want.magnitude));
}

template <class Op, class T, class B>
void check_case(const B& b, const row_case& c, bool on_cpu) {
  const std::string where =
      std::string(b.name()) + " " + std::string(ds::to_string(ds::dtype_of<T>));
  const auto in = draw_inputs<Op, T>(c);
  judge<Op>(c, where, Op::limits(ds::dtype_of<T>, c, on_cpu), Op::expected(in, c),
            run_forward<Op, T>(b, c, in)[0]);
  const auto more = draw_backward<Op, T>(c);
  const auto got = run_backward<Op, T>(b, c, more);
  const std::vector<result> want = Op::expected_backward(more, c);
  for (std::size_t i = 0; i < got.size(); ++i) {
    result r = want[i];
    const bool added = Op::inputs()[i] == 1;
    for (double& e : r.value) e += added ? 0.5 : 0;
    for (double& e : r.magnitude) e += added ? 0.5 : 0;
    judge<Op>(c, where + " gradient " + std::to_string(i),
              Op::backward_limits(ds::dtype_of<T>, c, on_cpu), r, got[i]);
  }
}

template <class T>
bool same(const outputs<T>& a, const outputs<T>& b) {
  bool equal = a.size() == b.size();
  for (std::size_t i = 0; equal && i < a.size(); ++i) equal = support::same_bits(a[i], b[i]);
  return equal;
}

template <class Op, class B>
void check_reference(const B& b) {
  b.workspace().fill_with(0xff);
  for (const row_case& c : all_cases()) {
    check_case<Op, double>(b, c, false);
    check_case<Op, float>(b, c, false);
  }
  for (const row_case& c : all_cases(60)) {
    check_case<Op, ds::bf16>(b, c, false);
    check_case<Op, ds::f16>(b, c, false);
  }
  support::facet(Op::name, "forward");
  support::facet(Op::name, "strides");
}

// Against the oracle with one thread, then bit-equal with two and three.
template <class Op, class T, class B>
void check_cpu(const std::vector<B>& contexts) {
  for (const B& b : contexts) b.workspace().fill_with(0xff);
  for (const row_case& c : all_cases()) {
    check_case<Op, T>(contexts[0], c, true);
    const auto in = draw_backward<Op, T>(c);
    const std::vector<reals> first(in.begin(), in.end() - 2);
    const auto y = run_forward<Op, T>(contexts[0], c, first);
    const auto g = run_backward<Op, T>(contexts[0], c, in);
    for (std::size_t i = 1; i < contexts.size(); ++i) {
      const bool equal = same(run_forward<Op, T>(contexts[i], c, first), y) &&
                         same(run_backward<Op, T>(contexts[i], c, in), g);
      support::expect_true(Op::name, support::text("threads", i + 1) + " " + c.text(), equal,
                           "the bits depend on the number of threads");
    }
  }
}

// 16-bit elements are widened, computed as float is and rounded once: the bits of the float result
// rounded, with any number of threads. Where that is NaN, NaN.
template <class Op, class T, class B>
void check_as_float(const std::vector<B>& contexts, const row_case& c,
                    const std::vector<reals>& in) {
  const std::vector<reals> first(in.begin(), in.end() - 2);
  auto want = run_backward<Op, float>(contexts.front(), c, in);
  auto got = run_backward<Op, T>(contexts.back(), c, in);
  want.push_back(run_forward<Op, float>(contexts.front(), c, first)[0]);
  got.push_back(run_forward<Op, T>(contexts.back(), c, first)[0]);
  bool equal = true;
  for (std::size_t i = 0; i < got.size(); ++i) {
    for (std::size_t j = 0; j < got[i].size(); ++j) {
      const float narrow = got[i][j], rounded = T(want[i][j]);
      equal = equal && (narrow != narrow ? rounded != rounded : narrow == rounded);
    }
  }
  support::expect_true(Op::name, std::string(ds::to_string(ds::dtype_of<T>)) + " " + c.text(),
                       equal, "not the result of float rounded once");
}
template <class Op, class T, class B>
void check_narrow(const std::vector<B>& contexts) {
  for (const row_case& c : all_cases(60)) {
    check_case<Op, T>(contexts[0], c, true);
    check_as_float<Op, T>(contexts, c, draw_backward<Op, T>(c));
  }
  for (const row_case& c : {row_case{3, 7}, row_case{5, 33, strides::offset}, row_case{4, 129}}) {
    auto in = draw_backward<Op, T>(c);
    for (std::size_t i = 0; i < in[0].size(); i += 5) {  // some rows keep all their numbers
      constexpr double special[] = {HUGE_VAL, -HUGE_VAL, -0.0};
      if (i / c.dim % 2 == 0) in[0][i] = i % 3 == 0 && i > 0 ? std::nan("") : special[i % 3];
    }
    check_as_float<Op, T>(contexts, c, in);
  }
}

// Rows of a batch are the same bits alone; y may be x and dx may be dy.
template <class Op, class T, class B>
void check_rows_and_aliases(const B& b) {
  for (const row_case& c : {row_case{5, 33}, row_case{3, 129}, row_case{70, 16}}) {
    const auto in = draw_backward<Op, T>(c);
    const std::vector<reals> inputs(in.begin(), in.end() - 2);
    const auto y = run_forward<Op, T>(b, c, inputs);
    const auto g = run_backward<Op, T>(b, c, in);
    const std::size_t row = c.rows - 1;
    row_case alone = c;
    alone.rows = 1;
    std::vector<reals> cut = inputs;
    for (reals& r : cut) {
      if (r.size() == c.dim) continue;
      r = reals(r.begin() + static_cast<std::ptrdiff_t>(row * c.dim), r.end());
    }
    const auto one = run_forward<Op, T>(b, alone, cut)[0];
    const std::vector<T> last(y[0].end() - static_cast<std::ptrdiff_t>(c.dim), y[0].end());
    support::expect_true(Op::name, "alone " + c.text(), support::same_bits(one, last),
                         "a row of a batch differs from the row alone");
    std::vector<T> over_x, over_dy;
    run<T>(c, {}, backward_ranks<Op>(), Op::inputs(), [&](auto& from, auto& to) {
      for (std::size_t i = 0; i < in.size(); ++i) from[i].fill(in[i]);
      Op::backward(b, from, to, from.back());
      over_dy = from.back().values();
      Op::forward(b, from, from);
      over_x = from[0].values();
      for (std::size_t i = 0; i < in.size(); ++i) from[i].fill(in[i]);
    });
    support::expect_true(Op::name, "y over x " + c.text(), support::same_bits(over_x, y[0]),
                         "y over x differs");
    support::expect_true(Op::name, "dx over dy " + c.text(), support::same_bits(over_dy, g[0]),
                         "dx over dy differs");
  }
}

// In double, against 4-point differences of sum(weights * y), for every input.
template <class Op, class B>
void check_gradients(const B& b) {
  for (const row_case& c : {row_case{1, 5}, row_case{3, 7}, row_case{4, 17}, row_case{2, 40},
                            row_case{6, 3, strides::padded}, row_case{5, 9, strides::transposed}}) {
    std::vector<reals> in = draw_inputs<Op, double>(c);
    for (double& x : in[0]) x = std::copysign(0.02 + std::fabs(x), x);  // off the kink of relu
    const reals weights = support::loss_weights(c.rows * c.dim);
    auto all = in;
    all.push_back(run_forward<Op, double>(b, c, in)[0]);
    all.push_back(weights);
    const auto g = run_backward<Op, double>(b, c, all);
    for (std::size_t i = 0; i < in.size(); ++i) {
      reals gradient = g[i];
      for (double& e : gradient) e -= Op::inputs()[i] == 1 ? 0.5 : 0;
      const auto loss = [&](const reals& moved) {
        auto at = in;
        at[i] = moved;
        return support::weighted_sum(weights, run_forward<Op, double>(b, c, at)[0]);
      };
      support::expect_gradient(Op::name, support::text("input", i) + " " + c.text(),
                               support::check_gradient(loss, in[i], gradient));
    }
  }
}

// A second backward into the same gradients doubles what is added and repeats what is written.
template <class Op, class T, class B>
void check_twice(const B& b) {
  const row_case c{130, 48};
  const auto in = draw_backward<Op, T>(c);
  bool right = true;
  run<T>(c, in, backward_ranks<Op>(), Op::inputs(), [&](auto& from, auto& to) {
    const auto ranks = Op::inputs();
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      if (ranks[i] == 1) to[i].fill(reals(c.dim, 0.0));
    }
    Op::backward(b, from, to);
    std::vector<std::vector<T>> want;
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      want.push_back(to[i].values());
      for (T& e : want[i]) e = ranks[i] == 1 ? e + e : e;
    }
    Op::backward(b, from, to);
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      right = right && support::same_bits(to[i].values(), want[i]);
    }
  });
  support::expect_true(Op::name, "twice", right, "a second backward is not the first one doubled");
}

// Nothing is written and added gradients stay.
template <class Op, class T, class B>
void check_zero(const B& b) {
  for (const row_case& c : {row_case{0, 5}, row_case{5, 0}, row_case{0, 0}}) {
    const std::vector<reals> none(Op::inputs().size());
    std::vector<reals> in;
    for (int rank : backward_ranks<Op>()) in.emplace_back(rank == 2 ? 0 : c.dim, 1.0);
    const std::vector<reals> first(in.begin(), in.end() - 2);
    const auto y = run_forward<Op, T>(b, c, first);
    const auto g = run_backward<Op, T>(b, c, in);
    bool right = y[0].empty();
    for (std::size_t i = 0; i < g.size(); ++i) {
      for (T e : g[i]) right = right && e == T(0.5);
    }
    support::expect_true(Op::name, "zero " + c.text(), right, "something was written");
  }
  support::facet(Op::name, "zero");
}

template <class Op>
void check_on_reference() {
  const ds::reference b;
  check_reference<Op>(b);
  check_gradients<Op>(b);
  check_rows_and_aliases<Op, float>(b);
  check_twice<Op, float>(b);
  check_zero<Op, float>(b);
}
template <class Op>
void check_on_cpu() {
  std::vector<ds::cpu> contexts;
  for (int threads = 1; threads <= 3; ++threads) contexts.emplace_back(ds::cpu_config{threads});
  check_cpu<Op, float>(contexts);
  check_cpu<Op, double>(contexts);
  if constexpr (!ds::RunsKernels<ds::cpu>) {  // tests/simulation
    check_narrow<Op, ds::bf16>(contexts);
    check_narrow<Op, ds::f16>(contexts);
  }
  check_gradients<Op>(contexts[1]);
  check_rows_and_aliases<Op, float>(contexts[1]);
  check_twice<Op, float>(contexts[1]);
  check_zero<Op, float>(contexts[1]);
}

// A view of rank 2 over nothing in particular, for checks that must throw before reading.
template <class T>
ds::view<T, ds::host, ds::dyn, ds::dyn> shaped(T* data, ds::index_t rows, ds::index_t dim) {
  return {data, {rows, dim}};
}

}  // namespace row_cases
