// SPDX-License-Identifier: Apache-2.0
// One grouped product for the tests of grouped_gemm: rows of experts, their weights in guarded
// memory in either order, and what the oracle says about it.
#pragma once

#include "deepseek/ops/grouped_gemm.hpp"

#include "ops/table.hpp"
#include "oracle/gemm.hpp"

namespace grouped_gemm_test {

using namespace table;

// rows: rows of all experts, columns: in, extra: out. Experts 1 and 4 never get a row.
inline constexpr std::size_t experts = 5;
inline const char* const op = "grouped_gemm";

inline ints offsets_of(std::size_t rows) {
  const int n = static_cast<int>(rows), first = n / 2, second = first + (n - first + 2) / 3;
  return {0, first, first, second, n, n};
}

// A case, with the rows of its experts and how its weights are stored. Every shape is one.
struct expert_case : shape_case {
  ints offsets;
  bool turned;      // [out, in]
  std::size_t gap;  // between two matrices, elements: 8 keeps them at multiples of 16 bytes

  expert_case(const shape_case& c)
      : shape_case(c),
        offsets(offsets_of(c.rows)),
        turned(c.how == layout::transposed),
        gap(c.how == layout::contiguous ? 8 : 3) {}
  std::vector<std::size_t> wide_offsets() const { return {offsets.begin(), offsets.end()}; }
};

// Weights [experts, in, out], stored [in, out] (or [out, in], turned) side by side with a gap.
template <class T>
class stack_of {
 public:
  stack_of(const expert_case& c, const reals& values)
      : in_(c.columns),
        out_(c.extra),
        turned_(c.turned),
        gap_(c.gap),
        memory_(experts * (in_ * out_ + gap_)) {
    for (std::size_t i = 0; i < values.size(); ++i) memory_[at(i)] = static_cast<T>(values[i]);
    memory_.remember();
  }
  ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn> view() {
    const auto i = static_cast<ds::index_t>(in_), o = static_cast<ds::index_t>(out_);
    return {memory_.data(),
            {static_cast<ds::index_t>(experts), i, o},
            {i * o + static_cast<ds::index_t>(gap_), turned_ ? 1 : o, turned_ ? i : 1}};
  }
  std::vector<T> values() const {
    std::vector<T> out(experts * in_ * out_);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = memory_[at(i)];
    return out;
  }
  bool unchanged() const { return memory_.intact() && memory_.unchanged(); }
  bool intact() const { return memory_.intact(); }

 private:
  std::size_t at(std::size_t i) const {
    const std::size_t e = i / (in_ * out_), row = i / out_ % in_, column = i % out_;
    return e * (in_ * out_ + gap_) + (turned_ ? column * in_ + row : row * out_ + column);
  }
  std::size_t in_, out_;
  bool turned_;
  std::size_t gap_;
  support::guarded<T> memory_;
};

// [experts, in, out] -> [experts, out, in], as the oracle has it.
inline reals turned(const reals& w, std::size_t in, std::size_t out) {
  reals t(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) {
    const std::size_t e = i / (in * out), row = i / out % in, column = i % out;
    t[(e * out + column) * in + row] = w[i];
  }
  return t;
}
inline reals product(const expert_case& c, const reals& x, const reals& w) {
  return oracle::grouped_linear(x, turned(w, c.columns, c.extra), c.wide_offsets(),
                                {c.rows, c.columns, c.extra});
}
// dw[e] = x_e^T dy_e
inline reals weight_gradient(const expert_case& c, const reals& x, const reals& dy) {
  reals dw(experts * c.columns * c.extra);
  const auto offsets = c.wide_offsets();
  for (std::size_t e = 0; e < experts; ++e) {
    for (std::size_t r = offsets[e]; r < offsets[e + 1]; ++r) {
      for (std::size_t i = 0; i < c.columns * c.extra; ++i) {
        dw[e * c.columns * c.extra + i] +=
            x[r * c.columns + i / c.extra] * dy[r * c.extra + i % c.extra];
      }
    }
  }
  return dw;
}
// dx[r] = dy[r] w[e]^T: the product with in and out exchanged.
inline reals input_gradient(const expert_case& c, const reals& dy, const reals& w) {
  return oracle::grouped_linear(dy, w, c.wide_offsets(), {c.rows, c.extra, c.columns});
}

template <class T, class B>
std::vector<T> check_forward(const B& b, const expert_case& c, const reals& x, const reals& w) {
  sheet<T> from(c.rows, c.columns, c.how, x), y(c.rows, c.extra, c.how);
  sheet<std::int32_t> offsets(experts + 1, 1, layout::contiguous, c.offsets);
  stack_of<T> weights(c, w);
  ds::ops::grouped_gemm(b, from.matrix(), weights.view(), offsets.vector(), y.matrix());
  CHECK((from.unchanged() && weights.unchanged() && offsets.unchanged() && y.clean()));
  judge(op, where<T>(b, c), support::chain_limits(type_of<T>, c.columns), product(c, x, w),
        y.values(), c.extra, product(c, oracle::absolute(x), oracle::absolute(w)));
  return y.values();
}

template <class T, class B>
std::vector<T> check_backward(const B& b, const expert_case& c, const reals& x, const reals& w) {
  const reals dy = drawn_normal<T>(c, c.rows * c.extra, " dy");
  sheet<T> from(c.rows, c.columns, c.how, x), slope(c.rows, c.extra, c.how, dy);
  sheet<T> dx(c.rows, c.columns, c.how);
  sheet<std::int32_t> offsets(experts + 1, 1, layout::contiguous, c.offsets);
  const reals start(w.size(), 0.5);
  stack_of<T> weights(c, w), dw(c, start);
  ds::ops::grouped_gemm_backward(
      b, ds::grouped_gemm_inputs{from.matrix(), weights.view(), offsets.vector()}, slope.matrix(),
      ds::grouped_gemm_gradients{dx.matrix(), dw.view()});
  CHECK(
      (from.unchanged() && weights.unchanged() && slope.unchanged() && dx.clean() && dw.intact()));
  judge(op, "dx " + where<T>(b, c), support::doubled(support::chain_limits(type_of<T>, c.extra)),
        input_gradient(c, dy, w), dx.values(), c.columns,
        input_gradient(c, oracle::absolute(dy), oracle::absolute(w)));
  reals want = weight_gradient(c, x, dy),
        size = weight_gradient(c, oracle::absolute(x), oracle::absolute(dy));
  for (double& e : want) e += 0.5;
  for (double& e : size) e += 0.5;
  judge(op, "dw " + where<T>(b, c), support::doubled(support::chain_limits(type_of<T>, c.rows)),
        want, dw.values(), c.extra, size);
  return joined(dx.values(), dw.values());
}

}  // namespace grouped_gemm_test
