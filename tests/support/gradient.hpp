// SPDX-License-Identifier: Apache-2.0
// Is this gradient right? Compared in double with the 4-point difference
//   (f(x-2h) - 8 f(x-h) + 8 f(x+h) - f(x+2h)) / 12h, h = 1e-3 max(1, |x|), whose own error is near
//   1e-11.
// check_gradient moves every element (sizes up to some 200); check_directions moves along random
// directions.
#pragma once

#include "support/compare.hpp"
#include "support/seed.hpp"

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace support {

using loss_function = std::function<double(const std::vector<double>&)>;

// Fixed random w with no zero among them; the loss of a test is sum w*y, which sees signs and
// permutations.
std::vector<double> loss_weights(std::size_t n, std::uint64_t stream = 77);
double weighted_sum(const std::vector<double>& w, const std::vector<double>& y);

// The gradient by 4-point differences.
std::vector<double> difference_gradient(const loss_function& loss, std::vector<double> x);

// relF <= 1e-7 and max|difference| <= 1e-7 (1 + max|g|). A gradient of zeros only is mistrusted.
comparison check_gradient(const loss_function& loss, const std::vector<double>& x,
                          const std::vector<double>& g);

// For whole layers: in each of `count` random directions v,
// |<g,v> - difference| <= 1e-6 (|<g,v>| + |g||v|/sqrt(n)).
comparison check_directions(const loss_function& loss, const std::vector<double>& x,
                            const std::vector<double>& g, int count = 8);

// Like expect, and records the facet "gradient" of the op.
void expect_gradient(const std::string& op, const std::string& case_text, const comparison& result,
                     const char* file = __builtin_FILE(), int line = __builtin_LINE());

}  // namespace support
