// SPDX-License-Identifier: Apache-2.0
// rms_norm, layer_norm and their gradients over rows that the blocks of a cluster share
// (held_rows.hpp), 16385 to 131072 elements, against the oracle in every type; the same bits at any
// address, dx over dy. On a GPU the device decides.
#include "deepseek/ops/layer_norm.hpp"
#include "deepseek/ops/rms_norm.hpp"

#include "simulation/cluster_rows.hpp"

#include "oracle/norm.hpp"

using namespace cluster_rows;

namespace {

// Both norms of one batch and their gradients.
template <class T>
struct norms {
  static constexpr double eps = 1e-6;
  sheet<T> x, w, dy;
  sheet<T> rms, rms_dx, rms_dw, layer, layer_dx, layer_dw, layer_db;
  norms(std::size_t n, layout how, const reals& x_of, const reals& w_of, const reals& dy_of)
      : x(rows, n, how, x_of),
        w(1, n, how, w_of),
        dy(rows, n, how, dy_of),
        rms(rows, n, how),
        rms_dx(rows, n, how),
        rms_dw(1, n, how, reals(n)),
        layer(rows, n, how),
        layer_dx(rows, n, how),
        layer_dw(1, n, how, reals(n)),
        layer_db(1, n, how, reals(n)) {}

  void run(const clusters& b) {
    ds::ops::rms_norm(b, x.matrix(), w.vector(), rms.matrix(), eps);
    ds::ops::rms_norm_backward(b, ds::rms_norm_inputs{x.matrix(), w.vector()}, dy.matrix(),
                               ds::rms_norm_gradients{rms_dx.matrix(), rms_dw.vector()}, eps);
    ds::ops::layer_norm(b, x.matrix(), ds::layer_norm_affine{w.vector(), w.vector()},
                        layer.matrix(), eps);
    ds::ops::layer_norm_backward(
        b, ds::layer_norm_inputs{x.matrix(), w.vector()}, dy.matrix(),
        ds::layer_norm_gradients{layer_dx.matrix(), layer_dw.vector(), layer_db.vector()}, eps);
    CHECK((x.unchanged() && w.unchanged() && dy.unchanged()));
  }
  // dx may lie over dy.
  void run_in_place(const clusters& b) {
    sheet<T> slope = dy;
    ds::ops::layer_norm_backward(
        b, ds::layer_norm_inputs{x.matrix(), w.vector()}, slope.matrix(),
        ds::layer_norm_gradients{slope.matrix(), layer_dw.vector(), layer_db.vector()}, eps);
    CHECK(support::same_bits(slope.values(), layer_dx.values()));
  }
  std::vector<T> values() const {
    std::vector<T> all;
    for (const sheet<T>* s : {&rms, &rms_dx, &rms_dw, &layer, &layer_dx, &layer_dw, &layer_db}) {
      CHECK(s->clean());
      const std::vector<T> of = s->values();
      all.insert(all.end(), of.begin(), of.end());
    }
    return all;
  }
};

template <class T>
void check_norms(const clusters& b, std::size_t n, layout how) {
  constexpr double eps = norms<T>::eps;
  const reals x = plain_rows<T>(rows * n, 0.25), w = plain_rows<T>(n, 1.5),
              g = plain_rows<T>(rows * n, 0.5);
  norms<T> got(n, how, x, w, g);
  expect_clusters(b, 6, [&] { got.run(b); });
  const std::string where = named<T>(n);
  const auto near = row_cases::element_limits(type_of<T>, 16);
  const auto compared = [&](const char* op, const sheet<T>& of, const reals& want,
                            const reals& size = {}) {
    support::limits l = near;
    l.c = -1;
    support::expect(op, where, support::compare(l, of.values(), want, n, size));
  };
  const auto rms = oracle::rms_norm_backward(x, w, g, eps);
  const auto layer = oracle::layer_norm_backward(x, w, g, eps);
  reals sizes(n);  // of the terms of dw and db, which may cancel
  for (std::size_t i = 0; i < rows * n; ++i) sizes[i % n] += 3 * std::fabs(g[i]);
  compared("rms_norm", got.rms, oracle::rms_norm(x, w, n, eps));
  compared("rms_norm", got.rms_dx, rms.dx);
  compared("rms_norm", got.rms_dw, rms.dw, sizes);
  compared("layer_norm", got.layer, oracle::layer_norm(x, w, w, eps));
  compared("layer_norm", got.layer_dx, layer.dx);
  compared("layer_norm", got.layer_dw, layer.dw, sizes);
  compared("layer_norm", got.layer_db, layer.db, sizes);
  const std::vector<T> values = got.values();
  got.run_in_place(b);
  if (how != layout::contiguous) {  // the same bits where rows move 16 bytes at a time
    norms<T> whole(n, layout::contiguous, x, w, g);
    whole.run(b);
    CHECK(support::same_bits(whole.values(), values));
  }
}

}  // namespace

TEST_CASE("clusters: norms") {
  const clusters b;
  for (const std::size_t n : {16386U, 40001U, 131072U}) {
    every_type(n % 4, [&](auto type, layout how) { check_norms<decltype(type)>(b, n, how); });
  }
  facets("rms_norm", {"forward", "gradient"});
  facets("layer_norm", {"forward", "gradient"});
}
