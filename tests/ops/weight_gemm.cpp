// SPDX-License-Identifier: Apache-2.0
// weight_gemm and grouped_weight_gemm, fp8 blocks and 4-bit groups: against the oracle in double on
// the dequantized weights; on the cpu bit for bit gemm with them as floats; sizes around tiles,
// words, groups and blocks; strides, bias, threads, rows alone, experts, NaN codes, errors.
#include "deepseek/ops/weight_gemm.hpp"

#include "deepseek/backend/cpu/weight_gemm.hpp"
#include "deepseek/backend/reference/weight_gemm.hpp"
#include "ops/table.hpp"
#include "oracle/float8.hpp"
#include "oracle/gemm.hpp"
#include "oracle/int4.hpp"

using namespace table;

namespace {

using ds::dyn;
using ds::host;
using ds::index_t;

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

struct sizes {
  std::size_t m, n, k;
};
enum class biased { no, yes };
struct setting {
  sizes s;
  layout x = layout::contiguous, y = layout::contiguous;
  biased bias = biased::no;
  std::string text(const char* what) const {
    return support::text("format", what, "m", s.m, "n", s.n, "k", s.k, "x", static_cast<int>(x),
                         "y", static_cast<int>(y), "bias", bias == biased::yes);
  }
};

std::vector<setting> settings() {
  const std::size_t m[] = {0, 1, 2, 3, 4, 7, 8, 9, 13, 33},
                    n[] = {0, 1, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 200},
                    k[] = {1, 3, 4, 7, 8, 9, 31, 32, 33, 63, 127, 128, 129, 255, 257, 300};
  std::vector<setting> out;
  for (const auto& i : support::pairwise({10, 13, 16, 4, 3, 2})) {
    out.push_back({{m[i[0]], n[i[1]], k[i[2]]},
                   static_cast<layout>(i[3]),
                   static_cast<layout>(i[4]),
                   static_cast<biased>(i[5])});
  }
  return out;
}

template <class T>
struct io {
  reals x, bias;
  sheet<T> in, add, y;
  io(const setting& c, const std::string& name)
      : x(drawn_as(c.s.m * c.s.k, name + "x")),
        bias(drawn_as(c.s.n, name + "bias")),
        in(c.s.m, c.s.k, c.x, x),
        add(1, c.s.n, layout::offset, bias),
        y(c.s.m, c.s.n, c.y) {}
  static reals drawn_as(std::size_t n, const std::string& name) {
    support::numbers from(name);
    return support::rounded_to<T>(support::draw(support::values::normal, n, from));
  }
};

template <class T, class B, class W>
std::vector<T> run(const B& b, const setting& c, const W& w, const std::string& name) {
  io<T> data(c, name);
  if (c.bias == biased::yes) {
    ds::ops::weight_gemm(b, data.in.matrix(), w.operand(), data.y.matrix(), data.add.vector());
  } else {
    ds::ops::weight_gemm(b, data.in.matrix(), w.operand(), data.y.matrix());
  }
  CHECK_MESSAGE((data.in.unchanged() && data.add.unchanged() && data.y.clean()),
                "an operand or memory around the result was written: ", name);
  reals want = oracle::gemm(
      data.x, w.value, {c.s.m, c.s.n, c.s.k, oracle::stored::plain, oracle::stored::transposed});
  reals magnitude = oracle::gemm_magnitude(
      data.x, w.value, {c.s.m, c.s.n, c.s.k, oracle::stored::plain, oracle::stored::transposed});
  for (std::size_t i = 0; c.bias == biased::yes && i < want.size(); ++i) {
    want[i] += data.bias[i % c.s.n];
    magnitude[i] += std::fabs(data.bias[i % c.s.n]);
  }
  auto allowed = support::gemm_limits(type_of<T>, c.s.k + 1);
  if (type_of<T> == ds::dtype::f64) {
    allowed.relative += static_cast<double>(c.s.k) * 0x1p-53;
    allowed.c += static_cast<double>(c.s.k);
  }
  judge("weight_gemm", std::string(b.name()) + " " + name, allowed, want, data.y.values(),
        std::max<std::size_t>(c.s.n, 1), magnitude);
  return data.y.values();
}

// gemm with the weights as floats.
template <class W>
std::vector<float> run_gemm(const ds::cpu& b, const setting& c, const W& w,
                            const std::string& name) {
  io<float> data(c, name);
  const auto floats = support::as<float>(w.value);
  const ds::view<const float, host, dyn, dyn> weights(
      floats.data(), {static_cast<index_t>(c.s.n), static_cast<index_t>(c.s.k)});
  if (c.bias == biased::yes) {
    ds::ops::gemm(b, data.in.matrix(), ds::transposed(weights), data.y.matrix(),
                  ds::gemm_epilogue{data.add.vector()});
  } else {
    ds::ops::gemm(b, data.in.matrix(), ds::transposed(weights), data.y.matrix());
  }
  return data.y.values();
}

const std::vector<ds::cpu>& cpus() {
  static const std::vector<ds::cpu> all = thread_contexts();
  return all;
}

template <class W>
void check(const setting& c) {
  const std::string name = c.text(W::name);
  support::numbers from(name);
  const W w(1, c.s.n, c.s.k, from);
  const ds::reference plain;
  run<float>(plain, c, w, name);
  run<double>(plain, c, w, name);
  run<ds::bf16>(cpus()[0], c, w, name);
  for (const ds::cpu& b : cpus()) {
    support::expect_true("weight_gemm", name,
                         support::same_bits(run<float>(b, c, w, name), run_gemm(b, c, w, name)),
                         "not the bits of gemm with the weights as floats");
  }
}

}  // namespace

TEST_CASE_TEMPLATE("weight_gemm: sizes, strides, bias, threads", W, fp8_case, int4_case<32>,
                   int4_case<128>) {
  const auto all = settings();
  CHECK(all.size() >= 150);
  for (const setting& c : all) check<W>(c);
  for (std::size_t m : {1u, 2u, 4u, 8u, 40u}) check<W>({{m, 600, 700}});
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
  constexpr index_t experts = 4, rows = 37, n = 70, k = 300;
  const std::int32_t plan[] = {0, 1, 1, 12, rows};
  support::numbers from("experts");
  const W w(experts, n, k, from);
  ds::tensor<float, host, rows, k> x;
  for (index_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(from.normal());
  const ds::view<const std::int32_t, host, dyn> offsets(plan, {experts + 1});
  ds::tensor<float, host, rows, n> plain_y;
  ds::ops::grouped_weight_gemm(ds::reference{}, x, w.operand(experts), offsets, plain_y);
  for (const ds::cpu& b : cpus()) {
    ds::tensor<float, host, rows, n> y;
    ds::ops::grouped_weight_gemm(b, x, w.operand(experts), offsets, y);
    for (index_t e = 0; e < experts; ++e) {
      auto one = w.operand(experts);
      one.q = ds::rows(one.q, e, 1);
      one.scale = ds::rows(one.scale, e, 1);
      if constexpr (requires { one.zero; }) one.zero = ds::rows(one.zero, e, 1);
      for (index_t r = plan[e]; r < plan[e + 1]; ++r) {
        ds::tensor<float, host, 1, n> alone;
        ds::ops::weight_gemm(b, ds::rows(x.view(), r, 1), one, alone);
        support::expect_true("grouped_weight_gemm", support::text(W::name, r),
                             std::memcmp(alone.data(), y.data() + r * n, n * sizeof(float)) == 0,
                             "a row among experts differs from the row alone");
        for (index_t j = 0; j < n; ++j) {
          CHECK(std::fabs(y.view()(r, j) - plain_y.view()(r, j)) <= 1e-4F);
        }
      }
    }
  }
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

TEST_CASE("weight_gemm: every code, tiny and huge scales, as the reference") {
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
  });
}
