// SPDX-License-Identifier: Apache-2.0
// gemm on the device: the vendor's library where it can take the views, with the epilogue after it;
// else, and on a device without that library, our own tile: 64 x 64 of c by 256 threads, 4 x 4
// each, K in steps of 16 through shared memory, any strides and types, sums over k in order. See
// ops/gemm.hpp. Both are the same for any number of rows' neighbours; a product by the library has
// the library's own order over k.
#pragma once

#include "deepseek/backend/cuda/column_sums.hpp"
#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/cuda/product.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/gemm.hpp"

namespace deepseek {

namespace cuda_gemm {

template <class A>
DEEPSEEK_HOST_DEVICE A applied(activation act, A x) {
  switch (act) {
    case activation::relu:
      return x < A(0) ? A(0) : x;  // NaN stays NaN
    case activation::silu:
      return math::silu(x);
    case activation::gelu:
      return math::gelu(x);
    case activation::none:
      break;
  }
  return x;
}

// c = act(sum + bias) (+ c), of one element.
template <class C, class Bias>
struct finish {
  using Acc = accumulate_t<typename C::value_type>;
  C c;
  gemm_epilogue<Bias> epilogue;
  DEEPSEEK_HOST_DEVICE void operator()(index_t batch, index_t m, index_t n, Acc sum) const {
    if constexpr (!std::is_same_v<Bias, none>) sum += static_cast<Acc>(epilogue.bias(n));
    sum = applied(epilogue.act, sum);
    auto& to = at(batch, m, n);
    if (epilogue.how == update::add) sum += static_cast<Acc>(to);
    to = static_cast<typename C::value_type>(sum);
  }
  DEEPSEEK_HOST_DEVICE typename C::value_type& at(index_t batch, index_t m, index_t n) const {
    if constexpr (C::rank == 3) {
      return c(batch, m, n);
    } else {
      return c(m, n);
    }
  }
};

template <class V>
DEEPSEEK_HOST_DEVICE auto of_batch(const V& v, index_t batch) {
  if constexpr (V::rank == 3) {
    return slice(v, batch);
  } else {
    return v;
  }
}

inline constexpr int tile = 64, step = 16, each = 4;  // of c, of k, of a thread

// A tile of 64 x 64 sums in the registers of 256 threads; a(m, k) and w(k, n) are matrices, rows
// below `m_end` count. `room` is 2 x 16 x 65 numbers of shared memory.
template <class Acc>
struct tile_sums {
  Acc sums[each][each] = {};

  template <class Block, class A, class W>
  DEEPSEEK_HOST_DEVICE void run(const Block& block, const A& a, const W& w, index_t m0,
                                index_t m_end, index_t n0, Acc* room) {
    constexpr int pitch = tile + 1;
    Acc* const as = room;                 // [step][pitch]: k by m
    Acc* const ws = room + step * pitch;  // [step][pitch]: k by n
    const index_t depth = a.extent(1), width = w.extent(1);
    const int row = block.rank() / 16 * each, column = block.rank() % 16 * each;
    for (index_t k0 = 0; k0 < depth; k0 += step) {
      for (int i = block.rank(); i < tile * step; i += block.size()) {
        const int k = i % step, m = i / step, kn = i / tile, n = i % tile;
        const bool has_a = m0 + m < m_end && k0 + k < depth;
        as[k * pitch + m] = has_a ? static_cast<Acc>(a(m0 + m, k0 + k)) : Acc(0);
        const bool has_w = n0 + n < width && k0 + kn < depth;
        ws[kn * pitch + n] = has_w ? static_cast<Acc>(w(k0 + kn, n0 + n)) : Acc(0);
      }
      block.sync();
      const int steps = depth - k0 < step ? static_cast<int>(depth - k0) : step;
      for (int k = 0; k < steps; ++k) {
        for (int i = 0; i < each; ++i) {
          for (int j = 0; j < each; ++j) {
            sums[i][j] += as[k * pitch + row + i] * ws[k * pitch + column + j];
          }
        }
      }
      block.sync();
    }
  }
  // to(m, n, sum) for the elements of the tile that exist.
  template <class Block, class To>
  DEEPSEEK_HOST_DEVICE void store(const Block& block, index_t m0, index_t m_end, index_t n0,
                                  index_t n_end, const To& to) const {
    const index_t row = m0 + block.rank() / 16 * each, column = n0 + block.rank() % 16 * each;
    for (int i = 0; i < each; ++i) {
      for (int j = 0; j < each; ++j) {
        if (row + i < m_end && column + j < n_end) to(row + i, column + j, sums[i][j]);
      }
    }
  }
};

template <class Acc>
constexpr std::size_t tile_bytes() {
  return 2 * step * (tile + 1) * sizeof(Acc);
}

template <class A, class W, class C, class Bias>
struct kernel {
  using Acc = accumulate_t<typename C::value_type>;
  static constexpr int threads = 256;
  A a;
  W w;
  C c;
  gemm_epilogue<Bias> epilogue;

  DEEPSEEK_HOST_DEVICE index_t m() const { return c.extent(C::rank - 2); }
  DEEPSEEK_HOST_DEVICE index_t n() const { return c.extent(C::rank - 1); }
  index_t blocks() const {
    const index_t batches = C::rank == 3 ? c.extent(0) : 1;
    return batches * blocks_of(m(), tile) * blocks_of(n(), tile);
  }
  static std::size_t shared_bytes() { return tile_bytes<Acc>(); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t across = (n() + tile - 1) / tile, down = (m() + tile - 1) / tile;
    const index_t batch = block.index() / (across * down), place = block.index() % (across * down);
    const index_t m0 = place / across * tile, n0 = place % across * tile;
    tile_sums<Acc> sums;
    sums.run(block, of_batch(a, batch), of_batch(w, batch), m0, m(), n0,
             reinterpret_cast<Acc*>(block.shared()));
    const finish<C, Bias> end{c, epilogue};
    sums.store(block, m0, m(), n0, n(),
               [&](index_t row, index_t column, Acc sum) { end(batch, row, column, sum); });
  }
};

// The epilogue after a library's product, whose sums stand in c itself.
template <class C, class Bias>
struct after_product {
  finish<C, Bias> end;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const index_t n = end.c.extent(C::rank - 1), m = end.c.extent(C::rank - 2);
    const index_t row = i / n % m, batch = i / n / m, column = i % n;
    using Acc = typename finish<C, Bias>::Acc;
    end(batch, row, column, static_cast<Acc>(end.at(batch, row, column)));
  }
};

// In a 16-bit type c would round the sum before the bias: those epilogues are our kernel's.
template <class C, class Bias>
bool library_suits(const gemm_epilogue<Bias>& e) {
  const bool plain = std::is_same_v<Bias, none> && e.act == activation::none;
  return plain || (e.how == update::write && sizeof(typename C::value_type) >= 4);
}

}  // namespace cuda_gemm

template <DeviceBackend B, class A, class W, class C, class Bias>
void gemm_impl(const B& b, const A& a, const W& w, const C& c,
               const gemm_epilogue<Bias>& epilogue) {
  if (cuda_gemm::library_suits<C>(epilogue)) {
    auto product = as_library_product(a, w, c);
    if (product) {
      product->adds = epilogue.how == update::add;
      if (b.library_product(*product)) {
        if (!std::is_same_v<Bias, none> || epilogue.act != activation::none) {
          run_each_element(b, c.size(), cuda_gemm::after_product<C, Bias>{{c, epilogue}});
        }
        return;
      }
    }
  }
  b.launch(cuda_gemm::kernel<A, W, C, Bias>{a, w, c, epilogue});
}

}  // namespace deepseek
