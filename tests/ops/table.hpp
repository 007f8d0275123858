// SPDX-License-Identifier: Apache-2.0
// Tables of cases for ops on matrices of several element types, and the matrices themselves: in
// guarded memory, poison in every gap. everywhere() runs one case on every backend and type, and
// with 1, 2 and 3 threads, which must give the same bits.
#pragma once

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/core/tensor.hpp"
#include "support/cases.hpp"
#include "support/compare.hpp"
#include "support/gradient.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace table {

namespace ds = deepseek;
using reals = std::vector<double>;
using ints = std::vector<std::int32_t>;
using longs = std::vector<std::int64_t>;

enum class layout { contiguous, padded, offset, transposed };

// rows x columns elements; what lies between and around them is poison.
template <class T>
class sheet {
 public:
  sheet(std::size_t rows, std::size_t columns, layout how)
      : rows_(rows),
        columns_(columns),
        step_(how == layout::transposed ? 1 : columns + (how == layout::padded ? 3 : 0)),
        stride_(how == layout::transposed ? rows + 1 : 1),
        memory_(how == layout::transposed ? columns * (rows + 1) : rows * step_,
                support::poison<T>(), how == layout::offset ? 1 : 0) {}
  template <class From>
  sheet(std::size_t rows, std::size_t columns, layout how, const std::vector<From>& values)
      : sheet(rows, columns, how) {
    for (std::size_t i = 0; i < values.size(); ++i) memory_[at(i)] = static_cast<T>(values[i]);
    memory_.remember();
  }

  ds::view<T, ds::host, ds::dyn, ds::dyn> matrix() {
    return {memory_.data(), {whole(rows_), whole(columns_)}, {whole(step_), whole(stride_)}};
  }
  // One row, or one column where there is only one.
  ds::view<T, ds::host, ds::dyn> vector() {
    if (columns_ == 1) return {memory_.data(), {whole(rows_)}, {whole(step_)}};
    return {memory_.data(), {whole(columns_)}, {whole(stride_)}};
  }
  std::vector<T> values() const {
    std::vector<T> out(rows_ * columns_);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = memory_[at(i)];
    return out;
  }
  bool unchanged() const { return memory_.intact() && memory_.unchanged(); }
  // Nothing between or around the elements was written.
  bool clean() const {
    std::vector<bool> used(memory_.size());
    for (std::size_t i = 0; i < rows_ * columns_; ++i) used[at(i)] = true;
    const T poison = support::poison<T>();
    for (std::size_t i = 0; i < used.size(); ++i) {
      if (!used[i] && std::memcmp(&memory_[i], &poison, sizeof(T)) != 0) return false;
    }
    return memory_.intact();
  }

 private:
  static ds::index_t whole(std::size_t n) { return static_cast<ds::index_t>(n); }
  std::size_t at(std::size_t i) const { return i / columns_ * step_ + i % columns_ * stride_; }

  std::size_t rows_, columns_, step_, stride_;
  support::guarded<T> memory_;
};

struct shape_case {
  std::size_t rows = 0, columns = 0, extra = 0;  // extra: choices, vocabulary ... as the op says
  layout how = layout::contiguous;
  support::values kind = support::values::normal;
  std::string text() const {
    constexpr const char* names[] = {"contiguous", "padded", "offset", "transposed"};
    return support::text("rows", rows, "columns", columns, "extra", extra, "layout",
                         names[static_cast<int>(how)], "values", support::to_string(kind));
  }
  std::size_t size() const { return rows * columns; }
};

inline std::vector<shape_case> shape_cases(const std::vector<std::size_t>& rows,
                                           const std::vector<std::size_t>& columns,
                                           const std::vector<std::size_t>& extra = {0}) {
  std::vector<shape_case> out;
  constexpr std::size_t kinds = sizeof support::every_class / sizeof support::every_class[0];
  for (const auto& pick :
       support::pairwise({rows.size(), columns.size(), extra.size(), 4, kinds})) {
    out.push_back({rows[pick[0]], columns[pick[1]], extra[pick[2]], static_cast<layout>(pick[3]),
                   support::every_class[pick[4]]});
  }
  return out;
}

// Drawn for the case and rounded to T.
template <class T>
reals drawn(const shape_case& c, std::size_t n, const char* what) {
  support::numbers from(c.text() + what);
  return support::rounded_to<T>(support::draw(c.kind, n, from));
}
template <class T>
reals drawn_normal(const shape_case& c, std::size_t n, const char* what) {
  support::numbers from(c.text() + what);
  return support::rounded_to<T>(support::draw(support::values::normal, n, from));
}
inline ints drawn_ids(const shape_case& c, std::size_t n, std::size_t below, const char* what) {
  support::numbers from(c.text() + what);
  ints out;
  for (std::size_t i = 0; i < n; ++i) out.push_back(static_cast<std::int32_t>(from.below(below)));
  return out;
}
inline longs wide(const ints& from) {
  return longs(from.begin(), from.end());
}

// Small or special references are compared, not mistrusted.
inline support::limits trusting(support::limits l) {
  l.zeros = 1;
  l.trust_equal = true;
  return l;
}
template <class T>
inline constexpr ds::dtype type_of = ds::dtype_of<T>;

template <class T, class B>
std::string where(const B& b, const shape_case& c) {
  return std::string(b.name()) + " " + std::string(ds::to_string(ds::dtype_of<T>)) + " " + c.text();
}

// Against the oracle: exact where want is what T holds, else within the limits.
template <class T>
void judge(const char* op, const std::string& text, support::limits allowed, const reals& want,
           const std::vector<T>& got, std::size_t row, const reals& magnitude = {}) {
  double norm = 0;
  for (double e : want) norm += e * e;
  if (want.empty() || norm < 1e-60) {  // the comparison would not trust so small a reference
    bool right = got.size() == want.size();
    for (const T& e : got) right = right && std::fabs(support::to_double(e)) <= 1e-29;
    return support::expect_true(op, text, right, "not all but zero");
  }
  support::expect(op, text, support::compare(trusting(allowed), got, want, row, magnitude));
}

inline std::vector<ds::cpu> thread_contexts() {
  std::vector<ds::cpu> out;
  constexpr int most = ds::RunsKernels<ds::cpu> ? 2 : 3;  // there: another order of its threads
  for (int threads = 1; threads <= most; ++threads) {
    out.emplace_back(ds::cpu_config{threads});
    out.back().workspace().fill_with(0xff);
  }
  return out;
}

// f(backend, T{}) judges one case and gives its outputs.
template <class F>
void everywhere(const char* op, const std::string& text, const F& f) {
  static const ds::reference plain;
  static const std::vector<ds::cpu> cpus = thread_contexts();
  f(plain, double{});
  f(plain, float{});
  f(plain, ds::bf16{});
  f(plain, ds::f16{});
  const auto on_cpu = [&](auto type) {
    const auto one = f(cpus[0], type);
    for (std::size_t i = 1; i < cpus.size(); ++i) {
      support::expect_true(op, support::text("threads", i + 1) + " " + text,
                           support::same_bits(f(cpus[i], type), one),
                           "the bits depend on the number of threads");
    }
  };
  on_cpu(double{});
  on_cpu(float{});
  on_cpu(ds::bf16{});
}

// f(backend) on the reference and on the cpu.
template <class F>
void on_both(const F& f) {
  f(ds::reference{});
  f(ds::cpu{ds::cpu_config{2}});
}

inline void facets(const char* op, const std::vector<const char*>& names) {
  for (const char* name : names) support::facet(op, name);
}

template <class T>
std::vector<T> joined(std::vector<T> a, const std::vector<T>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace table
