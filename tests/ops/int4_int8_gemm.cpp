// SPDX-License-Identifier: Apache-2.0
// int4_int8_gemm and grouped_int4_int8_gemm: against loops in double over the codes of the inputs
// and the numbers of the weights; on the cpu the bits of the reference; sizes around words, groups
// and tiles, strides, bias, threads, rows alone, other types, what is refused.
#include "deepseek/ops/int4_int8_gemm.hpp"

#include "deepseek/backend/cpu/int4_int8_gemm.hpp"
#include "deepseek/backend/reference/int4_int8_gemm.hpp"
#include "ops/table.hpp"

using namespace table;

namespace {

using ds::dyn;
using ds::host;
using ds::index_t;

struct product_case {
  std::size_t m, n, k;
  index_t group = 32;
  layout x = layout::contiguous, y = layout::contiguous;
  bool biased = false, symmetric = false;
  support::values kind = support::values::normal;
  std::string text() const {
    return support::text("m", m, "n", n, "k", k, "group", group, "x", static_cast<int>(x), "y",
                         static_cast<int>(y), "bias", biased, "symmetric", symmetric, "values",
                         support::to_string(kind));
  }
};

template <class Scale>
struct weights {
  ds::int4_layout at;
  index_t experts;
  std::vector<std::int32_t> q;
  std::vector<Scale> scale;
  std::vector<std::uint8_t> zero;

  weights(const product_case& c, support::numbers& from, index_t count = 1)
      : at{static_cast<index_t>(c.n), static_cast<index_t>(c.k), c.group}, experts(count) {
    const auto words = static_cast<std::size_t>(at.words()),
               groups = static_cast<std::size_t>(at.groups()),
               all = static_cast<std::size_t>(count);
    q.resize(words * all), scale.resize(groups * all), zero.resize(groups * all);
    for (std::size_t e = 0; e < all; ++e) {
      auto w = support::as<float>(support::draw(support::values::normal, c.n * c.k, from));
      const ds::view<const float, host, dyn, dyn> v(w.data(), {at.n, at.k});
      ds::make_int4_codes(ds::int4_groups<32, Scale>{}, v, at,
                          {&q[words * e], &scale[groups * e], &zero[groups * e]});
    }
    if (c.symmetric) zero.clear();
  }
  ds::int4_activations_operand<host, Scale> operand() const {
    return {{{q.data(), {experts, at.words()}},
             {scale.data(), {experts, at.groups()}},
             {zero.empty() ? nullptr : zero.data(), {experts, at.groups()}},
             at}};
  }
  // (q - z) s of an expert, and its size.
  double number(std::size_t e, std::size_t n, std::size_t k) const {
    return static_cast<double>(operand().expert(static_cast<index_t>(e))(static_cast<index_t>(n),
                                                                         static_cast<index_t>(k)));
  }
};

// The numbers that the codes of x stand for; codes in float as the op makes them.
template <class T>
reals rounded_rows(const reals& x, std::size_t k) {
  using A = ds::accumulate_t<T>;
  reals out;
  for (std::size_t first = 0; first < x.size(); first += k) {
    A largest = 0;
    for (std::size_t i = 0; i < k; ++i) largest = std::max(largest, std::fabs(A(x[first + i])));
    float scale = static_cast<float>(largest / A(127));
    if (!(scale > 0)) scale = 1;
    for (std::size_t i = 0; i < k; ++i) {
      const A code = std::clamp(std::nearbyint(A(x[first + i]) / A(scale)), A(-127), A(127));
      out.push_back(static_cast<double>(code) * static_cast<double>(scale));
    }
  }
  return out;
}

template <class T, class Scale = ds::bf16, class B>
std::vector<T> run(const B& b, const product_case& c) {
  support::numbers from(c.text());
  const weights<Scale> w(c, from);
  const reals x = support::rounded_to<T>(support::draw(c.kind, c.m * c.k, from));
  const reals bias = support::rounded_to<T>(support::draw(support::values::normal, c.n, from));
  sheet<T> in(c.m, c.k, c.x, x), add(1, c.n, layout::offset, bias), y(c.m, c.n, c.y);
  if (c.biased) {
    ds::ops::int4_int8_gemm(b, in.matrix(), w.operand(), y.matrix(), add.vector());
  } else {
    ds::ops::int4_int8_gemm(b, in.matrix(), w.operand(), y.matrix());
  }
  CHECK((in.unchanged() && add.unchanged() && y.clean()));
  const reals p = rounded_rows<T>(x, std::max<std::size_t>(c.k, 1));
  reals want, size;
  for (std::size_t i = 0; i < c.m * c.n; ++i) {
    const std::size_t m = i / c.n, n = i % c.n;
    double sum = c.biased ? bias[n] : 0, magnitude = std::fabs(sum);
    for (std::size_t k = 0; k < c.k; ++k) {
      const double product = p[m * c.k + k] * w.number(0, n, k);
      sum += product, magnitude += std::fabs(product);
    }
    want.push_back(sum), size.push_back(magnitude);
  }
  auto allowed = support::gemm_limits(type_of<T>, c.k + 2);
  if (type_of<T> == ds::dtype::f64) {
    allowed.relative += static_cast<double>(c.k) * 0x1p-53;
    allowed.c += static_cast<double>(c.k);
  }
  judge("int4_int8_gemm", std::string(b.name()) + " " + c.text(), trusting(allowed), want,
        y.values(), std::max<std::size_t>(c.n, 1), size);
  return y.values();
}

}  // namespace

TEST_CASE("int4_int8_gemm: sizes, groups, strides, bias, types, threads") {
  const auto cpus = thread_contexts();
  const std::size_t m[] = {0, 1, 2, 3, 8, 12, 13, 30}, n[] = {0, 1, 15, 16, 17, 31, 33, 65, 130},
                    k[] = {1, 7, 8, 9, 31, 32, 33, 128, 129, 300};
  const index_t group[] = {32, 64, 128};
  for (const auto& i : support::pairwise({8, 9, 10, 3, 4, 4, 2, 2, 10})) {
    const product_case c{m[i[0]],
                         n[i[1]],
                         k[i[2]],
                         group[i[3]],
                         static_cast<layout>(i[4]),
                         static_cast<layout>(i[5]),
                         i[6] == 1,
                         i[7] == 1,
                         support::every_class[i[8]]};
    const auto plain = run<float>(ds::reference{}, c);
    run<double>(ds::reference{}, c);
    run<ds::bf16>(cpus[0], c);
    std::vector<float> first;
    for (const ds::cpu& b : cpus) {
      const auto got = run<float>(b, c);
      if (first.empty()) first = got;
      support::expect_true("int4_int8_gemm", c.text(), support::same_bits(got, first),
                           "the bits depend on the number of threads");
      if (ds::simd::has_fma) {
        support::expect_true("int4_int8_gemm", c.text(), support::same_bits(got, plain),
                             "not the bits of the reference");
      }
    }
  }
  for (const product_case& c : {product_case{520, 70, 64}, {9, 300, 2049}, {40, 200, 700, 128}}) {
    CHECK(support::same_bits(run<float>(cpus[0], c), run<float>(cpus[2], c)));
    run<float, ds::f16>(cpus[1], c);
  }
  facets("int4_int8_gemm", {"forward", "strides", "zero"});
  support::not_applicable("int4_int8_gemm", "gradient");
}

TEST_CASE("grouped_int4_int8_gemm: each row as alone with the weight of its expert") {
  constexpr index_t experts = 4, in = 70, out = 50, rows = 40;
  support::numbers from("experts");
  const weights<ds::bf16> w({1, out, in}, from, experts);
  ds::tensor<float, host, rows, in> x;
  for (index_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(from.normal());
  for (index_t i = 37 * in; i < x.size(); ++i) x.data()[i] = NAN;  // of no expert
  const std::int32_t plan[] = {0, 1, 1, 20, 37};
  const ds::view<const std::int32_t, host, dyn> offsets(plan, {experts + 1});
  const auto check = [&](const auto& b) {
    ds::tensor<float, host, rows, out> y;
    ds::tensor<float, host, 1, out> one;
    std::fill_n(y.data(), y.size(), 7.0F);
    ds::ops::grouped_int4_int8_gemm(b, x, w.operand(), offsets, y);
    int differ = 0;
    for (index_t r = 0; r < 37; ++r) {
      index_t e = 0;
      while (r >= plan[e + 1]) ++e;
      auto alone = w.operand();
      alone.weights = {ds::rows(alone.weights.q, e, 1), ds::rows(alone.weights.scale, e, 1),
                       ds::rows(alone.weights.zero, e, 1), w.at};
      ds::ops::int4_int8_gemm(b, ds::rows(x.view(), r, 1), alone, one);
      differ += std::memcmp(one.data(), y.data() + r * out, sizeof(float) * out) != 0;
    }
    CHECK(differ == 0);
    CHECK((y.data()[37 * out] == 7 && y.data()[rows * out - 1] == 7));
  };
  check(ds::reference{});
  for (const ds::cpu& b : thread_contexts()) check(b);
  facets("grouped_int4_int8_gemm", {"forward", "strides", "zero"});
  support::not_applicable("grouped_int4_int8_gemm", "gradient");
}

TEST_CASE_TEMPLATE("int4_int8_gemm: what is refused", B, ds::reference, ds::cpu) {
  using code = ds::error_code;
  const B b{};
  support::numbers from("errors");
  const weights<ds::bf16> w({1, 20, 40}, from), two({1, 20, 40}, from, 2);
  ds::tensor<float, host, 3, 40> x;
  ds::tensor<float, host, 3, 20> y;
  std::fill_n(y.data(), y.size(), 7.0F);
  const ds::tensor<float, host, 3, 41> wide;
  CHECK_ERROR(code::shape_mismatch, "x[3, 41]", "expected 40",
              ds::ops::int4_int8_gemm(b, wide, w.operand(), y));
  CHECK_ERROR(code::shape_mismatch, "2 experts", ds::ops::int4_int8_gemm(b, x, two.operand(), y));
  auto odd = w.operand();
  odd.weights.layout.group = 48;
  CHECK_ERROR(code::config, "48", ds::ops::int4_int8_gemm(b, x, odd, y));
  const float nineteen[19] = {};
  CHECK_ERROR(code::shape_mismatch, "bias[19]", "expected 20",
              ds::ops::int4_int8_gemm(b, x, w.operand(), y,
                                      ds::view<const float, host, dyn>(nineteen, {19})));
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    x.data()[1 * 40 + 33] = bad;
    CHECK_ERROR(code::nonfinite, "x[1, 33]", ds::ops::int4_int8_gemm(b, x, w.operand(), y));
    const std::int32_t plan[] = {0, 1, 3};
    CHECK_ERROR(code::nonfinite, "33",
                ds::ops::grouped_int4_int8_gemm(
                    b, x, two.operand(), ds::view<const std::int32_t, host, dyn>(plan, {3}), y));
  }
  CHECK(y.data()[0] == 7);
  facets("int4_int8_gemm", {"errors"});
  facets("grouped_int4_int8_gemm", {"errors"});
}
