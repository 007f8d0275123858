// SPDX-License-Identifier: Apache-2.0
// One case of a row-wise op, the table of them, and how near a result must come.
#pragma once

#include "ops/grid.hpp"
#include "support/cases.hpp"
#include "support/compare.hpp"
#include "support/report.hpp"

#include <string>
#include <utility>
#include <vector>

namespace row_cases {

namespace ds = deepseek;

struct row_case {
  std::size_t rows = 0, dim = 0;
  strides how = strides::contiguous;
  support::values kind = support::values::normal;
  std::string text() const {
    constexpr const char* names[] = {"contiguous", "padded", "offset", "transposed"};
    return support::text("rows", rows, "dim", dim, "strides", names[static_cast<int>(how)],
                         "values", support::to_string(kind));
  }
  // Inputs that make many results zero or equal by design, or too few to judge.
  bool special() const {
    using v = support::values;
    return rows * dim < 64 || dim < 3 ||
           !(kind == v::normal || kind == v::positive || kind == v::wide || kind == v::outlier);
  }
};

inline std::vector<row_case> all_cases(std::size_t at_most = 0) {
  const std::vector<std::size_t> rows = {1, 2, 3, 17, 64, 65, 130};
  const std::vector<std::size_t> dims = {1,  2,  3,  7,  8,  9,   15,  16,  17,   24,  31,
                                         33, 48, 63, 64, 65, 127, 129, 257, 1000, 1025};
  std::vector<row_case> out;
  constexpr std::size_t kinds = sizeof support::every_class / sizeof support::every_class[0];
  for (const auto& pick : support::pairwise({rows.size(), dims.size(), 4, kinds}, at_most)) {
    out.push_back({rows[pick[0]], dims[pick[1]], static_cast<strides>(pick[2]),
                   support::every_class[pick[3]]});
  }
  return out;
}

// What an op must give, with the same expression on absolute values.
struct result {
  reals value, magnitude;
};

// |y - r| <= 2 ulps u S + the rounding to the type, and the norm rules with the same figure.
inline support::limits element_limits(ds::dtype type, double ulps) {
  support::limits l = support::gemm_limits(type, 1);
  l.relative = 2 * ulps * (type == ds::dtype::f64 ? 0x1p-53 : 0x1p-24);
  l.c = 2 * ulps;
  l.depth = 256;  // of the floor for subnormal results
  return l;
}
// In double the oracle, which adds n terms one after the other, errs by up to n u itself.
inline support::limits with_oracle(support::limits l, std::size_t n) {
  if (l.type != ds::dtype::f64) return l;
  l.relative += static_cast<double>(n) * 0x1p-53;
  l.c += static_cast<double>(n);
  return l;
}
inline result exact_magnitude(reals r) {
  reals s = r;
  for (double& e : s) e = std::fabs(e);
  return {std::move(r), std::move(s)};
}

}  // namespace row_cases
