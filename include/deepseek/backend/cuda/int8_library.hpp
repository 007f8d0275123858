// SPDX-License-Identifier: Apache-2.0
// quant_gemm by the vendor's library, where it offers the product and there are enough rows to pay
// for it: the weights, panels of int8_layout, are written once more as the rows [N, K] that the
// library reads, sums of a part of the rows stand in int32, then become y as our own kernels' sums
// do. Sums are exact, so the bits are the same. From 1024 rows (reasoned, not measured: below, the
// weights' second copy costs more than it gains); K and N multiples of 16.
#pragma once

#include "deepseek/backend/cuda/library_parts.hpp"
#include "deepseek/quant/int8_layout.hpp"

namespace deepseek {

namespace cuda_int8 {

// [N, K], a packet of 16 steps of one output each: neighbouring threads read neighbouring words.
struct unpanelled {
  static constexpr int threads = 256;
  const std::int8_t* from;
  int8_layout at;
  std::uint8_t* to;

  index_t blocks() const { return blocks_of(at.n * (at.k / packet_bytes), threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t i = block.index() * threads + block.rank(), units = at.k / packet_bytes;
    if (i >= at.n * units) return;
    // Panel by panel, in each unit by unit.
    const index_t first = i / (int8_layout::panel * units) * int8_layout::panel;
    const index_t left = i - first * units, width = at.panel_width(first);
    const index_t n = first + left % width, unit = left / width;
    packet some;
    for (int g = 0; g < 4; ++g) {
      const std::int8_t* const word = from + at.at(n, unit * packet_bytes + g * 4);
      __builtin_memcpy(&some.word[g], __builtin_assume_aligned(word, 4), 4);
    }
    store_packet(some, to + n * at.k + unit * packet_bytes);
  }
};

template <class P>
struct stored_dots {
  P p;
  index_t first;
  DEEPSEEK_HOST_DEVICE void operator()(index_t m, index_t n, std::int32_t dots) const {
    p.store(0, first + m, n, dots);
  }
};

// False: the library offers nothing for these shapes, and nothing was done.
template <class B, class P>
bool product_by_library(const B& b, const P& p) {
  constexpr index_t fewest = 1024;
  const index_t rows = p.y.extent(0), n = p.at.n, k = p.at.k;
  if (rows < fewest || k == 0 || k % packet_bytes != 0 || n % packet_bytes != 0) return false;
  const scope freed(b.workspace());
  const row_parts parts = parts_of(rows, n, sizeof(std::int32_t));
  auto& memory = b.workspace();
  std::uint8_t* const weights = memory.template make<std::uint8_t, dyn, dyn>(n, k).data();
  const index_t most = rows < parts.each ? rows : parts.each;
  std::int32_t* const sums = memory.template make<std::int32_t, dyn, dyn>(most, n).data();
  const auto product = [&](index_t part) {
    library_product l;
    l.m = parts.rows_of(part);
    l.n = n;
    l.k = k;
    l.a = rows_along_k(p.x.codes + part * parts.each * p.x.pitch, p.x.pitch);
    l.b = columns_along_k(weights, k);
    l.c = rows_along_k(sums, n);
    l.type = dtype::i8;
    l.result = dtype::i32;
    return l;
  };
  if (!library_offers_parts(b, parts, product)) return false;
  b.launch(unpanelled{p.q, p.at, weights});
  for (index_t part = 0; part < parts.count(); ++part) {
    run_offered(b, product(part));
    b.launch(finish_part{const_cast<const std::int32_t*>(sums), parts.rows_of(part), n,
                         stored_dots<P>{p, part * parts.each}, p.faults});
  }
  return true;
}

}  // namespace cuda_int8

}  // namespace deepseek
