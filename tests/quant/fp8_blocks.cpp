// SPDX-License-Identifier: Apache-2.0
// e4m3 blocks: codes and scales against the oracle, sizes around block edges, scales by golden
// values, adoption of a checkpoint's tensors as they are, the error on normal weights, refusals.
#include "deepseek/quant/fp8_blocks.hpp"

#include "oracle/float8.hpp"
#include "support/report.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <memory>

namespace ds = deepseek;

namespace {

template <class F, class S, ds::index_t O, ds::index_t I>
using weight_of = typename F::template weight<float, S, O, I>;

template <ds::index_t O, ds::index_t I>
ds::tensor<float, ds::host, O, I> drawn(support::values kind) {
  ds::tensor<float, ds::host, O, I> w;
  support::numbers from(support::text("o", O, "i", I, "values", support::to_string(kind)));
  const auto all = support::draw(kind, static_cast<std::size_t>(O * I), from);
  for (ds::index_t i = 0; i < O * I; ++i) {
    w.data()[i] = static_cast<float>(all[static_cast<std::size_t>(i)]);
  }
  return w;
}

template <class W>
oracle::fp8_matrix expected(const W& w, ds::fp8_scales kind) {
  return oracle::quantize_fp8(std::vector<float>(w.data(), w.data() + w.size()),
                              static_cast<std::size_t>(w.extent(1)), 128,
                              kind == ds::fp8_scales::power_of_two);
}

template <class W>
int differences(const W& w, const oracle::fp8_matrix& want) {
  int wrong = 0;
  for (std::size_t i = 0; i < want.codes.size(); ++i) {
    wrong += w.q.data()[i].bits != want.codes[i];
  }
  CHECK(w.scale.size() == static_cast<ds::index_t>(want.scales.size()));
  for (std::size_t i = 0; i < want.scales.size(); ++i) {
    wrong += w.scale.data()[i] != want.scales[i];
  }
  return wrong;
}

template <class F, ds::index_t O, ds::index_t I>
void expect_codes() {
  for (support::values kind : support::every_class) {
    const auto w = drawn<O, I>(kind);
    weight_of<F, ds::host, O, I> q;
    ds::make_weight(F{}, w, {}, q);
    CHECK_MESSAGE(differences(q, expected(w, F::scales)) == 0,
                  F::name << " " << O << " " << I << " " << support::to_string(kind));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("codes and scales are the oracle's", F, ds::fp8_blocks, ds::fp8_blocks_ue8m0) {
  expect_codes<F, 1, 1>();
  expect_codes<F, 127, 128>();
  expect_codes<F, 128, 129>();
  expect_codes<F, 130, 257>();
}

// 576 rows, the latent of every layer of V3: five rows of scales, the last of half a block.
TEST_CASE("576 rows have 5 rows of scales") {
  auto q = std::make_unique<weight_of<ds::fp8_blocks, ds::host, 576, 130>>();
  CHECK(q->scale.extent(0) == 5);
  CHECK(q->scale.extent(1) == 2);
  const auto w = drawn<576, 130>(support::values::normal);
  ds::make_weight(ds::fp8_blocks{}, w, {}, *q);
  CHECK(differences(*q, expected(w, ds::fp8_scales::any)) == 0);
}

TEST_CASE("scales: golden values, floor, next power of two from the bits") {
  const struct {
    float amax;
    double scale, power;
  } golden[] = {{1e-5F, 2.232142857e-7, 0x1p-22},
                {.5F, .00111607143, 0x1p-9},
                {1, .00223214286, 0x1p-8},
                {3, .00669642857, 0x1p-7},
                {448, 1, 1},
                {500, 1.11607143, 2}};
  for (const auto& g : golden) {
    const auto scale = static_cast<double>(ds::fp8_scale_of(g.amax, ds::fp8_scales::any));
    CHECK(std::fabs(scale - g.scale) <= 0x1p-23 * g.scale);
    CHECK(static_cast<double>(ds::fp8_scale_of(g.amax, ds::fp8_scales::power_of_two)) == g.power);
  }
  const float above = std::nextafter(448.0F, 1e9F);
  CHECK(ds::fp8_scale_of(above, ds::fp8_scales::power_of_two) ==
        (ds::fp8_scale_of(above, ds::fp8_scales::any) > 1 ? 2 : 1));
}

TEST_CASE("what a checkpoint holds is taken as it is, and multiplies") {
  constexpr ds::index_t out = 130, in = 129;
  std::vector<ds::f8_e4m3> codes(out * in);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    codes[i] = ds::f8_e4m3::from_bits(static_cast<std::uint8_t>(i));
  }
  const float scales[] = {0.5F, 2, 3, 0.25F};
  const ds::fp8_matrix<ds::host> file{{codes.data(), {out, in}}, {scales, {2, 2}}};
  CHECK(file(129, 128) == static_cast<float>(codes.back()) * 0.25F);
  weight_of<ds::fp8_blocks, ds::stacked<2, ds::host>, out, in> w;
  ds::make_expert_weight(ds::fp8_blocks{}, file, {}, w, 1);
  CHECK(std::memcmp(w.q.data() + out * in, codes.data(), codes.size()) == 0);
  CHECK(std::memcmp(w.scale.data() + 4, scales, sizeof scales) == 0);
  CHECK(w.q.data()[5].bits == 0);
  const ds::fp8_matrix<ds::host> short_of{{codes.data(), {out, in}}, {scales, {1, 2}}};
  CHECK_ERROR(ds::error_code::shape_mismatch, "fp8_blocks", "[1, 2]", "[2, 2]",
              ds::make_expert_weight(ds::fp8_blocks{}, short_of, {}, w, 0));
}

TEST_CASE("error on normal weights, bytes") {
  const auto w = drawn<256, 512>(support::values::normal);
  const auto relative = [&](const auto& q) {
    const auto back = q.operand().expert(0);
    double error = 0, norm = 0;
    for (ds::index_t i = 0; i < w.size(); ++i) {
      const double x = static_cast<double>(w.data()[i]);
      const double d = static_cast<double>(back(i / 512, i % 512)) - x;
      error += d * d, norm += x * x;
    }
    return std::sqrt(error / norm);
  };
  weight_of<ds::fp8_blocks, ds::host, 256, 512> any;
  weight_of<ds::fp8_blocks_ue8m0, ds::host, 256, 512> power;
  ds::make_weight(ds::fp8_blocks{}, w, {}, any);
  ds::make_weight(ds::fp8_blocks_ue8m0{}, w, {}, power);
  MESSAGE("relative error " << relative(any) << ", with powers of two " << relative(power));
  CHECK(relative(any) <= 1.02 * 2.65e-2);
  CHECK(relative(power) <= 1.02 * 2.7e-2);
  CHECK(relative(any) > 2e-2);
}

TEST_CASE("NaN, infinity and numbers beyond float are refused") {
  weight_of<ds::fp8_blocks, ds::host, 3, 5> q;
  ds::tensor<double, ds::host, 3, 5> w;
  for (double bad : {std::nan(""), static_cast<double>(INFINITY), 1e300}) {
    w.view()(2, 4) = bad;
    CHECK_ERROR(ds::error_code::nonfinite, "fp8_blocks", "[0, 2, 4]",
                ds::make_weight(ds::fp8_blocks{}, w, {}, q));
    CHECK(q.scale.data()[0] == 0);
  }
}
