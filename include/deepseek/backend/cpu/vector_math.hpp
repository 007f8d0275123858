// SPDX-License-Identifier: Apache-2.0
// Elementary functions on registers; every lane depends on its own input only, with the same
// operations in every lane. A NaN lane stays NaN; infinite lanes give the limits: silu(-inf) = 0.
// exp: at most 1.5 ulp (float), 2 ulp (double), subnormal results too; exp(-inf) = 0, exp(inf) =
// inf. normal_cdf(x) = (1 + erf(x / sqrt 2)) / 2, float: relative error at most 1e-6 for x >= -9
// (3e-6 below -4 on targets without fma); double asks std::erfc lane by lane. sqrt_softplus: at
// most 2.5 ulp. sigmoid, silu, gelu (exact), tanh and derivatives follow from these. Polynomials:
// Chebyshev fits of (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2, and of erfc(z) e^(z^2) / t in t = 1 /
// (1 + 0.3 z). With AVX-512 exp of float takes a table of 16 powers and three terms of the series.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "deepseek/backend/cpu/simd.hpp"
#include "deepseek/config.hpp"

namespace deepseek::simd {

// c[0] x^(N-1) + ... + c[N-1] by Horner's rule.
template <class T, int N>
DEEPSEEK_INLINE pack<T> polynomial(pack<T> x, const T (&c)[N]) {
  pack<T> sum = pack<T>::broadcast(c[0]);
  unrolled<N - 1>([&](auto i) __attribute__((always_inline)) {
    sum = fma(sum, x, pack<T>::broadcast(c[i + 1]));
  });
  return sum;
}

// ln 2 in two parts, the first with trailing zeros: n * high is exact for every exponent n.
template <class T>
struct exp_constants;
template <>
struct exp_constants<float> {
  static constexpr float high = 0x1.62e4p-1F, low = 0x1.7f7d1cp-20F;
  static constexpr float least = -104.0F, most = 89.0F;
  static constexpr float series[] = {0.00139262134663F, 0.00836320297158F, 0.0416665544377F,
                                     0.16666576846F, 0.5F};
};
template <>
struct exp_constants<double> {
  static constexpr double high = 0x1.62e42fefa38p-1, low = 0x1.ef35793c7673p-45;
  static constexpr double least = -746.0, most = 710.0;
  static constexpr double series[] = {2.091471734171637595229e-9,
                                      2.510525953844849341902e-8,
                                      2.755727357010213967323e-7,
                                      2.755725529796964439199e-6,
                                      2.480158732560532278153e-5,
                                      1.984126987490125923407e-4,
                                      1.388888888888373182776e-3,
                                      8.333333333326112052629e-3,
                                      4.1666666666666669767e-2,
                                      1.666666666666667100799e-1,
                                      0.5};
};

// 2^(i / 16): with sixteen lanes a table is one register, and r so short that a cubic is enough.
inline constexpr float sixteenths[] = {
    1.0F,           1.04427378243F, 1.09050773267F, 1.13878863476F, 1.189207115F,   1.24185781207F,
    1.29683955465F, 1.35425554693F, 1.41421356237F, 1.47682614593F, 1.54221082541F, 1.6104903319F,
    1.68179283051F, 1.75625216037F, 1.83400808641F, 1.91520656140F};

// e^x = 2^n e^r, n = x / ln 2 rounded to sixteenths, |r| <= ln 2 / 32.
DEEPSEEK_INLINE pack<float> exp_by_sixteenths(pack<float> x) {
  using k = exp_constants<float>;
  using p = pack<float>;
  const p magic = p::broadcast(786432);  // 1.5 * 2^19: its last bit is a sixteenth
  const p shifted = fma(x, p::broadcast(1.44269504089F), magic), n = shifted - magic;
  p r = fma(n, p::broadcast(-k::high), x);
  r = fma(n, p::broadcast(-k::low), r);
  const p slope = fma(fma(r, p::broadcast(1.F / 6), p::broadcast(0.5F)), r, p::broadcast(1));
  const p power = lookup(p::load(sixteenths), bits_of(shifted));
  return scale_by_power(fma(power, slope * r, power), n);
}

// e^x = 2^n e^r with n = round(x / ln 2), for least <= x <= most.
template <class T>
DEEPSEEK_INLINE pack<T> exp_in_range(pack<T> x) {
  using k = exp_constants<T>;
  using p = pack<T>;
  if constexpr (has_lookup && std::is_same_v<T, float>) return exp_by_sixteenths(x);
  const p n = round(x * p::broadcast(T(1.4426950408889634)));
  p r = fma(n, p::broadcast(-k::high), x);
  r = fma(n, p::broadcast(-k::low), r);
  const p tail = fma(polynomial(r, k::series), r * r, r);
  return scale_by_power(tail + p::broadcast(1), n);
}

// Outside [least, most] the result is 0 or infinity anyway.
template <class T>
DEEPSEEK_INLINE pack<T> exp(pack<T> x) {
  using k = exp_constants<T>;
  return exp_in_range(max(pack<T>::broadcast(k::least), min(pack<T>::broadcast(k::most), x)));
}
// The same bits for x <= 0 or NaN.
template <class T>
DEEPSEEK_INLINE pack<T> exp_of_nonpositive(pack<T> x) {
  return exp_in_range(max(pack<T>::broadcast(exp_constants<T>::least), x));
}

template <class T>
DEEPSEEK_INLINE pack<T> sigmoid(pack<T> x) {
  const auto one = pack<T>::broadcast(1);
  return one / (one + exp(-x));
}

// 0 times infinity does not occur: x below the range of exp gives 0.
template <class T>
DEEPSEEK_INLINE pack<T> silu(pack<T> x) {
  const auto lowest = pack<T>::broadcast(std::is_same_v<T, float> ? T(-1e4) : T(-1e5));
  return max(lowest, x) * sigmoid(x);
}

// s + x s (1 - s), s = sigmoid(x).
template <class T>
DEEPSEEK_INLINE pack<T> silu_derivative(pack<T> x) {
  const auto bound = pack<T>::broadcast(T(1e4));
  const pack<T> s = sigmoid(x), inside = max(-bound, min(bound, x));
  return fma(s, inside * (pack<T>::broadcast(1) - s), s);
}

// f applied to each lane by the scalar library: for double, where speed matters less than the last
// bit.
template <class T, class F>
DEEPSEEK_INLINE pack<T> lane_by_lane(pack<T> x, F f) {
  T lanes[pack<T>::width];
  x.store(lanes);
  for (T& lane : lanes) lane = f(lane);
  return pack<T>::load(lanes);
}

// e^(-x^2 / 2), with the rounding error of x^2 put back.
template <class T>
DEEPSEEK_INLINE pack<T> gaussian(pack<T> x) {
  using p = pack<T>;
  const p limit = p::broadcast(std::is_same_v<T, float> ? T(15) : T(39));
  x = max(-limit, min(limit, x));
  const p half = x * p::broadcast(T(-0.5)), square = half * x;
  if constexpr (!has_fma) return exp(square);
  const p rest = fma(half, x, -square), e = exp(square);
  return fma(e, rest, e);
}

template <class T>
DEEPSEEK_INLINE pack<T> normal_cdf(pack<T> x) {
  using p = pack<T>;
  if constexpr (std::is_same_v<T, double>) {
    return lane_by_lane(x, [](double v) { return 0.5 * std::erfc(v * -0.70710678118654752440); });
  } else {
    constexpr float series[] = {0.057073274826F, -0.34110679021F, 0.7666210273F,  -0.8752098233F,
                                0.80832171268F,  -0.30689210116F, 0.27832190514F, 0.10666356136F,
                                0.16832323137F,  0.16859829784F,  0.16928570427F};
    const p one = p::broadcast(1);
    const p t = one / fma(abs(x), p::broadcast(0.3F * 0.70710678F), one);
    const p lower = polynomial(t, series) * t * gaussian(x) * p::broadcast(0.5F);
    return select_less(p::zero(), x, one - lower, lower);
  }
}

template <class T>
DEEPSEEK_INLINE pack<T> gelu(pack<T> x) {
  const auto lowest = pack<T>::broadcast(T(-1e4));
  return max(lowest, x) * normal_cdf(x);
}

// Phi(x) + x phi(x).
template <class T>
DEEPSEEK_INLINE pack<T> gelu_derivative(pack<T> x) {
  const auto bound = pack<T>::broadcast(T(1e4));
  const pack<T> inside = max(-bound, min(bound, x));
  const pack<T> density = gaussian(x) * pack<T>::broadcast(T(0.39894228040143267794));
  return fma(inside, density, normal_cdf(x));
}

// tanh below tanh_near. Float: x + x^3 q(x^2), q a Chebyshev fit.
inline constexpr float tanh_near = 0.625F;
template <class T>
DEEPSEEK_INLINE pack<T> tanh_of_small(pack<T> x) {
  if constexpr (std::is_same_v<T, double>) {
    return lane_by_lane(x, [](double v) { return std::tanh(v); });
  } else {
    constexpr float series[] = {-0.006104948011F, 0.02100364122F, -0.05385249747F, 0.1333278226F,
                                -0.333333291F};
    const auto square = x * x;
    return fma(polynomial(square, series) * square, x, x);
  }
}

// Float: beyond tanh_near (1 - e) / (1 + e), e = e^(-2 |x|): at most 2 ulp.
template <class T>
DEEPSEEK_INLINE pack<T> tanh(pack<T> x) {
  using p = pack<T>;
  if constexpr (std::is_same_v<T, double>) {
    return lane_by_lane(x, [](double v) { return std::tanh(v); });
  } else {
    const p one = p::broadcast(1), e = exp(abs(x) * p::broadcast(-2));
    const p size = (one - e) / (one + e);
    const p far = select_less(x, p::zero(), -size, size);
    return select_less(abs(x), p::broadcast(tanh_near), tanh_of_small(x), far);
  }
}

// sqrt(max(x, 0) + log(1 + t)), t = e^-|x|; log(1 + t) = 2 artanh(t / (2 + t)), whose argument is
// at most 1/3: eight terms of the series, all of one sign, reach the last bit of float.
template <class T>
DEEPSEEK_INLINE pack<T> sqrt_softplus(pack<T> x) {
  using p = pack<T>;
  if constexpr (std::is_same_v<T, double>) {
    return lane_by_lane(x, [](double v) {
      return std::sqrt((v < 0 ? 0.0 : v) + std::log1p(std::exp(-std::fabs(v))));
    });
  } else {
    constexpr float series[] = {2.F / 15, 2.F / 13, 2.F / 11, 2.F / 9,
                                2.F / 7,  2.F / 5,  2.F / 3,  2.F};
    const p t = exp(-abs(x)), z = t / (t + p::broadcast(2));
    const p sum = fma(polynomial(z * z, series), z, select_less(x, p::zero(), p::zero(), x));
    return lane_by_lane(sum, [](float v) { return std::sqrt(v); });
  }
}

}  // namespace deepseek::simd
