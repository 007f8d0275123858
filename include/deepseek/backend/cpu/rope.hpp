// SPDX-License-Identifier: Apache-2.0
// rope on cpu, contiguous heads, computed in float (float, bf16, f16 in any mixture) or double; see
// ops/rope.hpp. float beside double and other strides take the reference. The frequencies are
// computed once a call, sines and cosines once a token (not once a head), in registers of double:
// Cody and Waite's reduction by pi/2 in three parts, then the Taylor series of degree 17 and 16; at
// most 2 ulp from the sine of the angle.
#pragma once

#include "deepseek/backend/cpu/copy.hpp"
#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/rope.hpp"

namespace deepseek {
namespace kernels {

struct sine_cosine {
  simd::pack<double> sine, cosine;
};

// |angle| < 2^31.
DEEPSEEK_INLINE sine_cosine sine_and_cosine(simd::pack<double> angle) {
  using p = simd::pack<double>;
  if constexpr (!simd::has_fma) {
    return {simd::lane_by_lane(angle, [](double a) { return std::sin(a); }),
            simd::lane_by_lane(angle, [](double a) { return std::cos(a); })};
  }
  const p one = p::broadcast(1), zero = p::zero();
  const p k = simd::round(angle * p::broadcast(0.63661977236758134308));
  p r = fma(-k, p::broadcast(0x1.921fb54442d18p+0), angle);
  r = fma(-k, p::broadcast(0x1.1a62633145c07p-54), r);
  r = fma(-k, p::broadcast(-0x1.f1976b7ed8fbcp-110), r);
  constexpr double sines[] = {
      1.0 / 355687428096000, -1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800,
      1.0 / 362880,          -1.0 / 5040,          1.0 / 120,        -1.0 / 6};
  constexpr double cosines[] = {
      1.0 / 20922789888000, -1.0 / 87178291200, 1.0 / 479001600, -1.0 / 3628800,
      1.0 / 40320,          -1.0 / 720,         1.0 / 24,        -0.5};
  const p square = r * r;
  const p s = fma(simd::polynomial(square, sines) * square, r, r);
  const p c = fma(simd::polynomial(square, cosines), square, one);
  // The quadrant k mod 4: floor(k / 4) is round(k / 4 - 3/8).
  const p turns = simd::round(fma(k, p::broadcast(0.25), p::broadcast(-0.375)));
  const p quadrant = fma(turns, p::broadcast(-4), k);
  const p odd = simd::abs(simd::abs(quadrant - p::broadcast(2)) - one);  // 0 in quadrants 1, 3
  const p half = p::broadcast(0.5), to_middle = simd::abs(quadrant - p::broadcast(1.5));
  const p sine = select_less(odd, half, c, s), cosine = select_less(odd, half, s, c);
  return {select_less(p::broadcast(1.5), quadrant, zero - sine, sine),
          select_less(to_middle, one, zero - cosine, cosine)};
}

// Factors of one token: cosine[count], sine[count]; both layouts keep one entry an element, so that
// y = x * cosine + partner * sine. The sine of the first element of a pair is negated.
template <class T>
void rope_factors(const rope_spec& spec, const double* frequency, std::int32_t position,
                  T* cosine) {
  using p = simd::pack<double>;
  T* sine = cosine + spec.count;
  const index_t pairs = spec.count / 2;
  const bool half = spec.layout == rope_layout::half;
  const index_t step = half ? 1 : 2, partner = half ? pairs : 1;
  const p at = p::broadcast(static_cast<double>(position));
  const p amplitude = p::broadcast(rope_amplitude(spec.scaling));
  for (index_t i = 0; i < pairs; i += p::width) {
    const sine_cosine f = sine_and_cosine(p::load_up_to(frequency + i, pairs - i) * at);
    double s[p::width], c[p::width];
    (f.sine * amplitude).store(s);
    (f.cosine * amplitude).store(c);
    for (index_t j = 0; j < p::width && i + j < pairs; ++j) {
      const index_t a = (i + j) * step, b = a + partner;
      cosine[a] = cosine[b] = static_cast<T>(c[j]);
      sine[b] = static_cast<T>(s[j]);
      sine[a] = -sine[b];
    }
  }
}

// Neighbours exchanged: lanes 1 0 3 2 ...
template <class T>
DEEPSEEK_INLINE simd::pack<T> swap_neighbours(simd::pack<T> x) {
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    return simd::pack<T>{__builtin_shufflevector(x.v, x.v, (I ^ 1)...)};
  }
  (std::make_integer_sequence<int, simd::pack<T>::width>{});
}

template <class X, class T, class Y>
void rotate_interleaved(const X* x, const T* factors, Y* y, index_t count) {
  using simd::pack;
  simd::along_row<T>(
      count, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto v = simd::load_wide(x + i, rest);
        const auto sine = pack<T>::load_up_to(factors + count + i, rest);
        const auto cosine = pack<T>::load_up_to(factors + i, rest);
        simd::store_narrow(y + i, fma(v, cosine, swap_neighbours(v) * sine), rest);
      });
}

template <class X, class T, class Y>
void rotate_half(const X* x, const T* factors, Y* y, index_t count) {
  using simd::pack;
  const index_t pairs = count / 2;
  const T* sines = factors + count + pairs;
  simd::along_row<T>(
      pairs, [&](index_t i, index_t rest) __attribute__((always_inline)) {
        const auto a = simd::load_wide(x + i, rest), b = simd::load_wide(x + pairs + i, rest);
        const auto c = pack<T>::load_up_to(factors + i, rest);
        const auto s = pack<T>::load_up_to(sines + i, rest);
        simd::store_narrow(y + i, fma(a, c, -(b * s)), rest);
        simd::store_narrow(y + pairs + i, fma(b, c, a * s), rest);
      });
}

template <class X, class T, class Y>
void rope_head(const rope_spec& spec, const X* x, const T* factors, Y* y, index_t dim) {
  if (static_cast<const void*>(x) != y) {
    const index_t end = spec.first + spec.count;
    convert_run(spec.first, x, y);
    convert_run(dim - end, x + end, y + end);
  }
  if (spec.layout == rope_layout::half) {
    rotate_half(x + spec.first, factors, y + spec.first, spec.count);
  } else {
    rotate_interleaved(x + spec.first, factors, y + spec.first, spec.count);
  }
}

}  // namespace kernels

template <class X, class P, class Y>
requires Widenable<X, Y>
void rope_impl(const cpu& b, const X& x, const P& positions, const Y& y, const rope_spec& spec) {
  using T = lanes_of<Y>;
  constexpr index_t tokens_per_task = 16;
  // With theta < 1 an angle may leave the range of the reduction.
  if (!unit_rows(x, y) || spec.theta < 1) {
    return rope_impl(static_cast<const reference&>(b), x, positions, y, spec);
  }
  const index_t tokens = x.extent(0), heads = x.extent(1), pairs = spec.count / 2;
  const scope scratch(b.workspace());
  const auto frequency = b.workspace().template make<double, dyn>(pairs);
  for (index_t i = 0; i < pairs; ++i) frequency(i) = rope_frequency(spec, i);
  const auto factors =
      b.workspace().template make<T, dyn, dyn>(chunks_of(tokens, tokens_per_task), 2 * spec.count);
  parallel_rows(b, tokens, tokens_per_task, [&](index_t first, index_t last) {
    T* own = factors.data() + first / tokens_per_task * factors.stride(0);
    for (index_t t = first; t < last; ++t) {
      kernels::rope_factors(spec, frequency.data(), positions(t), own);
      for (index_t h = 0; h < heads; ++h) {
        kernels::rope_head(spec, &x(t, h, 0), own, &y(t, h, 0), x.extent(2));
      }
    }
  });
}

}  // namespace deepseek
