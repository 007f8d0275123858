// SPDX-License-Identifier: Apache-2.0
// lightning_indexer_backward: 4-point differences in double, the oracle in every type, sequences,
// runs of visible keys with gaps, NaN of hidden pairs, a second run; what it refuses.
#include "ops/indexer_case.hpp"

#include "deepseek/backend/cpu/lightning_indexer_backward.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"

#include <limits>

using namespace indexer_test;

namespace {

constexpr const char* op = "lightning_indexer_backward";

struct every_third {
  DEEPSEEK_HOST_DEVICE bool visible(ds::index_t q, ds::index_t k) const { return (q + k) % 3 != 0; }
  DEEPSEEK_HOST_DEVICE ds::coverage cover(const ds::tile&) const { return ds::coverage::partial; }
};
using gaps = ds::both<ds::causal, every_third>;

oracle::visible_pair seen_by_gaps(const problem& p) {
  return [=](std::size_t i, std::size_t j) {
    const std::size_t q = i + p.m - p.n;
    return j <= q && (q + j) % 3 != 0;
  };
}

template <class T>
struct gradients {
  sheet<T> dq, dk, dw;
  problem p;
  explicit gradients(const problem& given)
      : dq(given.n, given.heads * given.d, given.how),
        dk(given.m, given.d, given.how),
        dw(given.n, given.heads, given.how),
        p(given) {}
  auto views() { return ds::indexer_gradients{heads_of(dq, p), dk.matrix(), dw.matrix()}; }
  std::vector<T> values() const { return joined(joined(dq.values(), dk.values()), dw.values()); }
  bool clean() const { return dq.clean() && dk.clean() && dw.clean(); }
};

template <class T, class B, class P>
std::vector<T> run(const B& b, const problem& p, const oracle::attention_inputs& x, const reals& g,
                   const P& pattern) {
  arrays<T> a(p, x);
  sheet<T> dscores(p.n, p.m, p.how, g);
  gradients<T> out(p);
  ds::ops::lightning_indexer_backward(b, a.inputs(), dscores.matrix(), out.views(),
                                      spec_of(p, pattern));
  support::expect_true(op, "memory " + p.text(),
                       a.unchanged() && dscores.unchanged() && out.clean(),
                       "an input or memory around a gradient was written");
  return out.values();
}

template <class T, class B>
std::vector<T> check(const B& b, const problem& p) {
  const auto x = draw<T>(p);
  support::numbers from(p.text() + " g");
  const reals g = support::rounded_to<T>(support::draw(support::values::normal, p.n * p.m, from));
  const auto want = oracle::indexer_backward(x, shape_of(p), seen_by_gaps(p), g);
  const auto got = run<T>(b, p, x, g, gaps{});
  const reals all = joined(joined(want.dq, want.dk), want.dw);
  const std::string text =
      std::string(b.name()) + " " + std::string(ds::to_string(ds::dtype_of<T>)) + " " + p.text();
  // Sums over keys (or over queries and heads) of dots of d terms.
  auto allowed =
      support::doubled(support::gemm_limits(type_of<T>, p.d + std::max(p.m, p.n * p.heads)));
  allowed.c = -1;
  judge(op, text, allowed, all, got, all.size());
  return got;
}

template <class B>
void check_gradient(const B& b) {
  const problem p{4, 6, 3, 2, layout::padded, 0.7};
  const auto x = draw<double>(p);
  const reals weights = support::loss_weights(p.n * p.m);
  const auto got = run<double>(b, p, x, weights, ds::causal{});
  std::size_t first = 0;
  for (const auto part :
       {&oracle::attention_inputs::q, &oracle::attention_inputs::k, &oracle::attention_inputs::v}) {
    const auto loss = [&](const reals& moved) {
      auto at = x;
      at.*part = moved;
      arrays<double> a(p, at);
      sheet<double> scores(p.n, p.m, p.how);
      ds::ops::lightning_indexer(b, a.inputs(), scores.matrix(), spec_of<ds::causal>(p));
      auto y = scores.values();
      for (double& e : y) e = std::isinf(e) ? 0 : e;
      return support::weighted_sum(weights, y);
    };
    const auto from = got.begin() + static_cast<std::ptrdiff_t>(first);
    const reals g(from, from + static_cast<std::ptrdiff_t>((x.*part).size()));
    support::expect_gradient(op, p.text(), support::check_gradient(loss, x.*part, g));
    first += (x.*part).size();
  }
}

}  // namespace

TEST_CASE("lightning_indexer_backward: table of cases") {
  const std::vector<std::size_t> ns = {1, 2, 17}, ms = {17, 63, 64, 65, 140}, heads = {1, 3, 13},
                                 widths = {1, 5, 16, 32};
  for (const auto& pick :
       support::pairwise({ns.size(), ms.size(), heads.size(), widths.size(), 4}, 30)) {
    const problem p{ns[pick[0]], ms[pick[1]], heads[pick[2]], widths[pick[3]],
                    static_cast<layout>(pick[4])};
    everywhere(op, p.text(), [&](const auto& b, auto type) { return check<decltype(type)>(b, p); });
  }
  on_both([](const auto& b) { check_gradient(b); });
  facets(op, {"forward", "gradient", "strides"});
}

TEST_CASE("lightning_indexer_backward: sequences alone; NaN of hidden pairs") {
  on_both([](const auto& b) {
    const problem p{70, 70, 2, 8};
    const auto x = draw<double>(p);
    const reals g = support::loss_weights(p.n * p.m);
    const std::int32_t offsets[] = {0, 30, 30, 70};
    auto spec = spec_of<ds::causal>(p);
    spec.query_offsets = spec.key_offsets = {offsets, {4}};
    arrays<double> a(p, x);
    sheet<double> dscores(70, 70, p.how, g);
    gradients<double> packed(p), alone(p);
    const auto in = a.inputs();
    const auto to = alone.views();
    ds::ops::lightning_indexer_backward(b, in, dscores.matrix(), packed.views(), spec);
    for (const ds::index_t first : {0, 30}) {
      const ds::index_t n = first == 0 ? 30 : 40;
      ds::ops::lightning_indexer_backward(
          b,
          ds::indexer_inputs{ds::rows(in.q, first, n), ds::rows(in.k, first, n),
                             ds::rows(in.w, first, n)},
          ds::rows(dscores.matrix(), first, n),
          ds::indexer_gradients{ds::rows(to.dq, first, n), ds::rows(to.dk, first, n),
                                ds::rows(to.dw, first, n)},
          spec_of<ds::causal>(p));
    }
    support::expect_true(op, "sequences", support::same_bits(packed.values(), alone.values()),
                         "a sequence differs from itself alone");

    // What no visible pair holds is NaN: gradients of hidden scores, and key 69.
    auto dirty = x;
    reals dirty_g = g;
    const auto sees = seen_by_gaps(p);
    for (std::size_t i = 0; i < p.n; ++i) {
      for (std::size_t j = 0; j < p.m; ++j) {
        if (!sees(i, j)) dirty_g[i * p.m + j] = std::nan("");
      }
    }
    std::fill_n(dirty.k.begin() + 69 * 8, 8, std::nan(""));  // (69 + 69) % 3 == 0: seen by nobody
    const auto clean = run<double>(b, p, x, g, gaps{}),
               with = run<double>(b, p, dirty, dirty_g, gaps{});
    support::expect_true(op, "nan", support::same_bits(clean, with), "a hidden pair took part");
  });
}

TEST_CASE("lightning_indexer_backward: zero sizes and errors") {
  on_both([](const auto& b) {
    ds::tensor<float, ds::host, ds::dyn, 2, 3> q({4, 2, 3}), dq({4, 2, 3}), no_q({0, 2, 3});
    ds::tensor<float, ds::host, ds::dyn, ds::dyn> k({5, 3}), dk({5, 3}), w({4, 2}), dw({4, 2}),
        g({4, 5}), no_w({0, 2}), no_g({0, 5});
    const ds::attention_spec<ds::causal> spec{};
    const auto& op_call = ds::ops::lightning_indexer_backward;
    dk.data()[0] = 9;
    op_call(b, ds::indexer_inputs{no_q, k, no_w}, no_g, ds::indexer_gradients{no_q, dk, no_w},
            spec);
    support::expect_true(op, "no queries", dk.data()[0] == 0, "dk is not zero");
    using code = ds::error_code;
    const auto call = [&](const auto& to_q, const auto& to_k, const auto& to_w) {
      op_call(b, ds::indexer_inputs{q, k, w}, g, ds::indexer_gradients{to_q, to_k, to_w}, spec);
    };
    CHECK_ERROR(code::shape_mismatch, "lightning_indexer_backward: dq[0, 2, 3]",
                call(no_q.view(), dk.view(), dw.view()));
    CHECK_ERROR(code::shape_mismatch, "lightning_indexer_backward: dk[4, 2]",
                call(dq.view(), w.view(), dw.view()));
    CHECK_ERROR(code::shape_mismatch, "lightning_indexer_backward: dw[0, 2]",
                call(dq.view(), dk.view(), no_w.view()));
    CHECK_ERROR(code::shape_mismatch, "scores[4, 2]", "5 keys",
                op_call(b, ds::indexer_inputs{q, k, w}, w,
                        ds::indexer_gradients{dq.view(), dk.view(), dw.view()}, spec));
  });
  facets(op, {"zero", "errors"});
}
