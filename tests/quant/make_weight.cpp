// SPDX-License-Identifier: Apache-2.0
// Making weights expert by expert gives what making the stack at once gives, in every format; from
// floats, doubles and 16-bit matrices of any strides; what is refused.
#include "deepseek/quant/make_weight.hpp"

#include "deepseek/quant/fp8_blocks.hpp"
#include "deepseek/quant/int4_groups.hpp"
#include "deepseek/quant/int8_channels.hpp"
#include "deepseek/quant/int8_weight.hpp"
#include "deepseek/quant/mxfp4.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <cstring>

namespace ds = deepseek;

namespace {

constexpr ds::index_t experts = 3, out = 20, in = 70;
template <class F>
using stack = typename F::template weight<float, ds::stacked<experts, ds::host>, out, in>;
const ds::observed_range seen{{-1, 1}, {-1, 1}, 1};

template <class T>
ds::tensor<T, ds::stacked<experts, ds::host>, out, in> drawn() {
  ds::tensor<T, ds::stacked<experts, ds::host>, out, in> w;
  support::numbers from("stack");
  for (ds::index_t i = 0; i < w.size(); ++i) w.data()[i] = static_cast<T>(from.normal());
  return w;
}

template <class W>
bool same_bits(const W& a, const W& b) {
  bool same = true;
  ds::visit(
      [&](const ds::tensor_name&, const auto& x, const auto& y) {
        same = same && std::memcmp(x.data(), y.data(),
                                   static_cast<std::size_t>(x.size()) * sizeof(x.data()[0])) == 0;
      },
      a, b);
  return same;
}

}  // namespace

TEST_CASE_TEMPLATE("one expert after the other is the whole stack", F, ds::plain, ds::bf16_weights,
                   ds::w8a8, ds::w8a8_per_token, ds::fp8_blocks, ds::int4_groups<32>,
                   ds::int4_symmetric<64>, ds::int8_channels, ds::mxfp4) {
  const auto w = drawn<float>();
  stack<F> all, each, turned;
  ds::make_weight(F{}, w, seen, all);
  ds::tensor<float, ds::host, in, out> other_way;
  for (ds::index_t e : {2, 0, 1}) {
    const auto matrix = ds::slice(w.view(), e);
    ds::make_expert_weight(F{}, matrix, seen, each, e);
    for (ds::index_t i = 0; i < out * in; ++i) {
      other_way.view()(i % in, i / in) = matrix(i / in, i % in);
    }
    ds::make_expert_weight(F{}, ds::as_const(ds::transposed(other_way.view())), seen, turned, e);
  }
  CHECK(same_bits(all, each));
  CHECK(same_bits(all, turned));
}

TEST_CASE_TEMPLATE("narrow sources are what their floats are", F, ds::plain, ds::bf16_weights,
                   ds::w8a8_per_token, ds::fp8_blocks, ds::int4_groups<32>, ds::int4_symmetric<64>,
                   ds::int8_channels, ds::mxfp4) {
  const auto narrow = drawn<ds::bf16>();
  ds::tensor<float, ds::stacked<experts, ds::host>, out, in> wide;
  for (ds::index_t i = 0; i < wide.size(); ++i) wide.data()[i] = narrow.data()[i];
  stack<F> a, b;
  ds::make_weight(F{}, narrow, seen, a);
  ds::make_weight(F{}, wide, seen, b);
  CHECK(same_bits(a, b));
}

TEST_CASE("bf16 weights round once and keep what a file holds") {
  ds::tensor<double, ds::host, 1, 4> w;
  const double values[] = {1.00390625, 1.01171875, std::nan(""), -1e300};
  for (ds::index_t i = 0; i < 4; ++i) w.data()[i] = values[i];
  ds::bf16_weights::weight<float, ds::host, 1, 4> kept;
  ds::make_weight(ds::bf16_weights{}, w, {}, kept);
  CHECK(kept.data()[0].bits == 0x3f80);  // ties to even
  CHECK(kept.data()[1].bits == 0x3f82);
  CHECK(std::isnan(static_cast<float>(kept.data()[2])));
  CHECK(static_cast<float>(kept.data()[3]) == -INFINITY);
}

TEST_CASE_TEMPLATE("other shapes and experts are refused", F, ds::plain, ds::bf16_weights, ds::w8a8,
                   ds::fp8_blocks, ds::int4_groups<32>, ds::int4_symmetric<64>, ds::int8_channels,
                   ds::mxfp4) {
  const auto w = drawn<float>();
  stack<F> to;
  CHECK_ERROR(ds::error_code::index_range, F::name, "3",
              ds::make_expert_weight(F{}, ds::slice(w.view(), 0), seen, to, 3));
  CHECK_ERROR(ds::error_code::shape_mismatch, F::name, "[70, 20]",
              ds::make_expert_weight(F{}, ds::transposed(ds::slice(w.view(), 0)), seen, to, 0));
}

TEST_CASE_TEMPLATE("a bad weight in the last expert leaves the stack untouched", F,
                   ds::w8a8_per_token, ds::fp8_blocks, ds::int4_groups<32>, ds::int4_symmetric<64>,
                   ds::int8_channels, ds::mxfp4) {
  auto w = drawn<float>();
  stack<F> before, after;
  ds::make_weight(F{}, w, seen, before);
  ds::make_weight(F{}, w, seen, after);
  w.data()[0] = 7;
  w.data()[w.size() - 1] = INFINITY;
  CHECK_ERROR(ds::error_code::nonfinite, F::name, "[2, 19, 69]",
              ds::make_weight(F{}, w, seen, after));
  CHECK(same_bits(before, after));
}

TEST_CASE("4-bit groups from the e4m3 blocks of a file are those from their numbers") {
  std::vector<ds::f8_e4m3> codes(out * in);
  support::numbers from("file");
  for (auto& q : codes) q = ds::f8_e4m3(40 * from.normal());
  const float scale = 0.01F;
  const ds::fp8_matrix<ds::host> file{{codes.data(), {out, in}}, {&scale, {1, 1}}};
  ds::tensor<float, ds::host, out, in> numbers;
  for (ds::index_t i = 0; i < out * in; ++i) numbers.data()[i] = file(i / in, i % in);
  ds::int4_groups<32>::weight<float, ds::host, out, in> a, b;
  ds::make_expert_weight(ds::int4_groups<32>{}, file, {}, a, 0);
  ds::make_weight(ds::int4_groups<32>{}, numbers, {}, b);
  CHECK(same_bits(a, b));
}
