// SPDX-License-Identifier: Apache-2.0
// transfer, in_memory, transfer_all on the host: bytes arrive, bad shapes and layouts are refused.
// Between memories: tests/simulation/model.cpp and tests/cuda/context.cu.
#include "deepseek/core/transfer.hpp"

#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;
using ds::error_code;

namespace {

template <class T, class S>
struct pair_of_tensors {
  ds::tensor<T, S, 3> first;
  ds::tensor<T, S, 2, 2> second;
  static constexpr auto fields() {
    return std::tuple{ds::named("first", &pair_of_tensors::first),
                      ds::named("second", &pair_of_tensors::second)};
  }
};

}  // namespace

TEST_CASE("transfer: every byte arrives, whatever it holds") {
  ds::tensor<float, ds::host, ds::dyn, 3> x({2, 3});
  for (int i = 0; i < 6; ++i) x.data()[i] = i == 4 ? -0.0F : static_cast<float>(i);
  const auto y = ds::in_memory<ds::host>(x);
  static_assert(std::is_same_v<decltype(y), const ds::tensor<float, ds::host, ds::dyn, 3>>);
  CHECK(std::memcmp(x.data(), y.data(), 6 * sizeof(float)) == 0);
  ds::tensor<float, ds::host, 1, 3> last;
  ds::transfer(ds::rows(x.view(), 1, 1), last);
  CHECK(std::memcmp(x.data() + 3, last.data(), 3 * sizeof(float)) == 0);
  ds::tensor<float, ds::host, ds::dyn, 3> nothing({0, 3});
  ds::transfer(nothing, nothing);
}

TEST_CASE("transfer: what does not fit is refused and nothing is written") {
  ds::tensor<float, ds::host, 2, 3> x;
  ds::tensor<float, ds::host, ds::dyn, ds::dyn> y({3, 2});
  for (int i = 0; i < 6; ++i) x.data()[i] = 1;
  CHECK_ERROR(error_code::shape_mismatch, "transfer: to[3, 2]", "expected 2", ds::transfer(x, y));
  CHECK_ERROR(error_code::unsupported, "not contiguous", ds::transfer(ds::transposed(x.view()), y));
  for (int i = 0; i < 6; ++i) CHECK(y.data()[i] == 0);
}

TEST_CASE("transfer_all: structs of tensors of one layer") {
  pair_of_tensors<double, ds::host> from, to;
  from.first.data()[2] = 5;
  from.second.data()[3] = 7;
  ds::transfer_all(from, to);
  CHECK(to.first.data()[2] == 5);
  CHECK(to.second.data()[3] == 7);
}
