// SPDX-License-Identifier: Apache-2.0
// What every backend promises: the concept, a name, a workspace whose scopes give everything back,
// ops that refuse before they write and that leave their inputs alone.
#include <doctest/doctest.h>

#include "deepseek/deepseek.hpp"

#include "support/poison.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;
using matrix = ds::view<float, ds::host, ds::dyn, ds::dyn>;

TEST_CASE_TEMPLATE("every backend keeps the contract", B, ds::reference, ds::cpu) {
  static_assert(ds::Backend<B>);
  static_assert(std::is_same_v<typename B::space, ds::host>);
  const B b;
  CHECK(b.name() == (std::is_same_v<B, ds::cpu> ? "cpu" : "reference"));

  const auto before = b.workspace().bytes_used();
  support::guarded<float> x(12), w(20), y(15);
  for (std::size_t i = 0; i < 12; ++i) x[i] = static_cast<float>(i);
  for (std::size_t i = 0; i < 20; ++i) w[i] = 1;
  x.remember(), w.remember();
  const matrix a(x.data(), {3, 4}), c(y.data(), {3, 5});
  ds::ops::gemm(b, a, matrix(w.data(), {4, 5}), c);
  CHECK(c(1, 2) == 4 + 5 + 6 + 7);
  CHECK((x.unchanged() && w.unchanged() && y.intact()));
  CHECK(b.workspace().bytes_used() == before);

  const auto old = y.values();
  CHECK_ERROR(ds::error_code::shape_mismatch, "[5, 4]", "[3, 4]",
              ds::ops::gemm(b, a, matrix(w.data(), {5, 4}), c));
  CHECK_ERROR(ds::error_code::invalid_argument, "null",
              ds::ops::gemm(b, a, matrix(nullptr, {4, 5}), c));
  CHECK(support::same_bits(old, y.values()));
  CHECK(b.workspace().bytes_used() == before);
}
