// SPDX-License-Identifier: Apache-2.0
// Scaled rotary frequencies: published values, tables of the oracle for every rule, the op with
// them on both backends, and what is refused.
#include "deepseek/ops/rope_scaling.hpp"

#include "deepseek/backend/cpu/rope.hpp"
#include "deepseek/backend/reference/rope.hpp"

#include "ops/row_cases.hpp"
#include "oracle/golden.hpp"
#include "oracle/rope.hpp"
#include "oracle/rope_scaling.hpp"

namespace ds = deepseek;
using row_cases::reals;
using kind = ds::rope_scaling_kind;

namespace {

constexpr ds::rope_scaling v3{
    .kind = kind::yarn, .factor = 40, .original_length = 4096, .mscale = 1, .mscale_all_dim = 1};
constexpr ds::rope_scaling v4{.kind = kind::yarn, .factor = 16, .original_length = 65536};

struct scaled_case {
  const char* name;
  ds::rope_scaling scaling;
  double theta;
  std::size_t dim;
  reals table;  // the oracle's
  double amplitude = 1;
  ds::index_t length = 0;
};

std::vector<scaled_case> all_cases() {
  std::vector<scaled_case> all;
  for (const std::size_t d : {2u, 4u, 6u, 64u, 128u}) {
    all.push_back(
        {"linear", {.kind = kind::linear, .factor = 4}, 1e5, d, oracle::linear_table(1e5, d, 4)});
    for (const ds::index_t length : {1, 100, 101, 777}) {
      all.push_back({"dynamic",
                     {.kind = kind::dynamic_ntk, .factor = 3, .original_length = 100},
                     1e4,
                     d,
                     d == 2 ? reals{1} : oracle::ntk_table(1e4, d, 3, double(length) / 100),
                     1,
                     length});
    }
    all.push_back(
        {"llama3",
         {.kind = kind::llama3, .factor = 8, .original_length = 8192, .low = 1, .high = 4},
         5e5,
         d,
         oracle::llama3_table(5e5, d, {8, 1, 4, 8192})});
    all.push_back({"yarn", v3, 1e4, d, oracle::yarn_table(1e4, d, {40, 32, 1, 4096})});
    all.push_back({"yarn of V4", v4, 1.6e5, d, oracle::yarn_table(1.6e5, d, {16, 32, 1, 65536})});
    // Both ends of the ramp fall on one pair; the upper end meets d - 1; amplitude other than one.
    all.push_back({"yarn, one pair",
                   {.kind = kind::yarn, .factor = 5, .original_length = 6},
                   1e4,
                   d,
                   oracle::yarn_table(1e4, d, {5, 32, 1, 6})});
    all.push_back({"yarn, long",
                   {.kind = kind::yarn, .factor = 5, .original_length = 1 << 20, .mscale = 1},
                   3,
                   d,
                   oracle::yarn_table(3, d, {5, 32, 1, 1 << 20}),
                   0.1 * std::log(5.0) + 1});
  }
  return all;
}

template <class T, class B>
std::vector<T> turned(const B& b, const scaled_case& c, const ds::rope_spec& how, std::vector<T> x,
                      const std::vector<std::int32_t>& at) {
  const auto n = static_cast<ds::index_t>(at.size()), d = static_cast<ds::index_t>(c.dim);
  const ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn> v(x.data(), {n, 2, d});
  const ds::view<const std::int32_t, ds::host, ds::dyn> p(at.data(), {n});
  ds::ops::rope(b, v, p, v, how);
  return x;
}

const std::vector<std::int32_t> positions = {0, 1, 9, 500, 131071};

template <class T, class B>
void check(const B& b) {
  for (const scaled_case& c : all_cases()) {
    for (const bool half : {false, true}) {
      const ds::rope_spec how{.theta = c.theta,
                              .layout = half ? ds::rope_layout::half : ds::rope_layout::interleaved,
                              .scaling = c.scaling,
                              .length = c.length};
      const auto x = support::as<T>(support::loss_weights(positions.size() * 2 * c.dim));
      oracle::rope_shape shape{2, c.dim};
      shape.layout = half ? oracle::pairing::half : oracle::pairing::interleaved;
      shape.frequencies = c.table;
      shape.amplitude = c.amplitude;
      const auto r =
          oracle::rope(support::to_double(x), {positions.begin(), positions.end()}, shape);
      const auto got = turned(b, c, how, x, positions);
      // The oracle's frequencies differ by a few units in the last place, times the position.
      const double near = 1e-9 + 4 * ds::unit_roundoff<T>;
      double farthest = 0;
      for (std::size_t i = 0; i < r.size(); ++i) {
        farthest = std::max(farthest, std::fabs(static_cast<double>(got[i]) - r[i]));
      }
      CHECK_MESSAGE(farthest < near * 4,
                    std::string(b.name()) << " " << c.name << " dim " << c.dim << ": " << farthest);
    }
  }
}

}  // namespace

TEST_CASE("rope_scaling: published values of yarn") {
  namespace golden = oracle::golden::yarn;
  const ds::rope_frequencies f{1e4, 64};
  CHECK(ds::pair_that_turns(v3, f, 32) == doctest::Approx(golden::corr_fast).epsilon(1e-8));
  CHECK(ds::pair_that_turns(v3, f, 1) == doctest::Approx(golden::corr_slow).epsilon(1e-8));
  CHECK(ds::yarn_ramp_of(v3, f).low == golden::low);
  CHECK(ds::yarn_ramp_of(v3, f).high == golden::high);
  for (std::size_t i = 0; i < golden::pairs.size(); ++i) {
    CHECK(ds::scaled_frequency(v3, f, golden::pairs[i]) ==
          doctest::Approx(golden::frequencies[i]).epsilon(1e-9));
  }
  const ds::rope_frequencies compressed{1.6e5, 64};
  CHECK(ds::pair_that_turns(v4, compressed, 32) ==
        doctest::Approx(golden::v4_corr_fast).epsilon(1e-8));
  CHECK(ds::pair_that_turns(v4, compressed, 1) ==
        doctest::Approx(golden::v4_corr_slow).epsilon(1e-8));
  CHECK(ds::yarn_ramp_of(v4, compressed).low == golden::v4_low);
  CHECK(ds::yarn_ramp_of(v4, compressed).high == golden::v4_high);
  CHECK(ds::rope_amplitude(v4) == 1);
  CHECK(ds::softmax_scale_factor(v4) == 1);
  for (std::size_t i = 0; i < golden::mscale.size(); ++i) {
    auto s = v3;
    s.mscale = s.mscale_all_dim = golden::mscale[i];
    CHECK(ds::yarn_magnitude(40, s.mscale) == doctest::Approx(golden::magnitude[i]).epsilon(1e-9));
    CHECK(ds::softmax_scale_factor(s) == doctest::Approx(golden::factor[i]).epsilon(1e-9));
    CHECK(ds::softmax_scale_factor(s) / std::sqrt(192.0) ==
          doctest::Approx(i == 0 ? golden::v2_scale : golden::v3_scale).epsilon(1e-9));
    CHECK(ds::rope_amplitude(s) == 1);
  }
  CHECK(ds::softmax_scale_factor({}) / std::sqrt(192.0) ==
        doctest::Approx(golden::plain_scale).epsilon(1e-9));
}

TEST_CASE("rope_scaling: the upper end is at most d - 1, equal ends are pushed apart") {
  const ds::rope_scaling longer{.kind = kind::yarn, .factor = 5, .original_length = 1 << 20};
  CHECK(ds::yarn_ramp_of(longer, {3, 8}).high == 7);
  const ds::rope_scaling shorter{.kind = kind::yarn, .factor = 5, .original_length = 6};
  const auto ramp = ds::yarn_ramp_of(shorter, {1e4, 64});
  CHECK(ramp.low == 0);
  CHECK(ramp.high == doctest::Approx(0.001));
  CHECK(ramp.at(0) == 0);
  CHECK(ramp.at(1) == 1);
}

TEST_CASE("rope_scaling: every table is the oracle's") {
  for (const scaled_case& c : all_cases()) {
    const ds::rope_frequencies f{c.theta, static_cast<ds::index_t>(c.dim), c.length};
    for (std::size_t i = 0; i < c.table.size(); ++i) {
      CHECK_MESSAGE(ds::scaled_frequency(c.scaling, f, static_cast<ds::index_t>(i)) ==
                        doctest::Approx(c.table[i]).epsilon(1e-13),
                    c.name << " " << i);
    }
    CHECK(ds::rope_amplitude(c.scaling) == doctest::Approx(c.amplitude).epsilon(1e-14));
  }
}

TEST_CASE("rope_scaling: rope with every scaling on both backends") {
  const ds::reference reference;
  const ds::cpu cpu{{.threads = 2}};
  check<double>(reference);
  check<float>(reference);
  check<ds::bf16>(reference);
  check<ds::f16>(reference);
  check<double>(cpu);
  check<float>(cpu);
}

TEST_CASE("rope_scaling: factor one changes no bit; the inverse turn undoes the turn") {
  const ds::cpu b;
  const scaled_case c{"", {}, 1e4, 64, {}};
  const auto x = support::as<float>(support::loss_weights(positions.size() * 2 * c.dim));
  const auto plain = turned(b, c, {}, x, positions);
  for (const kind k : {kind::linear, kind::llama3, kind::dynamic_ntk, kind::yarn}) {
    const ds::rope_spec one{
        .scaling = {.kind = k, .factor = 1, .original_length = 1 << 20, .mscale = 1}, .length = 5};
    const auto same = turned(b, c, one, x, positions);
    if (k == kind::linear || k == kind::dynamic_ntk) CHECK(support::same_bits(same, plain));
    for (std::size_t i = 0; i < x.size(); ++i) CHECK(same[i] == doctest::Approx(plain[i]));
  }
  const ds::rope_spec there{.scaling = v3};
  ds::rope_spec back = there;
  back.turn = ds::rope_turn::inverse;
  const auto again = turned(b, c, back, turned(b, c, there, x, positions), positions);
  for (std::size_t i = 0; i < x.size(); ++i) {
    CHECK(again[i] == doctest::Approx(x[i]).epsilon(1e-5));
  }
}

TEST_CASE("rope_scaling: what is refused") {
  const ds::cpu b;
  float data[12] = {};
  const std::int32_t at[] = {1, 2};
  const ds::view<float, ds::host, ds::dyn, ds::dyn, ds::dyn> x(data, {2, 1, 6});
  const ds::view<const std::int32_t, ds::host, ds::dyn> p(at, {2});
  const auto turn = [&](const ds::rope_scaling& s, double theta = 1e4) {
    ds::ops::rope(b, x, p, x, {.theta = theta, .scaling = s});
  };
  constexpr auto invalid = ds::error_code::invalid_argument;
  CHECK_ERROR(invalid, "factor is not >= 1", "factor 0.5",
              turn({.kind = kind::linear, .factor = 0.5}));
  CHECK_ERROR(invalid, "factor is not >= 1", turn({.kind = kind::linear, .factor = NAN}));
  CHECK_ERROR(invalid, "original_length is not positive", turn({.kind = kind::yarn, .factor = 2}));
  CHECK_ERROR(invalid, "low < high",
              turn({.kind = kind::llama3, .original_length = 9, .low = 4, .high = 4}));
  CHECK_ERROR(invalid, "beta_slow",
              turn({.kind = kind::yarn, .original_length = 9, .beta_fast = 1, .beta_slow = 2}));
  CHECK_ERROR(invalid, "mscale", turn({.kind = kind::yarn, .original_length = 9, .mscale = -1}));
  CHECK_ERROR(invalid, "theta is not above 1", turn({.kind = kind::yarn, .original_length = 9}, 1));
  CHECK_ERROR(invalid, "length is 0", turn({.kind = kind::dynamic_ntk, .original_length = 9}));
  static_assert(ds::rope_scaling_problem(v3, 1e4) == nullptr);
  static_assert(ds::rope_scaling_problem({.kind = kind::linear, .factor = 0}, 1e4) != nullptr);
  support::facet("rope", "errors");
}
