// SPDX-License-Identifier: Apache-2.0
// The rules of compare.hpp; integers and double go through the same ones.
#include "support/compare.hpp"
#include "support/report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include <doctest/doctest.h>

namespace support {
namespace {

using deepseek::dtype;

struct type_facts {
  double unit = 0, largest = 0, smallest = 0, accumulate_unit = 0, accumulate_smallest = 0;
  int digits = 0;
};

template <class T>
type_facts facts_for() {
  using traits = deepseek::float_traits<T>;
  using sum = deepseek::float_traits<deepseek::accumulate_t<T>>;
  return {traits::unit_roundoff, traits::largest, traits::smallest,
          sum::unit_roundoff,    sum::smallest,   traits::digits};
}

type_facts facts_of(dtype type) {
  switch (type) {
    case dtype::f64:
      return facts_for<double>();
    case dtype::f32:
      return facts_for<float>();
    case dtype::bf16:
      return facts_for<deepseek::bf16>();
    case dtype::f16:
      return facts_for<deepseek::f16>();
    default:  // integers: exact
      return {0, std::numeric_limits<double>::max(), 0, 0, 0, 53};
  }
}

std::string number(double x) {
  char buffer[40];
  std::snprintf(buffer, sizeof buffer, "%.9g", x);
  return buffer;
}

std::string place(std::size_t i, std::size_t row) {
  return "[" + std::to_string(i / row) + ", " + std::to_string(i % row) + "]";
}

std::string pair_text(double y, double r) {
  return number(y) + ", expected " + number(r);
}

// r as the type would hold it, as far as infinity goes.
double in_range(double r, const type_facts& t) {
  const double rounds_to_infinity = t.largest * (1 + t.unit / 2);
  if (!std::isfinite(r) || std::fabs(r) < rounds_to_infinity || t.digits == 53) return r;
  return std::copysign(std::numeric_limits<double>::infinity(), r);
}

bool same_kind(double y, double r) {
  if (std::isnan(r) || std::isnan(y)) return std::isnan(r) == std::isnan(y);
  return std::isinf(r) || std::isinf(y) ? y == r : true;
}

// Size of the unit in the last place of r in the type.
double ulp(double r, const type_facts& t) {
  if (r == 0) return t.smallest;
  return std::max(t.smallest, std::ldexp(1.0, std::ilogb(r) - t.digits + 1));
}

struct sums {
  double error = 0, reference = 0, magnitude = 0;  // squares
  std::size_t count = 0;
};

// How many roundings are independent: elements weighted by their share of the norm, equal values
// together.
double independent_elements(std::vector<double> r) {
  std::vector<double> sizes;
  for (double x : r) {
    if (std::isfinite(x) && x != 0) sizes.push_back(std::fabs(x));
  }
  std::sort(sizes.begin(), sizes.end());
  double total = 0, squares = 0;
  for (std::size_t i = 0; i < sizes.size();) {
    double weight = 0;
    const double value = sizes[i] / sizes.back();
    for (const double same = sizes[i]; i < sizes.size() && sizes[i] == same; ++i) {
      weight += value * value;
    }
    total += weight;
    squares += weight * weight;
  }
  return squares == 0 ? 1 : total * total / squares;
}

class judge {
 public:
  judge(const limits& allowed, const std::vector<double>& y, const std::vector<double>& r,
        std::size_t row, const std::vector<double>& magnitude)
      : allowed_(allowed), y_(y), r_(r), s_(magnitude), row_(row), type_(facts_of(allowed.type)) {}

  comparison verdict() {
    if (!shapes()) return result_;
    if (y_.empty()) {
      result_.pass = true;
      return result_;
    }
    kinds();
    norms();
    if (allowed_.c >= 0 && !s_.empty()) elements_by_magnitude();
    if (allowed_.ulps >= 0) elements_by_ulps();
    result_.pass = result_.message.empty();
    if (result_.pass) trust();
    return result_;
  }

 private:
  void say(const std::string& what) {
    if (result_.message.size() < 600) {
      result_.message += (result_.message.empty() ? "" : "; ") + what;
    }
  }

  bool shapes() {
    const bool fits = y_.size() == r_.size() && (s_.empty() || s_.size() == r_.size()) &&
                      (y_.empty() || (row_ > 0 && y_.size() % row_ == 0));
    if (!fits) {
      say("sizes: y has " + std::to_string(y_.size()) + " elements, reference " +
          std::to_string(r_.size()) + ", magnitude " + std::to_string(s_.size()) + ", row " +
          std::to_string(row_));
    }
    return fits;
  }

  void kinds() {
    std::size_t wrong = 0, first = 0;
    for (std::size_t i = 0; i < y_.size(); ++i) {
      if (same_kind(y_[i], in_range(r_[i], type_))) continue;
      if (wrong++ == 0) first = i;
    }
    if (wrong > 0) {
      say(std::to_string(wrong) + " elements differ in NaN or Inf, first " + place(first, row_) +
          ": " + pair_text(y_[first], r_[first]));
    }
  }

  bool counts(std::size_t i) const {
    return std::isfinite(y_[i]) && std::isfinite(in_range(r_[i], type_));
  }

  sums sums_of(std::size_t begin, std::size_t end) const {
    sums out;
    for (std::size_t i = begin; i < end; ++i) {
      if (!counts(i)) continue;
      const double e = y_[i] - r_[i], s = s_.empty() ? 0 : s_[i];
      out.error += e * e;
      out.reference += r_[i] * r_[i];
      out.magnitude += s * s;
      ++out.count;
    }
    return out;
  }

  // The error norm that rule 2 allows to these elements.
  double allowance(const sums& part, double rounding) const {
    const double norm = std::sqrt(part.reference);
    double base = norm;
    if (allowed_.depth > 0) base = std::max(base, std::sqrt(part.magnitude / allowed_.depth));
    return allowed_.relative * base + rounding * type_.unit * norm +
           floor() * std::sqrt(static_cast<double>(part.count));
  }

  // Where numbers are subnormal a rounding costs up to half a step whatever their size.
  double floor() const {
    const bool exact_rule = allowed_.relative == 0 && allowed_.rounding == 0;
    if (exact_rule) return 0;
    return type_.smallest / 2 + std::max(1.0, allowed_.depth) * type_.accumulate_smallest;
  }

  // 0.55 (say) holds for many elements; for few, the mean of their squares scatters: 5.5 standard
  // deviations.
  double rounding_limit() const {
    if (allowed_.rounding == 0) return 0;
    const double scatter = 0.176 + 1.1 / std::sqrt(independent_elements(r_));
    return std::max(allowed_.rounding, std::sqrt(std::min(1.0, scatter)));
  }

  void norms() {
    const double rounding = rounding_limit();
    const sums whole = sums_of(0, y_.size());
    const double error = std::sqrt(whole.error), norm = std::sqrt(whole.reference);
    result_.relative = norm > 0 ? error / norm : error;
    if (error > allowance(whole, rounding)) {
      say("relative error of the tensor " + number(result_.relative) + ", allowed " +
          number(allowance(whole, rounding) / (norm > 0 ? norm : 1)));
    }
    double worst = 1;
    std::size_t worst_row = 0;
    for (std::size_t begin = 0; begin < y_.size(); begin += row_) {
      const sums part = sums_of(begin, begin + row_);
      if (part.error == 0) continue;
      const double allowed = 2 * allowance(part, allowed_.rounding);  // 2 * 0.55 > 1 rounding
      const double ratio = std::sqrt(part.error) / allowed;
      if (ratio > worst) {
        worst = ratio;
        worst_row = begin / row_;
      }
    }
    if (worst > 1)
      say("row " + std::to_string(worst_row) + " errs " + number(worst) + " times the allowed");
  }

  void elements_by_magnitude() {
    for (std::size_t i = 0; i < y_.size(); ++i) {
      if (!counts(i)) continue;
      const double bound =
          allowed_.c * type_.accumulate_unit * s_[i] + type_.unit * std::fabs(r_[i]) + floor();
      if (!(std::fabs(y_[i] - r_[i]) <= bound))
        return say_element(i, std::fabs(y_[i] - r_[i]) / bound);
    }
  }

  void elements_by_ulps() {
    for (std::size_t i = 0; i < y_.size(); ++i) {
      if (!counts(i)) continue;
      const double bound = allowed_.ulps * ulp(r_[i], type_);
      if (!(std::fabs(y_[i] - r_[i]) <= bound))
        return say_element(i, std::fabs(y_[i] - r_[i]) / bound);
    }
  }

  void say_element(std::size_t i, double ratio) {
    say("element " + place(i, row_) + " is " + pair_text(y_[i], r_[i]) + ", " + number(ratio) +
        " times the allowed error");
  }

  void trust() {
    std::size_t zeros = 0;
    bool equal = y_.size() > 1;
    double squares = 0;
    for (double r : r_) {
      zeros += r == 0 ? 1 : 0;
      equal = equal && (r == r_[0] || (std::isnan(r) && std::isnan(r_[0])));
      squares += std::isfinite(r) ? r * r : 1;
    }
    const double share = static_cast<double>(zeros) / static_cast<double>(r_.size());
    if (share > allowed_.zeros) {
      distrust(number(100 * share) + " % of the reference is zero");
    } else if (share < 1) {
      if (equal && !allowed_.trust_equal) distrust("all values of the reference are equal");
      if (std::sqrt(squares) < 1e-30) distrust("the reference is all but zero");
    }
  }

  void distrust(const std::string& why) {
    result_.pass = false;
    result_.mistrusted = true;
    say("mistrusted: " + why + " (choose other inputs, or say in limits why it is right)");
  }

  const limits& allowed_;
  const std::vector<double>&y_, &r_, &s_;
  std::size_t row_;
  type_facts type_;
  comparison result_;
};

bool is_16_bit(dtype type) {
  return type == dtype::f16 || type == dtype::bf16;
}

}  // namespace

comparison compare(const limits& allowed, const std::vector<double>& y,
                   const std::vector<double>& r, std::size_t row,
                   const std::vector<double>& magnitude) {
  return judge(allowed, y, r, row, magnitude).verdict();
}

limits exact(dtype type) {
  limits l;
  l.type = type;
  l.zeros = 1;
  l.trust_equal = true;
  l.ulps = 0;
  return l;
}

limits gemm_limits(dtype type, std::size_t k) {
  const double root = std::sqrt(static_cast<double>(k));
  limits l;
  l.type = type;
  l.relative = (2 + root) * facts_of(type).accumulate_unit;
  l.rounding = is_16_bit(type) ? 0.55 : 0;
  l.c = 8 + 2 * root;
  l.depth = static_cast<double>(std::max<std::size_t>(k, 1));
  return l;
}

limits chain_limits(dtype type, std::size_t k) {
  limits l = gemm_limits(type, k + 1);
  if (type == dtype::f64) {
    l.relative += static_cast<double>(k) * 0x1p-53;
    l.c += static_cast<double>(k);
  }
  return l;
}

limits attention_limits(dtype type, std::size_t keys) {
  const double root = std::sqrt(static_cast<double>(keys));
  limits l;
  l.type = type;
  l.relative = (8 + 2 * root) * facts_of(type).accumulate_unit;
  l.rounding = is_16_bit(type) ? 0.75 : 0;
  l.depth = static_cast<double>(std::max<std::size_t>(keys, 1));
  return l;
}

limits elementwise_limits(dtype type, double ulps) {
  limits l;
  l.type = type;
  l.ulps = is_16_bit(type) ? 1 : ulps;
  l.relative = ulps * 2 * facts_of(type).accumulate_unit;
  l.rounding = is_16_bit(type) ? 0.55 : 0;
  return l;
}

limits softmax_limits(dtype type, std::size_t n) {
  limits l;
  l.type = type;
  l.relative = (8 + 2 * std::sqrt(static_cast<double>(n)) + 8) * facts_of(type).accumulate_unit;
  l.rounding = is_16_bit(type) ? 0.55 : 0;
  l.c = 1;
  l.depth = 0;
  return l;
}

std::vector<double> softmax_magnitude(const std::vector<double>& x, const std::vector<double>& r,
                                      std::size_t row) {
  std::vector<double> s(r.size());
  for (std::size_t begin = 0; begin < x.size(); begin += row) {
    const double top = *std::max_element(x.begin() + static_cast<std::ptrdiff_t>(begin),
                                         x.begin() + static_cast<std::ptrdiff_t>(begin + row));
    for (std::size_t i = begin; i < begin + row; ++i) {
      const double distance = std::isfinite(x[i]) ? top - x[i] : 0;
      s[i] = r[i] * (distance + 8 + 2 * std::sqrt(static_cast<double>(row)));
    }
  }
  return s;
}

limits doubled(limits forward) {
  forward.relative *= 2;
  if (forward.c >= 0) forward.c *= 2;
  if (forward.ulps >= 0) forward.ulps *= 2;
  return forward;
}

void expect(const std::string& op, const std::string& case_text, const comparison& result,
            const char* file, int line) {
  if (result.mistrusted) count_mistrusted(op);
  expect_true(op, case_text, result.pass, result.message, file, line);
}

void expect_true(const std::string& op, const std::string& case_text, bool holds,
                 const std::string& otherwise, const char* file, int line) {
  count_case(op);
  if (holds) {
    CHECK(holds);
    return;
  }
  count_failed(op);
  const std::string message =
      op + " (" + case_text + "): " + otherwise + "\n  again: " + repro(case_text);
  ADD_FAIL_CHECK_AT(file, line, message);
}

}  // namespace support
