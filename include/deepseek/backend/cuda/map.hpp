// SPDX-License-Identifier: Apache-2.0
// run_map(b, f, reads(x), writes(y), ...): f(i, x_i, y_i, ...) for element i, in row-major order,
// of operands of one shape and any strides; f gets references to numbers in registers. Where all
// rows allow it (vectors.hpp) a thread loads and stores 16 bytes and more at a time, neighbours
// next to neighbours; else an element. Each operand is read and written at most once. Where f has a
// member idle() that is true, nothing is done (after a finding of a check, faults.hpp). Operands
// may lie over one another where all elements coincide. f is a named functor, copied to each
// thread.
#pragma once

#include "deepseek/backend/cuda/device_backend.hpp"
#include "deepseek/backend/cuda/vectors.hpp"

namespace deepseek {

enum class access { reads, writes, changes };

template <access How, class View>
struct operand {
  using value_type = typename View::value_type;
  static constexpr access how = How;
  View view;
};
template <class View>
auto reads(const View& v) {
  return operand<access::reads, View>{v};
}
template <class View>
auto writes(const View& v) {
  return operand<access::writes, View>{v};
}
template <class View>
auto changes(const View& v) {
  return operand<access::changes, View>{v};
}

namespace cuda_map {

// Operands as a list: nvcc takes no std::tuple in a kernel.
struct end_of_operands {};
template <class First, class Rest>
struct operand_list {
  First first;
  Rest rest;
};
inline end_of_operands list_of() {
  return {};
}
template <class First, class... Rest>
auto list_of(const First& first, const Rest&... rest) {
  using tail = decltype(list_of(rest...));
  return operand_list<First, tail>{first, list_of(rest...)};
}

// Where a run of elements lies.
struct place {
  index_t row, column, element;
  bool one_row;  // all operands seen as one long row
};
template <class View>
DEEPSEEK_HOST_DEVICE auto* data_at(const View& v, const place& at) {
  if (at.one_row) return v.data() + at.column;
  const auto row = row_at(v, at.row);
  return row.data() + at.column * row.stride(0);
}

template <int Count, class F, class... Runs>
DEEPSEEK_HOST_DEVICE void apply(F& f, const end_of_operands&, const place& at, Runs&... runs) {
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
  for (int k = 0; k < Count; ++k) f(at.element + k, runs[k]...);
}
// Loads `Count` elements of each operand, applies f, stores what it wrote.
template <int Count, class F, class First, class Rest, class... Runs>
DEEPSEEK_HOST_DEVICE void apply(F& f, const operand_list<First, Rest>& list, const place& at,
                                Runs&... runs) {
  auto* const data = data_at(list.first.view, at);
  alignas(vector_bytes) typename First::value_type run[Count];
  if constexpr (First::how != access::writes) {
    if constexpr (Count == 1) {
      run[0] = *data;
    } else {
      load_run<Count>(data, run);
    }
  }
  cuda_map::apply<Count>(f, list.rest, at, runs..., run);
  if constexpr (First::how != access::reads) {
    if constexpr (Count == 1) {
      *data = run[0];
    } else {
      store_run<Count>(run, data);
    }
  }
}

template <int Count, class F, class List>
struct kernel {
  static constexpr int threads = 256;
  static constexpr index_t per_thread = Count == 1 ? 4 : 1;  // runs of a thread
  index_t rows, columns;
  bool flat;  // one row of neighbouring elements
  F f;
  List list;

  DEEPSEEK_HOST_DEVICE index_t runs_of_row() const { return (columns + Count - 1) / Count; }
  index_t blocks() const { return blocks_of(rows * runs_of_row(), threads * per_thread); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if constexpr (requires { f.idle(); }) {
      if (f.idle()) return;
    }
    F mine = f;
    const index_t each = runs_of_row(), all = rows * each;
    const index_t first = block.index() * (threads * per_thread) + block.rank();
    for (index_t i = first; i < first + threads * per_thread && i < all; i += threads) {
      const index_t row = rows == 1 ? 0 : i / each;
      const index_t column = (i - row * each) * Count;
      run(mine, {row, column, row * columns + column, flat});
    }
  }

 private:
  DEEPSEEK_HOST_DEVICE void run(F& mine, place at) const {
    if (at.column + Count <= columns) {
      cuda_map::apply<Count>(mine, list, at);
    } else {  // the end of a row
      const index_t n = columns - at.column;
      for (index_t k = 0; k < n; ++k, ++at.column, ++at.element) {
        cuda_map::apply<1>(mine, list, at);
      }
    }
  }
};

template <class View>
bool one_row(const View& v) {
  return v.contiguous() && View::rank > 0;
}

}  // namespace cuda_map

template <DeviceBackend B, class F, class First, class... Rest>
void run_map(const B& b, const F& f, const First& first, const Rest&... rest) {
  using list = decltype(cuda_map::list_of(first, rest...));
  constexpr int sizes[] = {vector_length<typename First::value_type>,
                           vector_length<typename Rest::value_type>...};
  constexpr int count = [&] {
    int most = 1;
    for (const int n : sizes) most = n > most ? n : most;
    return most;
  }();
  if (first.view.empty()) return;
  const bool flat = cuda_map::one_row(first.view) && (cuda_map::one_row(rest.view) && ...);
  const bool whole =
      flat ? begins_at_packet(first.view.data()) && (begins_at_packet(rest.view.data()) && ...)
           : moves_whole(first.view) && (moves_whole(rest.view) && ...);
  const index_t rows = flat ? 1 : row_count(first.view);
  const index_t columns = flat ? first.view.size() : row_length(first.view);
  const auto operands = cuda_map::list_of(first, rest...);
  if (whole && columns >= count) {
    b.launch(cuda_map::kernel<count, F, list>{rows, columns, flat, f, operands});
  } else {
    b.launch(cuda_map::kernel<1, F, list>{rows, columns, flat, f, operands});
  }
}

}  // namespace deepseek
