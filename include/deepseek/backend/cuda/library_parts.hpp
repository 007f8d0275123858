// SPDX-License-Identifier: Apache-2.0
// The last step of an op whose product the vendor's library made: sums of a part of the rows
// become y by `to`, which is refused where an earlier kernel of the op found something wrong, so y
// stays untouched then. Each sum is read once, 16 bytes a load.
#pragma once

#include "deepseek/backend/cuda/device_backend.hpp"
#include "deepseek/backend/cuda/packets.hpp"
#include "deepseek/backend/cuda/product.hpp"

namespace deepseek {

// to(row, column, sum) for sums [rows, columns]; columns: a multiple of 16.
template <class Sum, class To>
struct finish_part {
  static constexpr int threads = 256, run = 4;
  const Sum* sums;
  index_t rows, columns;
  To to;
  fault_place faults;

  index_t blocks() const { return blocks_of(rows * columns / run, threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t at = (block.index() * threads + block.rank()) * run;
    if (at >= rows * columns || faults.found()) return;
    Sum some[run];
    load_elements<run>(sums + at, some);
    unrolled<run>([&](int i) { to(at / columns, at % columns + i, some[i]); });
  }
};
template <class Sum, class To>
finish_part(const Sum*, index_t, index_t, To, fault_place) -> finish_part<Sum, To>;

// Codes [rows, columns] whose rows, `leading` apart, lie along k.
inline library_matrix rows_along_k(const void* codes, index_t leading) {
  library_matrix m;
  m.data = codes;
  m.leading = leading;
  return m;
}
// Weights [columns, k] as the product's [k, columns].
inline library_matrix columns_along_k(const void* codes, index_t leading) {
  library_matrix m = rows_along_k(codes, leading);
  m.transposed = true;
  return m;
}

// A product that the library said it takes.
template <DeviceBackend B>
void run_offered(const B& b, const library_product& p) {
  require(b.library_product(p), error_code::device, "cuda: the library offers a product of a[", p.m,
          ", ", p.k, "] by b[", p.k, ", ", p.n, "] and then does not take it");
}

// Whether the library takes the products of all parts; product(part) describes one.
template <DeviceBackend B, class Product>
bool library_offers_parts(const B& b, const row_parts& parts, const Product& product) {
  return b.library_offers(product(0)) && b.library_offers(product(parts.count() - 1));
}

}  // namespace deepseek
