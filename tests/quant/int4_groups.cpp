// SPDX-License-Identifier: Apache-2.0
// 4-bit groups: layout, codes, scales and zero points against the oracle, sizes around groups and
// words, golden values, the error on normal weights, refusals.
#include "deepseek/quant/int4_groups.hpp"

#include "oracle/int4.hpp"
#include "support/report.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <set>

namespace ds = deepseek;

namespace {

template <ds::index_t G, class S, ds::index_t O, ds::index_t I>
using weight_of = typename ds::int4_groups<G>::template weight<float, S, O, I>;

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

template <ds::index_t G, ds::index_t O, ds::index_t I>
void expect_codes() {
  for (support::values kind : support::every_class) {
    const auto w = drawn<O, I>(kind);
    weight_of<G, ds::host, O, I> q;
    ds::make_weight(ds::int4_groups<G>{}, w, {}, q);
    const auto want = oracle::quantize_int4(std::vector<float>(w.data(), w.data() + w.size()),
                                            static_cast<std::size_t>(I), G);
    const auto got = q.operand().expert(0);
    int wrong = 0;
    for (ds::index_t i = 0; i < O * I; ++i) {
      const ds::index_t n = i / I, k = i % I, at = q.layout.group_at(n, k);
      const auto group = static_cast<std::size_t>(n * ((I + G - 1) / G) + k / G);
      wrong += ds::int4_layout::code(q.q.data()[q.layout.word_at(n, k)], k) !=
               want.codes[static_cast<std::size_t>(i)];
      wrong += static_cast<float>(q.scale.data()[at]) != want.scales[group];
      wrong += q.zero.data()[at] != want.zeros[group];
      wrong += static_cast<double>(got(n, k)) !=
               want.value(static_cast<std::size_t>(n), static_cast<std::size_t>(k));
    }
    CHECK_MESSAGE(wrong == 0, G << " " << O << " " << I << " " << support::to_string(kind));
  }
}

}  // namespace

TEST_CASE("layout: every weight has 4 bits of its own, every group a place") {
  for (ds::index_t n : {1, 15, 16, 17, 64, 65}) {
    for (ds::index_t k : {1, 7, 8, 9, 31, 32, 33, 130}) {
      const ds::int4_layout at{n, k, 32};
      std::set<ds::index_t> codes, groups;
      for (ds::index_t c = 0; c < n; ++c) {
        for (ds::index_t s = 0; s < k; ++s) {
          codes.insert(at.word_at(c, s) * 8 + s % 8);
          groups.insert(at.group_at(c, s));
        }
      }
      CHECK(static_cast<ds::index_t>(codes.size()) == n * k);
      CHECK(static_cast<ds::index_t>(groups.size()) == n * at.groups_deep());
      CHECK(*codes.rbegin() < at.words() * 8);
      CHECK(*groups.rbegin() < at.groups());
    }
  }
}

TEST_CASE("codes, scales and zero points are the oracle's") {
  expect_codes<32, 1, 1>();
  expect_codes<32, 17, 31>();
  expect_codes<32, 65, 100>();
  expect_codes<64, 16, 129>();
  expect_codes<128, 3, 300>();
}

TEST_CASE("golden values") {
  ds::tensor<float, ds::host, 1, 4> w;
  const float values[] = {-.7F, .2F, .1F, .5F};
  const int codes[] = {0, 11, 10, 15};
  const double back[] = {-.72, .16, .08, .48};
  for (ds::index_t k = 0; k < 4; ++k) w.data()[k] = values[k];
  weight_of<32, ds::host, 1, 4> q;
  ds::make_weight(ds::int4_groups<32>{}, w, {}, q);
  CHECK(std::fabs(static_cast<double>(q.scale.data()[0]) - .08) <= .08 * 0x1p-8);
  CHECK(q.zero.data()[0] == 9);
  for (ds::index_t k = 0; k < 4; ++k) {
    CHECK(ds::int4_layout::code(q.q.data()[0], k) == codes[k]);
    CHECK(std::fabs(static_cast<double>(q.operand().expert(0)(0, k)) - back[k]) <= .72 * 0x1p-8);
  }
}

TEST_CASE("one sign, zeros and ends of float: nothing overflows, zero is exact") {
  const float most = std::numeric_limits<float>::max();
  for (const auto& [low, high] : {std::pair{0.0F, 0.0F},
                                  {0.0F, 1.0F},
                                  {-1.0F, 0.0F},
                                  {-most, most},
                                  {0.0F, 1e-45F},
                                  {-1e-40F, 1e-40F}}) {
    const ds::int4_group g = ds::int4_group_of(low, high);
    CHECK(g.step() > 0);
    CHECK(std::isfinite(g.step()));
    CHECK(g.value(g.code(0)) == 0);
    for (float x : {low, high}) {
      CHECK((g.code(x) >= 0 && g.code(x) <= 15));
      CHECK(std::fabs(static_cast<double>(g.value(g.code(x))) - static_cast<double>(x)) <=
            1.1 * static_cast<double>(g.step()));
    }
  }
}

TEST_CASE("error on normal weights, bytes") {
  const auto w = drawn<128, 512>(support::values::normal);
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
  weight_of<32, ds::host, 128, 512> q32;
  weight_of<64, ds::host, 128, 512> q64;
  weight_of<128, ds::host, 128, 512> q128;
  ds::make_weight(ds::int4_groups<32>{}, w, {}, q32);
  ds::make_weight(ds::int4_groups<64>{}, w, {}, q64);
  ds::make_weight(ds::int4_groups<128>{}, w, {}, q128);
  MESSAGE("relative error " << relative(q32) << " " << relative(q64) << " " << relative(q128));
  CHECK(relative(q32) < relative(q64));
  CHECK(relative(q64) < relative(q128));
  CHECK(relative(q128) <= 1.02 * 0.117);
  const auto bytes = static_cast<double>(q32.q.size() * 4 + q32.scale.size() * 2 + q32.zero.size());
  CHECK(bytes / (128 * 512) == 0.5 + 3.0 / 32);
}

TEST_CASE("a stack expert by expert; NaN and infinity are refused") {
  const auto w = drawn<20, 70>(support::values::normal);
  weight_of<32, ds::stacked<3, ds::host>, 20, 70> stack;
  weight_of<32, ds::host, 20, 70> alone;
  ds::make_expert_weight(ds::int4_groups<32>{}, w.view(), {}, stack, 2);
  ds::make_weight(ds::int4_groups<32>{}, w, {}, alone);
  const auto a = stack.operand().expert(2), b = alone.operand().expert(0);
  for (ds::index_t i = 0; i < w.size(); ++i) CHECK(a(i / 70, i % 70) == b(i / 70, i % 70));
  auto bad = w;
  for (float x : {std::nanf(""), INFINITY, -INFINITY}) {
    bad.view()(19, 3) = x;
    CHECK_ERROR(ds::error_code::nonfinite, "int4_groups", "[2, 19, 3]",
                ds::make_expert_weight(ds::int4_groups<32>{}, bad.view(), {}, stack, 2));
  }
  CHECK(stack.operand().expert(2)(5, 5) == b(5, 5));
}
