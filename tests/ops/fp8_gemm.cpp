// SPDX-License-Identifier: Apache-2.0
// quantize_fp8 code for code, fp8_gemm and grouped_fp8_gemm against the oracle on the dequantized
// factors; on the cpu the bits of the reference; sizes around blocks and tiles, strides, bias,
// threads, rows alone, what is refused.
#include "deepseek/ops/fp8_gemm.hpp"

#include "deepseek/backend/cpu/fp8_gemm.hpp"
#include "deepseek/backend/reference/fp8_gemm.hpp"
#include "ops/table.hpp"
#include "oracle/float8.hpp"
#include "oracle/gemm.hpp"

using namespace table;

namespace {

using ds::dyn;
using ds::host;
using ds::index_t;

index_t whole(std::size_t n) {
  return static_cast<index_t>(n);
}

struct codes_case {
  std::size_t m, k;
  layout how;
  support::values kind;
  ds::fp8_scales scales;
};

template <class T, class B>
void check_codes(const B& b, const codes_case& c) {
  const std::string name =
      support::text("m", c.m, "k", c.k, "layout", static_cast<int>(c.how), "values",
                    support::to_string(c.kind), "scales", static_cast<int>(c.scales));
  support::numbers from(name);
  const reals x = support::rounded_to<T>(support::draw(c.kind, c.m * c.k, from));
  sheet<T> in(c.m, c.k, c.how, x);
  const std::size_t blocks = (c.k + 127) / 128;
  sheet<ds::f8_e4m3> codes(c.m, c.k, c.how);
  sheet<float> scale(c.m, blocks, layout::padded);
  ds::ops::quantize_fp8(b, in.matrix(), ds::fp8_rows{codes.matrix(), scale.matrix()}, c.scales);
  const auto want =
      oracle::quantize_fp8(support::as<float>(x), c.k, 1, c.scales == ds::fp8_scales::power_of_two);
  bool same = in.unchanged() && codes.clean() && scale.clean();
  const auto got = codes.values();
  for (std::size_t i = 0; i < got.size(); ++i) same = same && got[i].bits == want.codes[i];
  same = same && support::same_bits(scale.values(), want.scales);
  support::expect_true("quantize_fp8", std::string(b.name()) + " " + name, same,
                       "codes or scales are not the oracle's");
}

struct product_case {
  std::size_t m, n, k;
  layout x = layout::contiguous, y = layout::contiguous;
  bool biased = false;
  std::string text() const {
    return support::text("m", m, "n", n, "k", k, "x", static_cast<int>(x), "y", static_cast<int>(y),
                         "bias", biased);
  }
};

struct weights {
  oracle::fp8_matrix m;
  std::vector<ds::f8_e4m3> q;
  ds::fp8_operand<host> operand() const {
    const index_t n = whole(m.rows), k = whole(m.columns);
    return {{q.data(), {1, n, k}},
            {m.scales.data(), {1, ds::fp8_blocks_in(n), ds::fp8_blocks_in(k)}}};
  }
};
weights draw_weights(const product_case& c, support::numbers& from) {
  const auto w = support::as<float>(support::draw(support::values::normal, c.n * c.k, from));
  weights out{oracle::quantize_fp8(w, c.k, 128), {}};
  for (std::uint8_t code : out.m.codes) out.q.push_back(ds::f8_e4m3::from_bits(code));
  return out;
}

reals numbers_of(const oracle::fp8_matrix& m) {
  reals out;
  for (std::size_t i = 0; i < m.codes.size(); ++i) {
    const std::size_t row = i / m.columns, column = i % m.columns;
    out.push_back(oracle::e4m3_number(m.codes[i]) * m.scale(row, column));
  }
  return out;
}

template <class T, class B>
std::vector<T> run(const B& b, const product_case& c) {
  support::numbers from(c.text());
  const weights w = draw_weights(c, from);
  const reals x = support::rounded_to<T>(support::draw(support::values::normal, c.m * c.k, from));
  const reals bias = support::rounded_to<T>(support::draw(support::values::normal, c.n, from));
  sheet<T> in(c.m, c.k, c.x, x), add(1, c.n, layout::offset, bias), y(c.m, c.n, c.y);
  if (c.biased) {
    ds::ops::fp8_gemm(b, in.matrix(), w.operand(), y.matrix(), add.vector());
  } else {
    ds::ops::fp8_gemm(b, in.matrix(), w.operand(), y.matrix());
  }
  CHECK((in.unchanged() && add.unchanged() && y.clean()));
  const auto codes = oracle::quantize_fp8(support::as<float>(x), c.k, 1);
  const oracle::gemm_shape shape{c.m, c.n, c.k, oracle::stored::plain, oracle::stored::transposed};
  reals want = oracle::gemm(numbers_of(codes), numbers_of(w.m), shape);
  reals size = oracle::gemm_magnitude(numbers_of(codes), numbers_of(w.m), shape);
  for (std::size_t i = 0; c.biased && i < want.size(); ++i) {
    want[i] += bias[i % c.n];
    size[i] += std::fabs(bias[i % c.n]);
  }
  auto allowed = support::gemm_limits(type_of<T>, c.k + 2);
  if (type_of<T> == ds::dtype::f64) {
    allowed.relative += static_cast<double>(c.k) * 0x1p-53;
    allowed.c += static_cast<double>(c.k);
  }
  judge("fp8_gemm", std::string(b.name()) + " " + c.text(), allowed, want, y.values(),
        std::max<std::size_t>(c.n, 1), size);
  return y.values();
}

}  // namespace

TEST_CASE("quantize_fp8: codes and scales are the oracle's") {
  const ds::cpu cpu{{.threads = 2}};
  const std::size_t m[] = {1, 3, 40}, k[] = {1, 127, 128, 129, 300};
  for (const auto& i : support::pairwise({3, 5, 4, 10, 2})) {
    const codes_case c{m[i[0]], k[i[1]], static_cast<layout>(i[2]), support::every_class[i[3]],
                       static_cast<ds::fp8_scales>(i[4])};
    check_codes<float>(ds::reference{}, c);
    check_codes<ds::bf16>(ds::reference{}, c);
    check_codes<float>(cpu, c);
  }
  facets("quantize_fp8", {"forward", "strides", "zero"});
  support::not_applicable("quantize_fp8", "gradient");
}

TEST_CASE("fp8_gemm: sizes, strides, bias, types, threads") {
  const auto cpus = thread_contexts();
  const std::size_t m[] = {0, 1, 2, 5, 12, 13, 30}, n[] = {0, 1, 31, 32, 33, 127, 129, 150},
                    k[] = {1, 4, 127, 128, 129, 256, 300};
  for (const auto& i : support::pairwise({7, 8, 7, 4, 4, 2})) {
    const product_case c{
        m[i[0]], n[i[1]], k[i[2]], static_cast<layout>(i[3]), static_cast<layout>(i[4]), i[5] == 1};
    const auto plain = run<float>(ds::reference{}, c);
    run<double>(ds::reference{}, c);
    run<ds::bf16>(cpus[0], c);
    for (const ds::cpu& b : cpus) {
      const auto got = run<float>(b, c);
      if (ds::simd::has_fma) {
        support::expect_true("fp8_gemm", c.text(), support::same_bits(got, plain),
                             "not the bits of the reference");
      }
    }
  }
  facets("fp8_gemm", {"forward", "strides", "zero"});
  support::not_applicable("fp8_gemm", "gradient");
}

TEST_CASE("fp8_gemm: rows of a batch and of experts are rows alone") {
  constexpr index_t experts = 3, rows = 20, n = 140, k = 260;
  support::numbers from("experts");
  std::vector<ds::f8_e4m3> q;
  std::vector<float> scale;
  for (index_t e = 0; e < experts; ++e) {
    const weights w = draw_weights({rows, n, k}, from);
    q.insert(q.end(), w.q.begin(), w.q.end());
    scale.insert(scale.end(), w.m.scales.begin(), w.m.scales.end());
  }
  const ds::fp8_operand<host> w{{q.data(), {experts, n, k}}, {scale.data(), {experts, 2, 3}}};
  ds::tensor<float, host, rows, k> x;
  for (index_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(from.normal());
  const std::int32_t plan[] = {0, 7, 7, rows};
  const ds::view<const std::int32_t, host, dyn> offsets(plan, {experts + 1});
  on_both([&](const auto& b) {
    ds::tensor<float, host, rows, n> y;
    ds::ops::grouped_fp8_gemm(b, x, w, offsets, y);
    for (index_t r = 0; r < rows; ++r) {
      const index_t e = r < 7 ? 0 : 2;
      ds::tensor<float, host, 1, n> alone;
      ds::ops::fp8_gemm(b, ds::rows(x.view(), r, 1),
                        ds::fp8_operand<host>{ds::rows(w.q, e, 1), ds::rows(w.scale, e, 1)}, alone);
      support::expect_true("grouped_fp8_gemm", std::string(b.name()) + support::text(" row", r),
                           std::memcmp(alone.data(), y.data() + r * n, n * sizeof(float)) == 0,
                           "a row among experts differs from the row alone");
    }
  });
  facets("grouped_fp8_gemm", {"forward", "strides", "zero"});
  support::not_applicable("grouped_fp8_gemm", "gradient");
}

TEST_CASE("fp8_gemm: NaN and infinity among the inputs are refused, y is untouched") {
  support::numbers from("bad");
  const weights w = draw_weights({2, 4, 130}, from);
  on_both([&](const auto& b) {
    for (float bad : {std::nanf(""), INFINITY}) {
      ds::tensor<float, host, 2, 130> x;
      ds::tensor<float, host, 2, 4> y;
      y.view()(0, 0) = 7;
      x.view()(1, 129) = bad;
      CHECK_ERROR(ds::error_code::nonfinite, "x[1, 129]", ds::ops::fp8_gemm(b, x, w.operand(), y));
      CHECK(y.view()(0, 0) == 7);
    }
    ds::tensor<float, host, 2, 129> narrow;
    ds::tensor<float, host, 2, 4> y;
    CHECK_ERROR(ds::error_code::shape_mismatch, "130",
                ds::ops::fp8_gemm(b, narrow, w.operand(), y));
  });
}

TEST_CASE("fp8_gemm, quantize_fp8: errors") {
  support::numbers from("errors");
  const weights one = draw_weights({3, 4, 130}, from);
  std::vector<ds::f8_e4m3> q(one.q);
  q.insert(q.end(), one.q.begin(), one.q.end());
  std::vector<float> scale(one.m.scales);
  scale.insert(scale.end(), one.m.scales.begin(), one.m.scales.end());
  const ds::fp8_operand<host> w{{q.data(), {1, 4, 130}}, {scale.data(), {1, 1, 2}}},
      two{{q.data(), {2, 4, 130}}, {scale.data(), {2, 1, 2}}};
  ds::tensor<float, host, 3, 130> x;
  ds::tensor<float, host, 3, 4> y;
  ds::tensor<float, host, 3, 5> wide;
  ds::tensor<ds::f8_e4m3, host, 3, 130> codes;
  ds::tensor<float, host, 3, 2> scales;
  ds::tensor<float, host, 3, 1> few;
  const std::int32_t plan[] = {0, 1, 3, 3};
  const ds::view<const std::int32_t, host, dyn> offsets(plan, {3}), longer(plan, {4});
  on_both([&](const auto& b) {
    const auto shape = ds::error_code::shape_mismatch;
    CHECK_ERROR(shape, "weight_gemm: y", ds::ops::fp8_gemm(b, x, w, wide));
    CHECK_ERROR(shape, "weight_gemm: x", ds::ops::fp8_gemm(b, wide, w, y));
    CHECK_ERROR(shape, "2 experts", "grouped_fp8_gemm", ds::ops::fp8_gemm(b, x, two, y));
    CHECK_ERROR(shape, "fp8_gemm: bias", "expected 4",
                ds::ops::fp8_gemm(b, x, w, y, ds::view<const float, host, dyn>(scale.data(), {3})));
    CHECK_ERROR(shape, "grouped_fp8_gemm: offsets[4]", "expected 3",
                ds::ops::grouped_fp8_gemm(b, x, two, longer, y));
    CHECK_ERROR(shape, "weight_gemm: y", ds::ops::grouped_fp8_gemm(b, x, two, offsets, wide));
    CHECK_ERROR(shape, "quantize_fp8: scales", "expected 2",
                ds::ops::quantize_fp8(b, x, ds::fp8_rows{codes, few}));
    const ds::view<float, host, dyn, dyn> missing(nullptr, {3, 130});
    CHECK_ERROR(ds::error_code::invalid_argument, "quantize_fp8: x",
                ds::ops::quantize_fp8(b, missing, ds::fp8_rows{codes, scales}));
    CHECK_ERROR(ds::error_code::invalid_argument, "weight_gemm: x",
                ds::ops::fp8_gemm(b, missing, w, y));
  });
  facets("fp8_gemm", {"errors"});
  facets("grouped_fp8_gemm", {"errors"});
  facets("quantize_fp8", {"errors"});
}
