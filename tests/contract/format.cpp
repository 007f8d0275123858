// SPDX-License-Identifier: Apache-2.0
// What every format promises, asked of each: a name; a product like that of the plain layer; rows
// that stand alone; the same bits for any threads, in a stack and outside it, also a stack of one;
// half and double models; refusal of NaN and infinity with the layer's path; fewer bytes.
#include "deepseek/deepseek.hpp"

#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <cstring>

namespace ds = deepseek;

namespace {

constexpr ds::index_t rows = 9, in = 160, out = 70;
using layer = ds::linear<in, out, ds::plain, ds::bias::present>;
struct net : ds::chain<ds::called<"up", layer>> {};
template <class T>
using matrix = ds::tensor<T, ds::host, rows, in>;

// The largest relative error of the product that a format may make on normal numbers.
struct bounds {
  double least, most;
};
template <class F>
constexpr bounds error_of = {0.05, 0.13};  // 4 bits
template <ds::Int8Format F>
constexpr bounds error_of<F> = {0.003, 0.025};
template <>
constexpr bounds error_of<ds::w8a8_percentile> = {0.003, 0.04};
template <>
constexpr bounds error_of<ds::bf16_weights> = {0.0005, 0.003};
template <>
constexpr bounds error_of<ds::int8_channels> = {0.003, 0.01};
template <class F, ds::index_t A>
constexpr bounds error_of<ds::smoothed<F, A>> = {0.003, 0.025};
template <ds::Fp8Format F>
constexpr bounds error_of<F> = {0.015, 0.05};

#define EVERY_FORMAT                                                                       \
  ds::bf16_weights, ds::int8_channels, ds::w8a8, ds::w8a8_averaged, ds::w8a8_percentile,   \
      ds::w8a8_least_error, ds::w8a8_dynamic, ds::w8a8_per_token, ds::fp8_blocks,          \
      ds::fp8_blocks_ue8m0, ds::fp8_activations, ds::int4_groups<32>, ds::int4_groups<64>, \
      ds::int4_groups<128>, ds::int4_groups<32, ds::f16>, ds::int4_symmetric<32>,          \
      ds::int4_symmetric<64>, ds::int4_symmetric<128>, ds::int4_activations<32>,           \
      ds::int4_symmetric_activations<32>, ds::mxfp4, ds::smoothed<ds::w8a8>,               \
      ds::smoothed<ds::w8a8_per_token, 75>

template <class T, class B>
struct setting {
  B b{};
  ds::model<net, T, B> m;
  matrix<T> x;

  explicit setting(float bias_step = 0.01F) : m(b, ds::scaled_init{.seed = 3}) {
    ds::initialize_tensor(ds::normal_init{.stddev = 1, .seed = 5}, "x", x);
    auto& bias = m.parameters().template get<0>().bias;
    for (ds::index_t i = 0; i < out; ++i) bias.data()[i] = T(bias_step * static_cast<float>(i));
  }
  template <class F>
  auto small() const {
    auto seen = m.calibration();
    m.observe(b, x, seen);
    return ds::quantize<F>(b, m, seen);
  }
};

template <class Y>
double relative_error(const Y& y, const Y& r) {
  double error = 0, size = 0;
  for (ds::index_t i = 0; i < r.size(); ++i) {
    const double want = static_cast<double>(r.data()[i]);
    const double d = static_cast<double>(y.data()[i]) - want;
    error += d * d, size += want * want;
  }
  return std::sqrt(error / size);
}
template <class Y, class R>
bool same_bits(const Y& a, const R& b, ds::index_t count) {
  return std::memcmp(a.data(), b.data(), static_cast<std::size_t>(count) * sizeof(a.data()[0])) ==
         0;
}

// The layer N times in a stack, in a format: the rows of the last expert come after those of the
// first; the others have none.
template <class F, ds::index_t N>
ds::tensor<float, ds::host, rows, out> product_of_stack(const setting<float, ds::cpu>& s) {
  using stack = ds::stacked<N, ds::host>;
  using coded_layer = ds::linear<in, out, F, ds::bias::present>;
  auto seen = s.m.calibration();
  s.m.observe(s.b, s.x, seen);
  ds::parameters<layer, float, stack> plain{};
  ds::parameters<coded_layer, float, stack> coded{};
  const auto& from = s.m.parameters().template get<0>();
  for (ds::index_t e = 0; e < N; ++e) {
    std::copy_n(from.weight.data(), in * out, plain.weight.data() + e * in * out);
    std::copy_n(from.bias.data(), out, plain.bias.data() + e * out);
  }
  ds::convert(plain, seen.kept().template get<0>(), coded);
  std::int32_t offsets[N + 1] = {};
  for (ds::index_t e = 1; e <= N; ++e) offsets[e] = e == N ? rows : 2;
  const ds::view<const std::int32_t, ds::host, ds::dyn> segments(offsets, {N + 1});
  ds::tensor<float, ds::host, rows, out> y;
  ds::arena<ds::host> tape;
  ds::keep<ds::nothing, coded_layer, float, ds::host> kept;
  const ds::call<ds::cpu> c{s.b, {}, s.b.workspace(), tape, 0, {}};
  ds::run_forward(c.template with<ds::segments>(segments), coded, ds::as_const(s.x.view()),
                  y.view(), kept);
  return y;
}

}  // namespace

TEST_CASE_TEMPLATE("every format keeps the contract", F, EVERY_FORMAT) {
  const setting<float, ds::cpu> s;
  CHECK(std::string(F::name).size() > 3);
  const auto small = s.small<F>();
  const auto y = small(s.b, s.x), plain = s.m(s.b, s.x);
  const double error = relative_error(y, plain);
  CHECK_MESSAGE((error >= error_of<F>.least && error <= error_of<F>.most), F::name << " " << error);
  CHECK(ds::parameter_bytes(small.parameters()) <
        0.6 * static_cast<double>(ds::parameter_bytes(s.m.parameters())));

  const ds::cpu more{{.threads = 3}};
  CHECK(same_bits(small(more, s.x), y, rows * out));
  const auto three = small(s.b, ds::rows(s.x.view(), 0, 3));
  CHECK(same_bits(three, y, 3 * out) == ds::rows_are_independent<ds::quantized<net, F>>);
}

TEST_CASE_TEMPLATE("every format: on the reference in double, float and bf16", F, EVERY_FORMAT) {
  // Weights of a bf16 model are bf16 already.
  const auto check = [](auto element, double less, double more) {
    using T = decltype(element);
    const setting<T, ds::reference> s;
    const double error = relative_error(s.template small<F>()(s.b, s.x), s.m(s.b, s.x));
    CHECK_MESSAGE((error >= error_of<F>.least * less && error <= error_of<F>.most + more),
                  F::name << " " << error);
  };
  check(double{}, 1, 0);
  check(float{}, 1, 0);
  check(ds::bf16{}, 0, 0.01);
}

TEST_CASE_TEMPLATE("every format: an expert of a stack is the layer alone, also of a stack of one",
                   F, EVERY_FORMAT) {
  const setting<float, ds::cpu> s(0);  // a stack adds biases after the product was rounded
  const auto y = s.small<F>()(s.b, s.x);
  CHECK(same_bits(product_of_stack<F, 1>(s), y, rows * out));
  CHECK(same_bits(product_of_stack<F, 3>(s), y, rows * out));
}

TEST_CASE_TEMPLATE("every format but bf16 refuses NaN and infinity and names the layer", F,
                   ds::int8_channels, ds::w8a8, ds::w8a8_per_token, ds::fp8_blocks,
                   ds::fp8_activations, ds::int4_groups<32>, ds::int4_symmetric<64>, ds::mxfp4) {
  for (float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    setting<float, ds::cpu> s;
    s.m.parameters().get<0>().weight.view()(69, 7) = bad;
    CHECK_ERROR(ds::error_code::nonfinite, "up: ", F::name, "[0, 69, 7]", s.small<F>());
  }
}

TEST_CASE_TEMPLATE("a format that needs a calibration names the layer that got none", F, ds::w8a8,
                   ds::w8a8_averaged, ds::w8a8_percentile, ds::w8a8_least_error,
                   ds::smoothed<ds::w8a8>) {
  const setting<float, ds::cpu> s;
  CHECK_ERROR(ds::error_code::invalid_argument, "up: ", F::name, "never calibrated",
              ds::quantize<F>(s.b, s.m, s.m.calibration()));
}
