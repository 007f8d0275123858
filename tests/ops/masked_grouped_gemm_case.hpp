// SPDX-License-Identifier: Apache-2.0
// One masked grouped product for tests: rows that are there hold numbers, rows that are not hold
// poison and keep it; weights in either order; what the oracle says, expert by expert.
#pragma once

#include "deepseek/ops/masked_grouped_gemm.hpp"

#include "ops/table.hpp"
#include "oracle/gemm.hpp"

namespace masked_gemm_test {

using namespace table;

inline const char* const op = "masked_grouped_gemm";

struct masked_case {
  std::size_t capacity, in, out;
  ints counts;
  bool turned = false;  // weights stored [out, in]
  std::size_t gap = 0;  // elements between two rows of x and of y
  std::string text() const {
    std::string all = support::text("capacity", capacity, "in", in, "out", out, "turned", turned,
                                    "gap", gap, "counts", "");
    for (const std::int32_t c : counts) all += std::to_string(c) + ",";
    return all;
  }
  std::size_t experts() const { return counts.size(); }
  std::size_t rows_of(std::size_t e) const { return static_cast<std::size_t>(counts[e]); }
};

inline ds::index_t whole(std::size_t n) {
  return static_cast<ds::index_t>(n);
}

// [experts, capacity, width]: values in the rows that are there, in order; poison elsewhere.
template <class T>
class places {
 public:
  places(const masked_case& c, std::size_t width, const reals& values = {})
      : case_(c), width_(width), memory_(c.experts() * c.capacity * (width + c.gap)) {
    std::size_t next = 0;
    each([&](std::size_t at) {
      if (!values.empty()) memory_[at] = static_cast<T>(values[next++]);
    });
    memory_.remember();
  }
  ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn> view() {
    const ds::index_t row = whole(width_ + case_.gap), capacity = whole(case_.capacity);
    return {memory_.data(),
            {whole(case_.experts()), capacity, whole(width_)},
            {capacity * row, row, 1}};
  }
  // Of the rows that are there.
  std::vector<T> values() const {
    std::vector<T> out;
    each([&](std::size_t at) { out.push_back(memory_[at]); });
    return out;
  }
  bool unchanged() const { return memory_.intact() && memory_.unchanged(); }
  // Only rows that are there were written.
  bool clean() const {
    std::vector<bool> used(memory_.size());
    each([&](std::size_t at) { used[at] = true; });
    const T poison = support::poison<T>();
    for (std::size_t i = 0; i < used.size(); ++i) {
      if (!used[i] && std::memcmp(&memory_[i], &poison, sizeof(T)) != 0) return false;
    }
    return memory_.intact();
  }

 private:
  template <class F>
  void each(const F& f) const {
    for (std::size_t e = 0; e < case_.experts(); ++e) {
      for (std::size_t r = 0; r < case_.rows_of(e); ++r) {
        const std::size_t row = (e * case_.capacity + r) * (width_ + case_.gap);
        for (std::size_t i = 0; i < width_; ++i) f(row + i);
      }
    }
  }
  masked_case case_;
  std::size_t width_;
  support::guarded<T> memory_;
};

// Weights [experts, in, out] from values in that order.
template <class T>
class matrices {
 public:
  matrices(const masked_case& c, const reals& values) : case_(c), memory_(values.size()) {
    for (std::size_t i = 0; i < values.size(); ++i) memory_[at(i)] = static_cast<T>(values[i]);
    memory_.remember();
  }
  ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn> view() {
    const ds::index_t i = whole(case_.in), o = whole(case_.out);
    return {memory_.data(),
            {whole(case_.experts()), i, o},
            {i * o, case_.turned ? 1 : o, case_.turned ? i : 1}};
  }
  std::vector<T> values() const {
    std::vector<T> out;
    for (std::size_t i = 0; i < memory_.size(); ++i) out.push_back(memory_[at(i)]);
    return out;
  }
  bool unchanged() const { return memory_.intact() && memory_.unchanged(); }

 private:
  std::size_t at(std::size_t i) const {
    const std::size_t each = case_.in * case_.out, row = i % each / case_.out,
                      column = i % case_.out;
    return case_.turned ? i / each * each + column * case_.in + row : i;
  }
  masked_case case_;
  support::guarded<T> memory_;
};

inline std::size_t rows_there(const masked_case& c) {
  std::size_t n = 0;
  for (std::size_t e = 0; e < c.experts(); ++e) n += c.rows_of(e);
  return n;
}

// The oracle's products of all experts, one after the other: f(first row, rows, expert).
template <class F>
reals each_expert(const masked_case& c, const F& f) {
  reals all;
  std::size_t first = 0;
  for (std::size_t e = 0; e < c.experts(); first += c.rows_of(e++)) {
    const reals one = f(first, c.rows_of(e), e);
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}
inline reals part(const reals& all, std::size_t first, std::size_t n) {
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(first);
  return reals(begin, begin + static_cast<std::ptrdiff_t>(n));
}
// x [rows, in] by w [experts, in, out]; back: dy [rows, out] by the transposes.
inline reals product(const masked_case& c, const reals& x, const reals& w, bool back = false) {
  const std::size_t k = back ? c.out : c.in, n = back ? c.in : c.out;
  return each_expert(c, [&](std::size_t first, std::size_t rows, std::size_t e) {
    return oracle::gemm(part(x, first * k, rows * k), part(w, e * c.in * c.out, c.in * c.out),
                        {rows, n, k, oracle::stored::plain,
                         back ? oracle::stored::transposed : oracle::stored::plain});
  });
}
inline reals weight_gradient(const masked_case& c, const reals& x, const reals& dy) {
  return each_expert(c, [&](std::size_t first, std::size_t rows, std::size_t) {
    return oracle::gemm(part(x, first * c.in, rows * c.in), part(dy, first * c.out, rows * c.out),
                        {c.in, c.out, rows, oracle::stored::transposed, oracle::stored::plain});
  });
}

template <class T>
reals drawn_for(const masked_case& c, std::size_t n, const char* what) {
  support::numbers from(c.text() + what);
  return support::rounded_to<T>(support::draw(support::values::normal, n, from));
}
template <class T, class B>
std::string said(const B& b, const masked_case& c) {
  return std::string(b.name()) + " " + std::string(ds::to_string(ds::dtype_of<T>)) + " " + c.text();
}

template <class T, class B>
std::vector<T> check_forward(const B& b, const masked_case& c) {
  const std::size_t rows = rows_there(c);
  const reals x = drawn_for<T>(c, rows * c.in, " x");
  const reals w = drawn_for<T>(c, c.experts() * c.in * c.out, " w");
  places<T> from(c, c.in, x), y(c, c.out);
  matrices<T> weights(c, w);
  const ds::view<const std::int32_t, ds::host, ds::dyn> counts(c.counts.data(),
                                                               {whole(c.experts())});
  ds::ops::masked_grouped_gemm(b, from.view(), weights.view(), counts, y.view());
  CHECK((from.unchanged() && weights.unchanged() && y.clean()));
  judge(op, said<T>(b, c), support::chain_limits(type_of<T>, c.in), product(c, x, w), y.values(),
        c.out, product(c, oracle::absolute(x), oracle::absolute(w)));
  return y.values();
}

template <class T, class B>
std::vector<T> check_backward(const B& b, const masked_case& c) {
  const std::size_t rows = rows_there(c), weights_size = c.experts() * c.in * c.out;
  const reals x = drawn_for<T>(c, rows * c.in, " x"), dy = drawn_for<T>(c, rows * c.out, " dy");
  const reals w = drawn_for<T>(c, weights_size, " w");
  places<T> from(c, c.in, x), slope(c, c.out, dy), dx(c, c.in);
  matrices<T> weights(c, w), dw(c, reals(weights_size, 0.5));
  const ds::view<const std::int32_t, ds::host, ds::dyn> counts(c.counts.data(),
                                                               {whole(c.experts())});
  ds::ops::masked_grouped_gemm_backward(
      b, ds::masked_grouped_gemm_inputs{from.view(), weights.view(), counts}, slope.view(),
      ds::grouped_gemm_gradients{dx.view(), dw.view()});
  CHECK((from.unchanged() && weights.unchanged() && slope.unchanged() && dx.clean()));
  judge(op, "dx " + said<T>(b, c), support::doubled(support::chain_limits(type_of<T>, c.out)),
        product(c, dy, w, true), dx.values(), c.in,
        product(c, oracle::absolute(dy), oracle::absolute(w), true));
  reals want = weight_gradient(c, x, dy),
        size = weight_gradient(c, oracle::absolute(x), oracle::absolute(dy));
  for (double& e : want) e += 0.5;
  for (double& e : size) e += 0.5;
  judge(op, "dw " + said<T>(b, c), support::doubled(support::chain_limits(type_of<T>, c.capacity)),
        want, dw.values(), c.out, size);
  return joined(dx.values(), dw.values());
}

}  // namespace masked_gemm_test
