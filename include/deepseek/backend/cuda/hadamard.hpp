// SPDX-License-Identifier: Apache-2.0
// hadamard on the device: a row in shared memory (a warp for a short row, a block for a longer
// one), or in the workspace where it is too long for that; the body of backend/rows. See
// ops/hadamard.hpp.
#pragma once

#include "deepseek/backend/cuda/device_backend.hpp"
#include "deepseek/backend/rows/hadamard.hpp"
#include "deepseek/backend/rows/row_at.hpp"
#include "deepseek/ops/hadamard.hpp"

namespace deepseek {

namespace cuda_hadamard {

template <class X, class Y>
struct short_rows {
  using A = accumulate_t<typename Y::value_type>;
  using Work = view<A, typename Y::space, dyn>;
  static constexpr int threads = 256, rows_each = threads / warp_size;
  X x;
  Y y;
  index_t rows, length;

  index_t blocks() const { return blocks_of(rows, rows_each); }
  std::size_t shared_bytes() const {
    return rows_each * static_cast<std::size_t>(length) * sizeof(A);
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t row = block.index() * rows_each + block.warp();
    if (row >= rows) return;  // a whole warp
    A* const mine = reinterpret_cast<A*>(block.shared()) + block.warp() * length;
    hadamard_row(warp_team(block), row_at(x, row), row_at(y, row), Work(mine, {length}));
  }
};

template <class X, class Y>
struct rows_in_shared {
  using A = accumulate_t<typename Y::value_type>;
  using Work = view<A, typename Y::space, dyn>;
  static constexpr int threads = 256;
  X x;
  Y y;
  index_t rows, length;

  index_t blocks() const { return rows; }
  std::size_t shared_bytes() const { return static_cast<std::size_t>(length) * sizeof(A); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t row = block.index();
    hadamard_row(block, row_at(x, row), row_at(y, row),
                 Work(reinterpret_cast<A*>(block.shared()), {length}));
  }
};

// As many blocks as there are rows of work.
template <class X, class Y, class Works>
struct long_rows {
  static constexpr int threads = 1024;
  X x;
  Y y;
  Works work;  // [blocks, length]
  index_t rows;

  index_t blocks() const { return work.extent(0); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    for (index_t row = block.index(); row < rows; row += block.count()) {
      hadamard_row(block, row_at(x, row), row_at(y, row), slice(work, block.index()));
      block.sync();
    }
  }
};

}  // namespace cuda_hadamard

template <DeviceBackend B, class X, class Y>
void hadamard_impl(const B& b, const X& x, const Y& y) {
  using namespace cuda_hadamard;
  using A = accumulate_t<typename Y::value_type>;
  constexpr index_t most_blocks = 64;
  const index_t rows = row_count(x), length = row_length(x);
  const index_t bytes = length * static_cast<index_t>(sizeof(A));
  if (bytes <= 8192) return b.launch(short_rows<X, Y>{x, y, rows, length});
  if (bytes <= index_t{128} << 10) return b.launch(rows_in_shared<X, Y>{x, y, rows, length});
  const scope freed(b.workspace());
  const auto work =
      b.workspace().template make<A, dyn, dyn>(rows < most_blocks ? rows : most_blocks, length);
  b.launch(long_rows<X, Y, std::remove_const_t<decltype(work)>>{x, y, work, rows});
}

}  // namespace deepseek
