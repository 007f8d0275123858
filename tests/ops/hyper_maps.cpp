// SPDX-License-Identifier: Apache-2.0
// hyper_maps against the oracle (post with its factor 2), the head's map alone, gradients of mu,
// base and scale against differences, errors, threads.
#include "deepseek/ops/hyper_maps.hpp"

#include "deepseek/backend/cpu/hyper_maps.hpp"
#include "deepseek/backend/reference/hyper_maps.hpp"
#include "ops/hyper_case.hpp"

using namespace hyper_test;

namespace {

enum class kind { block, head };
constexpr ds::sinkhorn_spec spec{.iterations = 20, .eps = 1e-6};

template <class T>
struct problem {
  sizes s;
  kind what;
  index_t width;
  block<T> mu, dmu, pre, post, mix;
  std::vector<T> base, scale, dbase, dscale;
  problem(const sizes& of, kind k)
      : s(of),
        what(k),
        width(k == kind::head ? of.n : (2 + of.n) * of.n),
        mu(of, width),
        dmu(mu),
        pre(of, of.n),
        post(pre),
        mix(of, of.n * of.n),
        base(support::as<T>(support::loss_weights(static_cast<std::size_t>(width), 5))),
        scale(support::as<T>(support::loss_weights(k == kind::head ? 1 : 3, 6))),
        dbase(base.size(), T(0.5)),
        dscale(scale.size(), T(0.5)) {
    mu.draw(1);
  }
  static ds::view<T, host, dyn> row(std::vector<T>& v) {
    return {v.data(), {static_cast<index_t>(v.size())}};
  }
  auto inputs() { return ds::hyper_projection{mu.matrix(), row(base), row(scale)}; }
  auto gradients() { return ds::hyper_projection{dmu.matrix(), row(dbase), row(dscale)}; }
  template <class F>
  void with_maps(const F& f) {
    if (what == kind::head) {
      f(ds::hyper_map_views{pre.matrix()});
    } else {
      f(ds::hyper_map_views{pre.matrix(), post.matrix(), mix.cube(s.n)});
    }
  }
  template <class B>
  void forward(const B& b) {
    with_maps([&](const auto& maps) { ds::ops::hyper_maps(b, inputs(), maps, spec); });
  }
  template <class B>
  void backward(const B& b) {  // the gradients of the maps stand in the maps
    with_maps([&](const auto& maps) {
      ds::ops::hyper_maps_backward(b, inputs(), maps, gradients(), spec);
    });
  }
  bool sound() {
    return mu.unchanged() && pre.clean() && post.clean() && mix.clean() && dmu.clean();
  }
};

template <class T, class B>
void forward(const B& b, const sizes& s, kind what) {
  problem<T> p(s, what);
  p.forward(b);
  const auto want = oracle::hyper_maps(p.mu.numbers(), support::to_double(p.base),
                                       support::to_double(p.scale), static_cast<std::size_t>(s.n),
                                       static_cast<int>(spec.iterations), spec.eps);
  auto limits = support::gemm_limits(ds::dtype_of<T>, 64);
  limits.trust_equal = true;  // of one stream
  const auto check = [&](block<T>& got, const reals& r, const char* name) {
    if (r.empty()) return;
    support::expect("hyper_maps", text(s, b.name()) + " " + name,
                    support::compare(limits, got.values(), r, static_cast<std::size_t>(s.n)));
  };
  check(p.pre, want.pre, "pre");
  check(p.post, want.post, "post");
  check(p.mix, want.mix, "mix");
  CHECK(p.sound());
}

template <class B>
void gradient(const B& b, const sizes& s, kind what) {
  problem<double> p(s, what), at(s, what);
  p.pre.draw(7), p.post.draw(8), p.mix.draw(9);
  const reals wa = p.pre.numbers(), wb = p.post.numbers(), wc = p.mix.numbers();
  p.backward(b);
  const auto loss = [&] {
    at.forward(b);
    double sum = support::weighted_sum(wa, at.pre.numbers());
    if (what == kind::head) return sum;
    return sum + support::weighted_sum(wb, at.post.numbers()) +
           support::weighted_sum(wc, at.mix.numbers());
  };
  const std::string name = text(s, b.name());
  expect_block_gradient("hyper_maps", name + " mu", at.mu, p.dmu.numbers(), loss);
  const auto check = [&](reals& moved, reals g, const char* which) {
    for (double& e : g) e -= 0.5;
    const reals from = moved;
    const auto f = [&](const reals& values) {
      moved = values;
      return loss();
    };
    support::expect_gradient("hyper_maps", name + which, support::check_gradient(f, from, g));
    moved = from;
  };
  check(at.base, p.dbase, " base");
  check(at.scale, p.dscale, " scale");
  CHECK((p.pre.unchanged() && p.mix.unchanged() && p.dmu.clean()));
}

template <class B>
void errors(const B& b) {
  using ds::error_code;
  problem<double> p({3, 2, 1}, kind::block), head({3, 2, 1}, kind::head);
  const ds::hyper_map_views maps{p.pre.matrix(), p.post.matrix(), p.mix.cube(2)};
  const auto& op = ds::ops::hyper_maps;
  CHECK_ERROR(error_code::shape_mismatch, "hyper_maps: mu[3, 2]", "expected 8",
              op(b, head.inputs(), maps, spec));
  CHECK_ERROR(error_code::shape_mismatch, "hyper_maps: mu[3, 8]", "expected 2",
              op(b, p.inputs(), ds::hyper_map_views{p.pre.matrix()}, spec));
  CHECK_ERROR(
      error_code::shape_mismatch, "hyper_maps: scale[1]",
      op(b, ds::hyper_projection{p.mu.matrix(), p.row(p.base), p.row(head.scale)}, maps, spec));
  CHECK_ERROR(
      error_code::shape_mismatch, "hyper_maps: mix[3, 4, 1]",
      op(b, p.inputs(), ds::hyper_map_views{p.pre.matrix(), p.post.matrix(), p.mix.cube(4)}, spec));
  CHECK_ERROR(error_code::invalid_argument, "hyper_maps: iterations is 0",
              op(b, p.inputs(), maps, {.iterations = 0}));
  CHECK_ERROR(error_code::shape_mismatch, "hyper_maps_backward: dbase[2]",
              ds::ops::hyper_maps_backward(
                  b, p.inputs(), maps,
                  ds::hyper_projection{p.dmu.matrix(), p.row(head.dbase), p.row(p.dscale)}, spec));
  problem<double> nothing({0, 2, 1}, kind::block);
  nothing.forward(b);
  nothing.backward(b);
  CHECK(nothing.dbase == reals(8, 0.5));
  support::facet("hyper_maps", "errors");
  support::facet("hyper_maps", "zero");
}

}  // namespace

TEST_CASE_TEMPLATE("hyper_maps: against the oracle; gradients; errors", B, ds::reference, ds::cpu) {
  const B b;
  b.workspace().fill_with(0xff);
  for (const sizes& s : all_sizes) {
    for (const kind what : {kind::block, kind::head}) {
      forward<double>(b, s, what);
      forward<float>(b, s, what);
      forward<ds::bf16>(b, s, what);
      if (s.tokens * (2 + s.n) * s.n <= 200) gradient(b, s, what);
    }
  }
  support::facet("hyper_maps", "forward");
  support::facet("hyper_maps", "strides");
  errors(b);
}

TEST_CASE("hyper_maps: threads; a token alone") {
  const sizes s{37, 4, 1};
  std::vector<float> first;
  for (const int threads : {1, 2, 3}) {
    const ds::cpu b({.threads = threads});
    problem<float> p(s, kind::block);
    p.forward(b);
    std::vector<float> now = p.mix.values();
    p.backward(b);
    for (const auto& v : {p.dmu.values(), p.dbase, p.dscale}) {
      now.insert(now.end(), v.begin(), v.end());
    }
    if (first.empty()) first = now;
    CHECK(support::same_bits(first, now));
    const auto mu = ds::rows(p.mu.matrix(), 36, 1);
    ds::ops::hyper_maps(
        b, ds::hyper_projection{mu, p.row(p.base), p.row(p.scale)},
        ds::hyper_map_views{ds::rows(p.pre.matrix(), 36, 1), ds::rows(p.post.matrix(), 36, 1),
                            ds::rows(p.mix.cube(4), 36, 1)},
        spec);
    const auto mix = p.mix.values();
    CHECK(support::same_bits(mix, std::vector<float>(first.begin(), first.begin() + 37 * 16)));
  }
}
