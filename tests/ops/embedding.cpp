// SPDX-License-Identifier: Apache-2.0
// embedding and its gradient against the oracle; rows by id, repeated ids, ids outside the table.
#include "deepseek/ops/embedding.hpp"

#include "deepseek/backend/cpu/embedding.hpp"

#include "ops/table.hpp"
#include "oracle/embedding.hpp"

using namespace table;

namespace {

constexpr const char* op = "embedding";

template <class T, class B>
std::vector<T> check(const B& b, const shape_case& c) {
  const std::size_t vocab = c.extra;
  const ints ids = drawn_ids(c, c.rows, vocab, " ids");
  sheet<std::int32_t> at(c.rows, 1, c.how, ids);
  const reals table = drawn<T>(c, vocab * c.columns, " table");
  const reals dy = drawn_normal<T>(c, c.size(), " dy");
  sheet<T> w(vocab, c.columns, c.how, table), y(c.rows, c.columns, c.how);
  ds::ops::embedding(b, at.vector(), w.matrix(), y.matrix());
  judge(op, where<T>(b, c), support::exact(type_of<T>),
        oracle::embedding(table, wide(ids), c.columns), y.values(), c.columns);

  const reals before = drawn<T>(c, vocab * c.columns, " before");
  reals want = oracle::embedding_backward(dy, wide(ids), vocab, c.columns);
  reals size = dy;
  for (double& e : size) e = std::fabs(e);
  size = oracle::embedding_backward(size, wide(ids), vocab, c.columns);
  for (std::size_t i = 0; i < want.size(); ++i) {
    want[i] += before[i];
    size[i] += std::fabs(before[i]);
  }
  sheet<T> from(c.rows, c.columns, c.how, dy), dw(vocab, c.columns, c.how, before);
  ds::ops::embedding_backward(b, at.vector(), from.matrix(), dw.matrix());
  // Each addition is rounded to T: n u S.
  support::limits l = support::gemm_limits(type_of<T>, 1);
  const double unit = ds::unit_roundoff<T>, sums = 2.0 + static_cast<double>(c.rows);
  l.relative = sums * unit;
  l.c = sums * unit / ds::unit_roundoff<ds::accumulate_t<T>>;
  judge(op, "gradient " + where<T>(b, c), l, want, dw.values(), c.columns, size);
  support::expect_true(
      op, "memory " + where<T>(b, c),
      at.unchanged() && w.unchanged() && y.clean() && from.unchanged() && dw.clean(),
      "an input or memory around an output was written");
  return joined(y.values(), dw.values());
}

template <class B>
void check_gradient(const B& b) {
  const shape_case c{9, 5, 4};
  const ints ids = drawn_ids(c, c.rows, c.extra, " ids");
  sheet<std::int32_t> at(c.rows, 1, c.how, ids);
  const reals weights = support::loss_weights(c.size()), table = drawn<double>(c, 20, " table");
  const auto loss = [&](const reals& moved) {
    sheet<double> w(4, 5, c.how, moved), y(9, 5, c.how);
    ds::ops::embedding(b, at.vector(), w.matrix(), y.matrix());
    return support::weighted_sum(weights, y.values());
  };
  sheet<double> dy(9, 5, c.how, weights), dw(4, 5, c.how, reals(20, 0.0));
  ds::ops::embedding_backward(b, at.vector(), dy.matrix(), dw.matrix());
  support::expect_gradient(op, c.text(), support::check_gradient(loss, table, dw.values()));
}

// Sums of whole numbers are exact: a second backward doubles them.
template <class B>
void check_twice(const B& b) {
  const shape_case c{70, 33, 4, layout::padded, support::values::integer};
  const ints ids = drawn_ids(c, c.rows, c.extra, " ids");
  sheet<std::int32_t> at(c.rows, 1, c.how, ids);
  sheet<float> dy(70, 33, c.how, drawn<float>(c, c.size(), " dy"));
  sheet<float> dw(4, 33, c.how, reals(132, 0.0));
  ds::ops::embedding_backward(b, at.vector(), dy.matrix(), dw.matrix());
  std::vector<float> twice = dw.values();
  for (float& e : twice) e += e;
  ds::ops::embedding_backward(b, at.vector(), dy.matrix(), dw.matrix());
  support::expect_true(op, "twice", support::same_bits(dw.values(), twice),
                       "a second backward is not the first one doubled");
}

}  // namespace

TEST_CASE("embedding: table of cases") {
  for (const shape_case& c :
       shape_cases({1, 2, 17, 64, 65, 130, 300}, {1, 3, 16, 31, 32, 33, 64, 100}, {1, 2, 7, 64})) {
    everywhere(op, c.text(), [&](const auto& b, auto type) { return check<decltype(type)>(b, c); });
  }
  on_both([](const auto& b) {
    check_gradient(b);
    check_twice(b);
  });
  facets(op, {"forward", "gradient", "strides"});
}

TEST_CASE("embedding: bf16 table, float gradient and output") {
  on_both([](const auto& b) {
    const shape_case c{33, 40, 6, layout::padded};
    const ints ids = drawn_ids(c, c.rows, c.extra, " ids");
    const reals table = drawn<ds::bf16>(c, 240, " table"), dy = drawn<ds::bf16>(c, c.size(), " dy");
    sheet<std::int32_t> at(c.rows, 1, c.how, ids);
    sheet<ds::bf16> w(6, 40, c.how, table), from(33, 40, c.how, dy);
    sheet<float> y(33, 40, c.how), dw(6, 40, c.how, reals(240, 0.0));
    ds::ops::embedding(b, at.vector(), w.matrix(), y.matrix());
    ds::ops::embedding_backward(b, at.vector(), from.matrix(), dw.matrix());
    judge(op, "mixed", support::exact(ds::dtype::f32), oracle::embedding(table, wide(ids), 40),
          y.values(), 40);
    judge(op, "mixed gradient", support::gemm_limits(ds::dtype::f32, 33),
          oracle::embedding_backward(dy, wide(ids), 6, 40), dw.values(), 40);
  });
}

TEST_CASE("embedding: zero sizes and errors") {
  on_both([](const auto& b) {
    ds::tensor<float, ds::host, ds::dyn, ds::dyn> w({4, 3}), y({2, 3}), empty({0, 3}), thin({2, 0}),
        narrow({4, 0});
    ds::tensor<std::int32_t, ds::host, ds::dyn> ids({2}), none({0});
    ds::ops::embedding(b, none, w, empty);
    ds::ops::embedding_backward(b, none, empty, w);
    ds::ops::embedding(b, ids, narrow, thin);
    support::expect_true(op, "zero", w.data()[0] == 0, "something was written");
    y.data()[0] = 5;
    ids.data()[1] = 4;
    CHECK_ERROR(ds::error_code::index_range, "embedding: ids[1] is 4", "0 .. 3",
                ds::ops::embedding(b, ids, w, y));
    CHECK(y.data()[0] == 5);
    CHECK_ERROR(ds::error_code::index_range, "embedding_backward: ids[1] is 4",
                ds::ops::embedding_backward(b, ids, y, w));
    CHECK(w.data()[0] == 0);
    ids.data()[1] = -1;
    CHECK_ERROR(ds::error_code::index_range, "ids[1] is -1", ds::ops::embedding(b, ids, w, y));
    CHECK_ERROR(ds::error_code::shape_mismatch, "embedding: y[0, 3]", "expected 2",
                ds::ops::embedding(b, ids, w, empty));
    ds::view<float, ds::host, ds::dyn, ds::dyn> null(nullptr, {4, 3});
    CHECK_ERROR(ds::error_code::invalid_argument, "embedding: table[4, 3]", "null",
                ds::ops::embedding(b, ids, null, y));
  });
  facets(op, {"zero", "errors"});
}
