// SPDX-License-Identifier: Apache-2.0
// Kernels that treat each element, or each row, alone. each_element<F>: f(i) for i < n, neighbours
// in neighbouring threads. each_row<F>: f(team, row) with a block for each row, or a warp where
// rows are short. F is a named functor, not a lambda (nvcc asks a flag of users for those).
#pragma once

#include "deepseek/backend/cuda/device_backend.hpp"

namespace deepseek {

template <class F>
struct each_element {
  static constexpr int threads = 256;
  static constexpr index_t per_thread = 4;
  index_t n;
  F f;

  index_t blocks() const { return blocks_of(n, threads * per_thread); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t first = block.index() * (threads * per_thread) + block.rank();
    for (index_t i = first; i < first + threads * per_thread && i < n; i += threads) f(i);
  }
};
template <class F>
each_element(index_t, F) -> each_element<F>;

template <int Threads, class F>
struct each_row {
  static constexpr int threads = Threads;
  index_t rows;
  F f;

  index_t blocks() const { return rows; }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    f(block, block.index());
  }
};

// Short rows: a warp each, eight to a block.
template <class F>
struct each_short_row {
  static constexpr int threads = 256;
  index_t rows;
  F f;

  index_t blocks() const { return blocks_of(rows, threads / warp_size); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t row = block.index() * (threads / warp_size) + block.warp();
    if (row < rows) f(warp_team(block), row);
  }
};

template <DeviceBackend B, class F>
void run_each_element(const B& b, index_t n, const F& f) {
  if (n > 0) b.launch(each_element<F>{n, f});
}

// Worker `at` of the `of` that share a row, alone: for row bodies that only deal elements out and
// combine nothing. With one worker an element, as many blocks run as there are elements for.
struct lone_worker {
  index_t at, of;
  DEEPSEEK_HOST_DEVICE index_t rank() const { return at; }
  DEEPSEEK_HOST_DEVICE index_t size() const { return of; }
};
template <class F>
struct each_of_rows {
  index_t length;
  F f;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    f(lone_worker{i % length, length}, i / length);
  }
};
// f(worker, row) for every element of every row of `length`.
template <DeviceBackend B, class F>
void run_each_row_element(const B& b, index_t rows, index_t length, const F& f) {
  if (length > 0) run_each_element(b, rows * length, each_of_rows<F>{length, f});
}

// f(team, row) for every row of `length` elements. The team's size follows the length alone, so a
// row has the same bits in every batch.
template <DeviceBackend B, class F>
void run_each_row(const B& b, index_t rows, index_t length, const F& f) {
  if (rows <= 0) return;
  if (length <= 1024) {
    b.launch(each_short_row<F>{rows, f});
  } else if (length <= 8192) {
    b.launch(each_row<256, F>{rows, f});
  } else {
    b.launch(each_row<512, F>{rows, f});
  }
}

}  // namespace deepseek
