// SPDX-License-Identifier: Apache-2.0
// The library's product in plain loops over exactly what its descriptors say: strides, orders,
// types, scales where they stand.
#pragma once

#include "deepseek/backend/cuda/product.hpp"
#include "deepseek/core/float8.hpp"

namespace simulation {

namespace ds = deepseek;

template <class T>
T& element_of(const ds::library_matrix& m, ds::index_t batch, ds::index_t row, ds::index_t column) {
  const ds::index_t at = m.transposed ? column * m.leading + row : row * m.leading + column;
  return const_cast<T*>(static_cast<const T*>(m.data))[batch * m.batch + at];
}

inline float scale_of(const ds::library_matrix& m, ds::index_t lines, ds::index_t depth,
                      ds::index_t line, ds::index_t block) {
  if (m.scales == ds::library_scales::none) return 1;
  return m.scale[ds::scale_place(m.scales, lines, depth, line, block)];
}

template <class C>
struct sum_of {
  using type = ds::accumulate_t<C>;
};
template <>
struct sum_of<std::int32_t> {
  using type = std::int32_t;
};

// c = f(batch, row, column, a zero to add to) (+ c).
template <class C, class F>
void each_sum(const ds::library_product& p, const F& f) {
  for (ds::index_t i = 0; i < p.batches * p.m * p.n; ++i) {
    const ds::index_t batch = i / (p.m * p.n), m = i / p.n % p.m, n = i % p.n;
    C& c = element_of<C>(p.c, batch, m, n);
    using A = typename sum_of<C>::type;
    const A sum = f(batch, m, n, A(0));
    c = static_cast<C>(p.adds ? sum + static_cast<A>(c) : sum);
  }
}

template <class T, class C>
void plain_sums(const ds::library_product& p) {
  each_sum<C>(p, [&](ds::index_t batch, ds::index_t m, ds::index_t n, auto sum) {
    using A = decltype(sum);
    for (ds::index_t k = 0; k < p.k; ++k) {
      sum += static_cast<A>(element_of<T>(p.a, batch, m, k)) *
             static_cast<A>(element_of<T>(p.b, batch, k, n));
    }
    return sum;
  });
}

// Sums of 128 of k, each times the scales of its block.
template <class C>
void scaled_sums(const ds::library_product& p) {
  using code = ds::f8_e4m3;
  each_sum<C>(p, [&](ds::index_t batch, ds::index_t m, ds::index_t n, auto sum) {
    for (ds::index_t k0 = 0; k0 < p.k; k0 += ds::scaled_block) {
      float inner = 0;
      for (ds::index_t k = k0; k < p.k && k < k0 + ds::scaled_block; ++k) {
        inner += static_cast<float>(element_of<code>(p.a, batch, m, k)) *
                 static_cast<float>(element_of<code>(p.b, batch, k, n));
      }
      const ds::index_t block = k0 / ds::scaled_block;
      sum += inner * scale_of(p.a, p.m, p.k, m, block) * scale_of(p.b, p.n, p.k, n, block);
    }
    return sum;
  });
}

inline bool has_plain_product(const ds::library_product& p) {
  using ds::dtype;
  if (p.type == dtype::i8) return p.result == dtype::i32;
  const bool floating = p.result == dtype::f32 || p.result == dtype::bf16 || p.result == dtype::f16;
  if (p.type == dtype::f8_e4m3) return floating;
  return p.type == p.result && (floating || p.type == dtype::f64);
}
inline void run_plainly(const ds::library_product& p) {
  using ds::dtype;
  const bool codes = p.type == dtype::f8_e4m3;
  switch (p.result) {
    case dtype::f64:
      return plain_sums<double, double>(p);
    case dtype::f32:
      return codes ? scaled_sums<float>(p) : plain_sums<float, float>(p);
    case dtype::bf16:
      return codes ? scaled_sums<ds::bf16>(p) : plain_sums<ds::bf16, ds::bf16>(p);
    case dtype::f16:
      return codes ? scaled_sums<ds::f16>(p) : plain_sums<ds::f16, ds::f16>(p);
    default:
      return plain_sums<std::int8_t, std::int32_t>(p);
  }
}

}  // namespace simulation
