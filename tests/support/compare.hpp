// SPDX-License-Identifier: Apache-2.0
// Is this tensor right? Three rules against a double reference r, which must all hold (u_acc,
// u_out: unit roundoffs; S: the reference expression on absolute values; K: terms per sum):
//   1. NaN, +Inf, -Inf at the same places (a finite r beyond the type's range counts as Inf);
//   2. |y-r| <= relative max(|r|, |S|/sqrt(K)) + rounding u_out |r| in Frobenius norms, for the
//      tensor and, doubled, for each row; |S|/sqrt(K), the size of a sum of K random terms, stands
//      in where few elements cancel by chance;
//   3. each |y-r| <= c u_acc S + u_out |r| where S is given, or <= `ulps` last places of r.
// A reference that proves little (over 30 % zeros, all equal, norm below 1e-30) is "mistrusted",
// which is a failure.
#pragma once

#include <deepseek/core/dtype.hpp>
#include "support/seed.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace support {

struct limits {
  deepseek::dtype type = deepseek::dtype::f32;  // of the tested tensor
  double relative = 0;                          // rule 2, error of the arithmetic
  double rounding =
      0;  // rule 2, error of rounding to the type, in u_out; measured 0.42 for large tensors
  double c = -1;     // rule 3 with S; below 0: not checked
  double ulps = -1;  // rule 3 without S; below 0: not checked
  double depth = 0;  // K; 0: unknown
  double zeros =
      0.3;  // largest share of zeros in a trusted reference: 0.6 for ReLU, 1 for a test of zeros
  bool trust_equal =
      false;  // accept a reference whose values are all equal (tests of all_equal inputs)
};

struct comparison {
  bool pass = false;
  bool mistrusted = false;
  double relative = 0;  // |y-r|_F / |r|_F
  std::string message;  // what is wrong and where; empty when it passes
  explicit operator bool() const { return pass; }
};

// y, r (and S, if not empty) have the same size, a multiple of `row`: the length of the last
// dimension.
comparison compare(const limits& allowed, const std::vector<double>& y,
                   const std::vector<double>& r, std::size_t row,
                   const std::vector<double>& magnitude = {});

template <class T>
comparison compare(const limits& allowed, const std::vector<T>& y, const std::vector<double>& r,
                   std::size_t row, const std::vector<double>& magnitude = {}) {
  return compare(allowed, to_double(y), r, row, magnitude);
}

// Limits by kind of op; K: terms per sum, m: keys. Double is held to the same rules with u = 2^-53.
limits exact(deepseek::dtype type);  // every element equal; zeros and equal values are trusted
limits gemm_limits(deepseek::dtype type, std::size_t k);
// k products and what they are added to; the oracle in double, one addition after the other, errs
// by up to k roundings itself.
limits chain_limits(deepseek::dtype type, std::size_t k);
limits attention_limits(deepseek::dtype type, std::size_t keys);
limits elementwise_limits(deepseek::dtype type, double ulps);  // ulps of f32; 16-bit outputs: 1
limits softmax_limits(deepseek::dtype type, std::size_t n);
// S for softmax_limits: r_i (|x_i - max| + 8 + 2 sqrt(n)) of a row x with probabilities r.
std::vector<double> softmax_magnitude(const std::vector<double>& x, const std::vector<double>& r,
                                      std::size_t row);
// Gradients get twice the forward limit.
limits doubled(limits forward);

// Records the result as one case of the op and as one doctest assertion at the caller's line.
void expect(const std::string& op, const std::string& case_text, const comparison& result,
            const char* file = __builtin_FILE(), int line = __builtin_LINE());
// The same for anything that is simply true or false (sets of indices, bits, errors).
void expect_true(const std::string& op, const std::string& case_text, bool holds,
                 const std::string& otherwise, const char* file = __builtin_FILE(),
                 int line = __builtin_LINE());

}  // namespace support
