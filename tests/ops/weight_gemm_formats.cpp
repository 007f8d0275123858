// SPDX-License-Identifier: Apache-2.0
// weight_gemm and grouped_weight_gemm on int8 channels, symmetric 4-bit groups (f16 scales), zero
// points up to 16, and mxfp4: oracle, bits of gemm on the floats, strides, threads, experts.
#include "ops/weight_gemm_case.hpp"
#include "oracle/mxfp4.hpp"

using namespace weight_test;

namespace {

// Codes of some experts, drawn one by one.
struct int8_case {
  static constexpr const char* name = "int8_channels";
  std::size_t out, in;
  std::vector<std::int8_t> q;
  std::vector<float> scale;
  reals value;

  int8_case(std::size_t experts, std::size_t n, std::size_t k, support::numbers& from)
      : out(n), in(k) {
    for (std::size_t row = 0; row < experts * n; ++row) {
      scale.push_back(static_cast<float>(0.01 * (1 + from.uniform())));
      for (std::size_t i = 0; i < k; ++i) {
        const int code = static_cast<int>(from.below(256)) - 128;
        q.push_back(static_cast<std::int8_t>(code));
        value.push_back(static_cast<double>(static_cast<float>(code) * scale.back()));
      }
    }
  }
  ds::int8_channels_operand<host> operand(std::size_t experts = 1) const {
    const auto e = static_cast<index_t>(experts), n = static_cast<index_t>(out),
               k = static_cast<index_t>(in);
    return {{q.data(), {e, n, k}}, {scale.data(), {e, n}}};
  }
};

// Codes and scales drawn one by one; the layout's filling is poison.
enum class zeros { none, to_sixteen };
template <zeros Z>
struct f16_case {
  static constexpr const char* name = Z == zeros::none ? "int4 symmetric f16" : "int4 zeros to 16";
  std::size_t out, in;
  ds::int4_layout at;
  std::vector<std::int32_t> q;
  std::vector<ds::f16> scale;
  std::vector<std::uint8_t> zero;
  reals value;

  f16_case(std::size_t experts, std::size_t n, std::size_t k, support::numbers& from)
      : out(n), in(k), at{static_cast<index_t>(n), static_cast<index_t>(k), 64} {
    const auto words = static_cast<std::size_t>(at.words()),
               groups = static_cast<std::size_t>(at.groups());
    q.resize(experts * words);
    scale.resize(experts * groups, ds::f16(std::nanf("")));
    zero.resize(experts * groups, 99);
    for (std::size_t i = 0; i < experts * n * k; ++i) {
      const std::size_t e = i / (n * k);
      const auto c = static_cast<index_t>(i / k % n), s = static_cast<index_t>(i % k);
      const auto group = e * groups + static_cast<std::size_t>(at.group_at(c, s));
      if (s % 64 == 0) {
        scale[group] = ds::f16(0.01 * (1 + from.uniform()));
        zero[group] = Z == zeros::none ? 8 : static_cast<std::uint8_t>(from.below(17));
      }
      const int code = static_cast<int>(from.below(16));
      q[e * words + static_cast<std::size_t>(at.word_at(c, s))] |=
          ds::int4_layout::in_word(code, s);
      value.push_back((code - zero[group]) * static_cast<double>(static_cast<float>(scale[group])));
    }
  }
  ds::int4_operand<host, ds::f16> operand(std::size_t experts = 1) const {
    const auto e = static_cast<index_t>(experts);
    return {{q.data(), {e, at.words()}},
            {scale.data(), {e, at.groups()}},
            {Z == zeros::none ? nullptr : zero.data(), {e, at.groups()}},
            at};
  }
};

struct mxfp4_case {
  static constexpr const char* name = "mxfp4";
  std::size_t out, in;
  ds::int4_layout at;
  std::vector<std::int32_t> q;
  std::vector<ds::f8_e8m0> scale;
  reals value;

  mxfp4_case(std::size_t experts, std::size_t n, std::size_t k, support::numbers& from)
      : out(n), in(k), at{static_cast<index_t>(n), static_cast<index_t>(k), 32} {
    const auto words = static_cast<std::size_t>(at.words()),
               groups = static_cast<std::size_t>(at.groups());
    q.resize(experts * words);
    scale.resize(experts * groups, ds::f8_e8m0::from_bits(0xff));
    for (std::size_t e = 0; e < experts; ++e) {
      const auto w = support::as<float>(support::draw(support::values::normal, n * k, from));
      const auto m = oracle::quantize_mxfp4(w, k);
      for (std::size_t i = 0; i < n * k; ++i) {
        const auto c = static_cast<index_t>(i / k), s = static_cast<index_t>(i % k);
        q[e * words + static_cast<std::size_t>(at.word_at(c, s))] |=
            ds::int4_layout::in_word(m.codes[i], s);
        const int power = m.powers[i / k * m.across() + i % k / 32];
        scale[e * groups + static_cast<std::size_t>(at.group_at(c, s))] =
            ds::f8_e8m0::from_bits(static_cast<std::uint8_t>(power + 127));
        value.push_back(m.value(i / k, i % k));
      }
    }
  }
  ds::mxfp4_operand<host> operand(std::size_t experts = 1) const {
    const auto e = static_cast<index_t>(experts);
    return {{q.data(), {e, at.words()}}, {scale.data(), {e, at.groups()}}, at};
  }
};

}  // namespace

TEST_CASE_TEMPLATE("weight_gemm of more formats: sizes, strides, bias, threads, experts", W,
                   int8_case, f16_case<zeros::none>, f16_case<zeros::to_sixteen>, mxfp4_case) {
  for (const setting& c : settings()) check<W>(c);
  for (std::size_t m : {1u, 2u, 4u, 8u, 40u}) check<W>({{m, 300, 700}});
  check_sixteen_bits<W>();
  check_experts<W>();
}

TEST_CASE("weight_gemm: every code and scale of mxfp4, as the plain loops") {
  std::vector<std::int32_t> q(ds::int4_layout{16, 1, 32}.words());
  std::vector<ds::f8_e8m0> scale(64);
  for (int code = 0; code < 16; ++code) q[static_cast<std::size_t>(code)] = code;
  for (int power = 0; power < 256; ++power) {
    for (auto& s : scale) s = ds::f8_e8m0::from_bits(static_cast<std::uint8_t>(power));
    const ds::mxfp4_operand<host> w{{q.data(), {1, 64}}, {scale.data(), {1, 64}}, {16, 1, 32}};
    const float one = 1;
    const ds::view<const float, host, dyn, dyn> x(&one, {1, 1});
    ds::tensor<float, host, 1, 16> a, b;
    ds::ops::weight_gemm(ds::reference{}, x, w, a);
    ds::ops::weight_gemm(cpus()[0], x, w, b);
    int wrong = 0;
    for (int code = 0; code < 16; ++code) {
      const float u = a.data()[code], v = b.data()[code];
      const double want =
          power == 255 ? std::nan("") : std::ldexp(oracle::e2m1_number(code), power - 127);
      wrong += !(u == static_cast<float>(want) || (std::isnan(u) && std::isnan(want)));
      wrong += !(u == v || (std::isnan(u) && std::isnan(v)));
    }
    CHECK_MESSAGE(wrong == 0, power);
  }
}

TEST_CASE("weight_gemm of more formats: errors") {
  support::numbers from("errors");
  const mxfp4_case four(1, 4, 6, from);
  const int8_case eight(1, 4, 6, from);
  ds::tensor<float, host, 3, 6> x;
  ds::tensor<float, host, 3, 4> y;
  on_both([&](const auto& b) {
    auto odd = four.operand();
    odd.layout.group = 64;
    CHECK_ERROR(ds::error_code::config, "64", "mxfp4", ds::ops::weight_gemm(b, x, odd, y));
    auto cut = eight.operand();
    cut.scale = {eight.scale.data(), {1, 3}};
    CHECK_ERROR(ds::error_code::shape_mismatch, "[1, 3]", "expected 4",
                ds::ops::weight_gemm(b, x, cut, y));
  });
}
