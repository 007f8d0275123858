// SPDX-License-Identifier: Apache-2.0
// products: several products by weights of one kind of format, three of them of one x (one with a
// bias, one by other sizes) and one of experts, have the bits of one op after another, on any
// number of threads; strides that kernels do not take; what is refused, with nothing written.
#include "deepseek/ops/products.hpp"

#include "deepseek/backend/cpu/int4_int8_gemm.hpp"
#include "deepseek/backend/cpu/quant_gemm.hpp"
#include "deepseek/backend/cpu/weight_gemm.hpp"
#include "deepseek/backend/reference/int4_int8_gemm.hpp"
#include "deepseek/backend/reference/quant_gemm.hpp"
#include "deepseek/backend/reference/weight_gemm.hpp"
#include "deepseek/core/tensor.hpp"
#include "deepseek/quant/int4_groups.hpp"
#include "deepseek/quant/int8_weight.hpp"
#include "ops/table.hpp"

using namespace table;

namespace {

using ds::dyn;
using ds::host;
using ds::index_t;

constexpr index_t depth = 72, wide = 150, narrow = 33, experts = 3, rows_of_experts = 11;

template <class F, class T, class S, index_t O>
using weight_of = typename F::template weight<T, S, O, depth>;

template <class F, class T, class S, index_t O>
weight_of<F, T, S, O> made(const char* stream) {
  support::numbers from{std::string(stream)};
  ds::tensor<T, S, O, depth> plain;
  const auto numbers = support::as<T>(
      support::draw(support::values::normal, static_cast<std::size_t>(plain.size()), from));
  std::copy(numbers.begin(), numbers.end(), plain.data());
  ds::observed_range seen;
  seen.extreme = {-3, 2};
  seen.calls = 1;
  weight_of<F, T, S, O> out;
  ds::make_weight(F{}, plain, seen, out);
  return out;
}

template <class F, class T>
struct weights {
  weight_of<F, T, host, wide> a = made<F, T, host, wide>("a"), b = made<F, T, host, wide>("b");
  weight_of<F, T, host, narrow> c = made<F, T, host, narrow>("c");
  weight_of<F, T, ds::stacked<experts, host>, wide> e =
      made<F, T, ds::stacked<experts, host>, wide>("e");
};

template <class T>
struct results {
  sheet<T> a, b, c, e;
  explicit results(std::size_t m, layout how)
      : a(m, wide, how), b(m, wide, how), c(m, narrow, how), e(rows_of_experts, wide, how) {}
  std::vector<T> values() {
    return joined(joined(a.values(), b.values()), joined(c.values(), e.values()));
  }
  bool clean() { return a.clean() && b.clean() && c.clean() && e.clean(); }
};

// The last row belongs to no expert.
ds::view<const std::int32_t, host, dyn> offsets() {
  static const std::int32_t at[experts + 1] = {0, 4, 4, rows_of_experts - 1};
  return {at, {experts + 1}};
}

template <class T>
struct inputs {
  sheet<T> x, sorted;
  std::vector<T> bias;
  explicit inputs(std::size_t m, layout how)
      : x(m, depth, how, numbers(m * depth, "x")),
        sorted(rows_of_experts, depth, how, numbers(rows_of_experts * depth, "sorted")),
        bias(support::as<T>(numbers(wide, "bias"))) {}
  static reals numbers(std::size_t n, const char* stream) {
    support::numbers from{std::string(stream)};
    return support::draw(support::values::normal, n, from);
  }
  ds::view<const T, host, dyn> bias_view() const { return {bias.data(), {wide}}; }
};

// f(products...)
template <class F, class T, class Do>
void with_products(const weights<F, T>& w, inputs<T>& in, results<T>& y, const Do& f) {
  f(ds::product_of(in.x.matrix(), w.a.operand(), y.a.matrix()),
    ds::product_of(in.x.matrix(), w.b.operand(), y.b.matrix(), in.bias_view()),
    ds::product_of(in.sorted.matrix(), w.e.operand(), y.e.matrix(), ds::none{}, offsets()),
    ds::product_of(in.x.matrix(), w.c.operand(), y.c.matrix()));
}

template <class F, class T>
void check_format(const char* name) {
  const weights<F, T> w;
  for (const layout how : {layout::contiguous, layout::padded, layout::transposed}) {
    for (const std::size_t m : {std::size_t{0}, std::size_t{1}, std::size_t{5}, std::size_t{40}}) {
      inputs<T> in(m, how);
      results<T> alone(m, how);
      const ds::cpu one{{.threads = 1}};
      with_products(w, in, alone, [&](const auto&... p) { (ds::multiply_one(one, p), ...); });
      for (const int threads : {1, 2, 3}) {
        const ds::cpu b{{.threads = threads}};
        results<T> y(m, how);
        with_products(w, in, y, [&](const auto&... p) { ds::ops::products(b, p...); });
        const std::string at = support::text("format", name, "m", m, "threads", threads, "layout",
                                             static_cast<int>(how));
        support::expect_true("products", at,
                             support::same_bits(y.values(), alone.values()) && y.clean(),
                             "other bits than one after another");
        support::expect_true("products", at, in.x.unchanged() && in.sorted.unchanged(),
                             "an input was written");
        support::expect_true("products", at, how == layout::transposed || b.loops().text().empty(),
                             "plain loops: " + b.loops().text());
      }
    }
  }
}

// Two products whose weights are of one format.
template <class F>
struct pair_of_products {
  weights<F, float> w;
  inputs<float> in{4, layout::contiguous};
  sheet<float> first{4, wide, layout::contiguous}, second{4, narrow, layout::contiguous};

  template <class X, class Y>
  void run(const X& x, const Y& y) {
    const ds::cpu b{{.threads = 2}};
    ds::ops::products(b, ds::product_of(in.x.matrix(), w.a.operand(), first.matrix()),
                      ds::product_of(x, w.c.operand(), y));
  }
  bool untouched() {
    const std::vector<float> poison(4 * wide, support::poison<float>());
    return support::same_bits(first.values(), poison);
  }
};

template <class F>
void check_refusals() {
  pair_of_products<F> p;
  sheet<float> tall(5, narrow, layout::contiguous);
  CHECK_ERROR(ds::error_code::shape_mismatch, "y", "5", "4", p.run(p.in.x.matrix(), tall.matrix()));
  CHECK_ERROR(ds::error_code::aliasing, "products: the y of another",
              p.run(p.in.x.matrix(),
                    ds::view<float, host, dyn, dyn>(p.first.matrix().data(), {4, narrow})));
  CHECK(p.untouched());
  // The x of the first under the y of the second.
  CHECK_ERROR(ds::error_code::aliasing, "products: the x of another",
              p.run(ds::rows(p.in.sorted.matrix(), 0, 4),
                    ds::view<float, host, dyn, dyn>(p.in.x.matrix().data(), {4, narrow})));
  CHECK(p.untouched());
  CHECK(p.in.x.unchanged());
}

}  // namespace

TEST_CASE("products: the bits of one after another") {
  check_format<ds::w8a8, float>("w8a8");
  check_format<ds::w8a8_dynamic, float>("w8a8_dynamic");
  check_format<ds::w8a8_per_token, float>("w8a8_per_token");
  check_format<ds::int4_activations<>, float>("int4_activations");
  check_format<ds::int4_symmetric_activations<64>, float>("int4_symmetric_activations<64>");
  check_format<ds::int4_groups<>, float>("int4_groups");
  check_format<ds::int8_channels, float>("int8_channels");
  check_format<ds::fp8_blocks, float>("fp8_blocks");
  check_format<ds::mxfp4, float>("mxfp4");
  check_format<ds::packed<ds::cpu>, float>("packed float");
  check_format<ds::packed<ds::cpu>, double>("packed double");
  check_format<ds::packed<ds::cpu>, ds::bf16>("packed bf16");
  check_format<ds::packed<ds::cpu>, ds::f16>("packed f16");
  facets("products", {"forward", "strides", "zero"});
  support::not_applicable("products", "gradient");
}

TEST_CASE("products: what is refused is refused before anything is written") {
  check_refusals<ds::w8a8_per_token>();
  check_refusals<ds::int4_activations<>>();
  check_refusals<ds::int4_groups<>>();
  check_refusals<ds::packed<ds::cpu>>();
  facets("products", {"errors"});
}

TEST_CASE("products: a number that cannot be a byte leaves all results") {
  pair_of_products<ds::w8a8_per_token> p;
  auto other = ds::rows(p.in.sorted.matrix(), 0, 4);
  other(2, 7) = std::numeric_limits<float>::quiet_NaN();
  CHECK_ERROR(ds::error_code::nonfinite, "x[2, 7]", p.run(other, p.second.matrix()));
  CHECK(p.untouched());
}

TEST_CASE("products: rows are not shared where the observed ranges differ") {
  pair_of_products<ds::w8a8> p, alone;
  p.w.c.x_scale.data()[0] *= 3, alone.w.c.x_scale.data()[0] *= 3;
  p.run(p.in.x.matrix(), p.second.matrix());
  const ds::cpu b{{.threads = 1}};
  ds::ops::quant_gemm(b, alone.in.x.matrix(), alone.w.a.operand(), alone.first.matrix());
  ds::ops::quant_gemm(b, alone.in.x.matrix(), alone.w.c.operand(), alone.second.matrix());
  CHECK(support::same_bits(p.first.values(), alone.first.values()));
  CHECK(support::same_bits(p.second.values(), alone.second.values()));
}
