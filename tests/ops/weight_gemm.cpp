// SPDX-License-Identifier: Apache-2.0
// weight_gemm and grouped_weight_gemm, fp8 blocks and 4-bit groups: against the oracle in double on
// the dequantized weights; on the cpu bit for bit gemm with them as floats; sizes around tiles,
// words, groups and blocks; strides, bias, threads, rows alone, experts, NaN codes, errors.
#include "ops/weight_gemm_case.hpp"
#include "oracle/float8.hpp"
#include "oracle/int4.hpp"

using namespace weight_test;

namespace {

// Weights of some experts made by the oracle from drawn floats, placed for the op.
struct fp8_case {
  static constexpr const char* name = "fp8";
  std::size_t out, in;
  std::vector<ds::f8_e4m3> q;
  std::vector<float> scale;
  reals value;  // [experts, out, in]

  fp8_case(std::size_t experts, std::size_t n, std::size_t k, support::numbers& from)
      : out(n), in(k) {
    for (std::size_t e = 0; e < experts; ++e) {
      const auto w = support::as<float>(support::draw(support::values::normal, n * k, from));
      const auto m = oracle::quantize_fp8(w, k, 128);
      for (std::uint8_t code : m.codes) q.push_back(ds::f8_e4m3::from_bits(code));
      scale.insert(scale.end(), m.scales.begin(), m.scales.end());
      for (std::size_t i = 0; i < n * k; ++i) value.push_back(m.value(i / k, i % k));
    }
  }
  ds::fp8_operand<host> operand(std::size_t experts = 1) const {
    const auto e = static_cast<index_t>(experts), n = static_cast<index_t>(out),
               k = static_cast<index_t>(in);
    return {{q.data(), {e, n, k}}, {scale.data(), {e, ds::fp8_blocks_in(n), ds::fp8_blocks_in(k)}}};
  }
};

template <index_t G>
struct int4_case {
  static constexpr const char* name = G == 32 ? "int4/32" : "int4/128";
  std::size_t out, in;
  ds::int4_layout at;
  std::vector<std::int32_t> q;
  std::vector<ds::bf16> scale;
  std::vector<std::uint8_t> zero;
  reals value;

  int4_case(std::size_t experts, std::size_t n, std::size_t k, support::numbers& from)
      : out(n), in(k), at{static_cast<index_t>(n), static_cast<index_t>(k), G} {
    const auto words = static_cast<std::size_t>(at.words()),
               groups = static_cast<std::size_t>(at.groups());
    q.resize(experts * words);
    scale.resize(experts * groups, ds::bf16(std::nanf("")));  // beyond the columns: poison
    zero.resize(experts * groups, 99);
    for (std::size_t e = 0; e < experts; ++e) {
      const auto w = support::as<float>(support::draw(support::values::normal, n * k, from));
      const auto m = oracle::quantize_int4(w, k, G);
      for (std::size_t i = 0; i < n * k; ++i) {
        const auto c = static_cast<index_t>(i / k), s = static_cast<index_t>(i % k);
        const auto group = e * groups + static_cast<std::size_t>(at.group_at(c, s));
        const auto from_group = i / k * m.across() + i % k / G;
        q[e * words + static_cast<std::size_t>(at.word_at(c, s))] |=
            ds::int4_layout::in_word(m.codes[i], s);
        scale[group] = ds::bf16(m.scales[from_group]);
        zero[group] = static_cast<std::uint8_t>(m.zeros[from_group]);
        value.push_back(m.value(i / k, i % k));
      }
    }
  }
  ds::int4_operand<host> operand(std::size_t experts = 1) const {
    const auto e = static_cast<index_t>(experts);
    return {{q.data(), {e, at.words()}},
            {scale.data(), {e, at.groups()}},
            {zero.data(), {e, at.groups()}},
            at};
  }
};

}  // namespace

TEST_CASE_TEMPLATE("weight_gemm: sizes, strides, bias, threads", W, fp8_case, int4_case<32>,
                   int4_case<128>) {
  const auto all = settings();
  CHECK(all.size() >= 150);
  for (const setting& c : all) check<W>(c);
  for (std::size_t m : {1u, 2u, 4u, 8u, 40u}) check<W>({{m, 600, 700}});
  check_sixteen_bits<W>();
  facets("weight_gemm", {"forward", "strides", "zero"});
  support::not_applicable("weight_gemm", "gradient");
}

TEST_CASE_TEMPLATE("weight_gemm: no inputs give the bias", W, fp8_case, int4_case<32>) {
  for (std::size_t m : {1u, 20u}) {
    const setting c{{m, 70, 0}, layout::contiguous, layout::padded, biased::yes};
    const std::string name = c.text(W::name);
    support::numbers from(name);
    W w(1, 70, 0, from);
    run<float>(ds::reference{}, c, w, name);
    run<float>(cpus()[0], c, w, name);
  }
}

TEST_CASE_TEMPLATE("weight_gemm: rows of a batch and of experts are rows alone", W, fp8_case,
                   int4_case<32>) {
  check_experts<W>();
  facets("grouped_weight_gemm", {"forward", "strides", "zero"});
  support::not_applicable("grouped_weight_gemm", "gradient");
}

TEST_CASE("weight_gemm: a NaN code reaches its column and no other") {
  constexpr std::size_t n = 130, k = 300;
  for (std::size_t m : {1u, 3u, 8u, 20u}) {
    support::numbers from("nan");
    fp8_case w(1, n, k, from);
    w.q[5 * k + 299] = ds::f8_e4m3::from_bits(0xff);
    w.q[129 * k + 3] = ds::f8_e4m3::from_bits(0x7f);
    ds::tensor<float, host, dyn, k> x({static_cast<index_t>(m), index_t{k}});
    ds::tensor<float, host, dyn, n> y({static_cast<index_t>(m), index_t{n}});
    for (const ds::cpu& b : cpus()) {
      ds::ops::weight_gemm(b, x, w.operand(), y);
      for (index_t i = 0; i < y.size(); ++i) {
        CHECK(std::isnan(y.data()[i]) == (i % index_t{n} == 5 || i % index_t{n} == 129));
      }
    }
  }
}

TEST_CASE("weight_gemm: every code, tiny and huge scales, as the plain loops") {
  std::vector<ds::f8_e4m3> q;
  for (int i = 0; i < 256; ++i) {
    if (i % 128 != 127) q.push_back(ds::f8_e4m3::from_bits(static_cast<std::uint8_t>(i)));
  }
  const index_t n = static_cast<index_t>(q.size());
  for (float scale : {1.0F, 3e-7F, 1e-40F, 1e30F, 7e35F, INFINITY}) {
    const float scales[] = {scale, scale};
    const ds::fp8_operand<host> w{{q.data(), {1, n, 1}}, {scales, {1, 2, 1}}};
    const float one = 1;
    const ds::view<const float, host, dyn, dyn> x(&one, {1, 1});
    ds::tensor<float, host, 1, 254> a, b;
    ds::ops::weight_gemm(ds::reference{}, x, w, a);
    ds::ops::weight_gemm(cpus()[0], x, w, b);
    for (index_t i = 0; i < n; ++i) {
      const float u = a.data()[i], v = b.data()[i];
      CHECK((u == v || (std::isnan(u) && std::isnan(v))));
    }
  }
}

TEST_CASE("weight_gemm: errors") {
  support::numbers from("errors");
  fp8_case w(2, 4, 6, from);
  ds::tensor<float, host, 3, 6> x;
  ds::tensor<float, host, 3, 4> y;
  ds::tensor<float, host, 3, 5> narrow;
  on_both([&](const auto& b) {
    CHECK_ERROR(ds::error_code::shape_mismatch, "weight_gemm",
                ds::ops::weight_gemm(b, narrow, w.operand(), y));
    CHECK_ERROR(ds::error_code::shape_mismatch, "2 experts", "grouped_weight_gemm",
                ds::ops::weight_gemm(b, x, w.operand(2), y));
    auto wrong = w.operand();
    wrong.scale = {w.scale.data(), {1, 2, 1}};
    CHECK_ERROR(ds::error_code::shape_mismatch, "scales", "[2, 1]",
                ds::ops::weight_gemm(b, x, wrong, y));
    int4_case<32> four(1, 4, 6, from);
    auto odd = four.operand();
    odd.layout.group = 24;
    CHECK_ERROR(ds::error_code::config, "24", ds::ops::weight_gemm(b, x, odd, y));
    const std::int32_t plan[] = {0, 1, 3, 3};
    const ds::view<const std::int32_t, host, dyn> offsets(plan, {3}), longer(plan, {4});
    ds::ops::grouped_weight_gemm(b, x, w.operand(2), offsets, y);
    CHECK_ERROR(ds::error_code::shape_mismatch, "grouped_weight_gemm: offsets[4]", "expected 3",
                ds::ops::grouped_weight_gemm(b, x, w.operand(2), longer, y));
    CHECK_ERROR(ds::error_code::shape_mismatch, "weight_gemm",
                ds::ops::grouped_weight_gemm(b, narrow, w.operand(2), offsets, y));
  });
  facets("weight_gemm", {"errors"});
  facets("grouped_weight_gemm", {"errors"});
}
