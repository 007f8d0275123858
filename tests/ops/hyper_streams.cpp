// SPDX-License-Identifier: Apache-2.0
// hyper_read and hyper_write against the oracle (which sums over the first index of mix), their
// gradients against differences, strides, errors, threads.
#include "deepseek/ops/hyper_streams.hpp"

#include "deepseek/backend/cpu/hyper_streams.hpp"
#include "deepseek/backend/reference/hyper_streams.hpp"
#include "ops/hyper_case.hpp"

using namespace hyper_test;

namespace {

// Streams, a row, maps, and the gradients of each.
template <class T>
struct problem {
  sizes s;
  block<T> x, y, pre, mix, out, dx, dy, dpre, dmix;
  explicit problem(const sizes& of)
      : s(of),
        x(of, of.n * of.dim),
        y(of, of.dim),
        pre(of, of.n),
        mix(of, of.n * of.n),
        out(of, of.n * of.dim),
        dx(x),
        dy(y),
        dpre(pre),
        dmix(mix) {
    x.draw(1), y.draw(2), pre.draw(3), mix.draw(4);
  }
  auto inputs() {
    return ds::hyper_write_views{x.cube(s.n), y.matrix(), pre.matrix(), mix.cube(s.n)};
  }
  auto gradients() {
    return ds::hyper_write_views{dx.cube(s.n), dy.matrix(), dpre.matrix(), dmix.cube(s.n)};
  }
  bool sound() {
    return x.unchanged() && pre.unchanged() && mix.unchanged() && out.clean() && dx.clean();
  }
};

template <class T, class B>
void forward(const B& b, const sizes& s) {
  problem<T> p(s);
  const auto n = static_cast<std::size_t>(s.n), dim = static_cast<std::size_t>(s.dim);
  auto limits = support::doubled(support::gemm_limits(ds::dtype_of<T>, 16));
  ds::ops::hyper_write(b, p.inputs(), p.out.cube(s.n));
  const reals written = oracle::hyper_write(p.x.numbers(), p.y.numbers(),
                                            {{}, p.pre.numbers(), p.mix.numbers()}, n, dim);
  support::expect("hyper_write", text(s, b.name()),
                  support::compare(limits, p.out.values(), written, dim));
  CHECK(p.y.unchanged());
  ds::ops::hyper_read(b, p.x.cube(s.n), p.pre.matrix(), p.y.matrix());
  const reals read = oracle::hyper_read(p.x.numbers(), p.pre.numbers(), n, dim);
  support::expect("hyper_read", text(s, b.name()),
                  support::compare(limits, p.y.values(), read, dim));
  CHECK((p.sound() && p.y.clean()));
}

template <class B>
void write_gradient(const B& b, const sizes& s) {
  problem<double> p(s);
  const reals w = support::loss_weights(p.out.numbers().size());
  block<double> dout(s, s.n * s.dim);
  dout.set(w);
  ds::ops::hyper_write_backward(b, p.inputs(), dout.cube(s.n), p.gradients());
  const auto loss = [&] {
    ds::ops::hyper_write(b, p.inputs(), p.out.cube(s.n));
    return support::weighted_sum(w, p.out.numbers());
  };
  const std::string name = text(s, b.name());
  expect_block_gradient("hyper_write", name + " streams", p.x, p.dx.numbers(), loss);
  expect_block_gradient("hyper_write", name + " y", p.y, p.dy.numbers(), loss);
  expect_block_gradient("hyper_write", name + " post", p.pre, p.dpre.numbers(), loss);
  expect_block_gradient("hyper_write", name + " mix", p.mix, p.dmix.numbers(), loss);
  CHECK((p.sound() && dout.unchanged()));
}

// dstreams are added to: they start at the numbers of `start`.
template <class B>
void read_gradient(const B& b, const sizes& s) {
  problem<double> p(s);
  const reals w = support::loss_weights(p.y.numbers().size()), start(p.x.numbers().size(), 0.5);
  block<double> dy(s, s.dim);
  dy.set(w);
  p.dx.set(start);
  ds::ops::hyper_read_backward(b, ds::hyper_read_views{p.x.cube(s.n), p.pre.matrix()}, dy.matrix(),
                               ds::hyper_read_views{p.dx.cube(s.n), p.dpre.matrix()});
  const auto loss = [&] {
    ds::ops::hyper_read(b, p.x.cube(s.n), p.pre.matrix(), p.y.matrix());
    return support::weighted_sum(w, p.y.numbers());
  };
  reals dx = p.dx.numbers();
  for (double& e : dx) e -= 0.5;
  const std::string name = text(s, b.name());
  expect_block_gradient("hyper_read", name + " streams", p.x, dx, loss);
  expect_block_gradient("hyper_read", name + " pre", p.pre, p.dpre.numbers(), loss);
}

template <class B>
void errors(const B& b) {
  using ds::error_code;
  problem<double> p({3, 2, 4}), q({3, 2, 5});
  const auto& op = ds::ops::hyper_read;
  CHECK_ERROR(error_code::shape_mismatch, "hyper_read: streams[3, 2, 4]", "row[3, 5]",
              op(b, p.x.cube(2), p.pre.matrix(), q.y.matrix()));
  CHECK_ERROR(error_code::shape_mismatch, "map[3, 4]",
              op(b, p.x.cube(2), p.mix.matrix(), p.y.matrix()));
  CHECK_ERROR(error_code::shape_mismatch, "hyper_write: out[3, 2, 5]",
              ds::ops::hyper_write(b, p.inputs(), q.out.cube(2)));
  CHECK_ERROR(
      error_code::shape_mismatch, "hyper_write: mix[3, 4, 1]",
      ds::ops::hyper_write(
          b, ds::hyper_write_views{p.x.cube(2), p.y.matrix(), p.pre.matrix(), p.mix.cube(4)},
          p.out.cube(2)));
  CHECK_ERROR(error_code::invalid_argument, "hyper_write: out",
              ds::ops::hyper_write(b, p.inputs(),
                                   ds::view<double, host, dyn, dyn, dyn>(nullptr, {3, 2, 4})));
  CHECK_ERROR(error_code::shape_mismatch, "hyper_write_backward: dout[3, 2, 5]",
              ds::ops::hyper_write_backward(b, p.inputs(), q.out.cube(2), p.gradients()));
  CHECK_ERROR(error_code::shape_mismatch, "hyper_read_backward: dstreams[3, 2, 5]",
              ds::ops::hyper_read_backward(b, ds::hyper_read_views{p.x.cube(2), p.pre.matrix()},
                                           p.y.matrix(),
                                           ds::hyper_read_views{q.dx.cube(2), p.dpre.matrix()}));
  problem<double> nothing({0, 2, 4});
  ds::ops::hyper_read(b, nothing.x.cube(2), nothing.pre.matrix(), nothing.y.matrix());
  ds::ops::hyper_write(b, nothing.inputs(), nothing.out.cube(2));
  ds::ops::hyper_write_backward(b, nothing.inputs(), nothing.out.cube(2), nothing.gradients());
  for (const char* name : {"hyper_read", "hyper_write"}) {
    support::facet(name, "errors");
    support::facet(name, "zero");
    support::facet(name, "forward");
    support::facet(name, "strides");
  }
}

}  // namespace

TEST_CASE_TEMPLATE("hyper_read, hyper_write: against the oracle; gradients", B, ds::reference,
                   ds::cpu) {
  const B b;
  for (const sizes& s : all_sizes) {
    forward<double>(b, s);
    forward<float>(b, s);
    forward<ds::bf16>(b, s);
    if (s.tokens * s.n * s.dim <= 200) {
      write_gradient(b, s);
      read_gradient(b, s);
    }
  }
  errors(b);
}

TEST_CASE("hyper_read, hyper_write: threads; a token alone") {
  const sizes s{37, 4, 33};
  std::vector<float> first;
  for (const int threads : {1, 2, 3}) {
    const ds::cpu b({.threads = threads});
    problem<float> p(s);
    block<float> dout(s, s.n * s.dim);
    dout.draw(9);
    ds::ops::hyper_write(b, p.inputs(), p.out.cube(4));
    ds::ops::hyper_write_backward(b, p.inputs(), dout.cube(4), p.gradients());
    ds::ops::hyper_read_backward(b, ds::hyper_read_views{p.x.cube(4), p.pre.matrix()}, p.y.matrix(),
                                 ds::hyper_read_views{p.dx.cube(4), p.dpre.matrix()});
    std::vector<float> now = p.out.values();
    for (auto* more : {&p.dx, &p.dy, &p.dpre, &p.dmix}) {
      const auto v = more->values();
      now.insert(now.end(), v.begin(), v.end());
    }
    if (first.empty()) first = now;
    CHECK(support::same_bits(first, now));
    const std::vector<float> all = p.out.values();
    const auto in = p.inputs();
    ds::ops::hyper_write(b,
                         ds::hyper_write_views{ds::rows(in.streams, 36, 1), ds::rows(in.y, 36, 1),
                                               ds::rows(in.post, 36, 1), ds::rows(in.mix, 36, 1)},
                         ds::rows(p.out.cube(4), 36, 1));
    CHECK(support::same_bits(all, p.out.values()));
  }
}
