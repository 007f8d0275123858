// SPDX-License-Identifier: Apache-2.0
// A row kept in registers: read once, 16 bytes at a time where all rows begin at a multiple of 16
// bytes, element by element else; which element a thread has follows the length and the types
// alone, so both give the same bits and a row the same in every batch.
//   held_row<T, Count> x; x.load(team, row, span);      up to 32 elements of a thread
//   x.each_run(team, span, f)      f(first, run): elements first .. first + Count - 1
//   x.sum(team, span, f), x.max(team, span)
//   run_each_held_row(b, shape, f)     f(team, row, span) for each row; false: rows too long
// A warp has rows up to 1024, 256 threads up to 8192, 512 threads up to 16384; where the device has
// clusters (cluster.hpp), 2, 4 or 8 such blocks share a row of up to 131072. Types wider than float
// are not held. Unproven on hardware: that this is bound by memory.
#pragma once

#include "deepseek/backend/cuda/cluster.hpp"
#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/cuda/vectors.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/core/math.hpp"

namespace deepseek {

inline constexpr int held_elements = 32;  // of a thread

// How the rows of a launch lie.
struct row_span {
  int n;       // elements
  bool whole;  // every row of every view moves whole (vectors.hpp)
};

// Elements that a thread moves at once, for rows of these types.
template <class... T>
constexpr int run_length() {
  int most = 1;
  ((most = vector_length<T> > most ? vector_length<T> : most), ...);
  return most;
}

// Elements first .. first + Count - 1 of a row, as far as they exist.
template <int Count, class Row>
DEEPSEEK_HOST_DEVICE void load_part(const Row& row, int first, const row_span& span,
                                    typename Row::value_type* to) {
  if (span.whole && first + Count <= span.n) return load_run<Count>(row.data() + first, to);
  for (int k = 0; k < Count; ++k) {
    if (first + k < span.n) to[k] = row(first + k);
  }
}
template <int Count, class Row>
DEEPSEEK_HOST_DEVICE void store_part(const Row& row, int first, const row_span& span,
                                     const typename Row::value_type* from) {
  if (span.whole && first + Count <= span.n) return store_run<Count>(from, row.data() + first);
  for (int k = 0; k < Count; ++k) {
    if (first + k < span.n) row(first + k) = from[k];
  }
}

template <class T, int Count>
class held_row {
 public:
  static constexpr int runs = held_elements / Count;

  template <class Team, class Row>
  DEEPSEEK_HOST_DEVICE void load(const Team& team, const Row& row, const row_span& span) {
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
    for (int r = 0; r < runs; ++r) {
      const int first = begin(team, r);
      if (first < span.n) load_part<Count>(row, first, span, x_ + r * Count);
    }
  }
  template <class Team, class F>
  DEEPSEEK_HOST_DEVICE void each_run(const Team& team, const row_span& span, const F& f) const {
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
    for (int r = 0; r < runs; ++r) {
      const int first = begin(team, r);
      if (first < span.n) f(first, x_ + r * Count);
    }
  }
  // Of f(x), in the type of f.
  template <class Team, class F>
  DEEPSEEK_HOST_DEVICE auto sum(const Team& team, const row_span& span, const F& f) const {
    decltype(f(T())) partial{};
    each_run(team, span, [&](int first, const T* run) {
      for (int k = 0; k < Count; ++k) {
        if (first + k < span.n) partial += f(run[k]);
      }
    });
    return team.sum(partial);
  }
  // The largest that is not NaN; -infinity where there is none.
  template <class A, class Team>
  DEEPSEEK_HOST_DEVICE A max(const Team& team, const row_span& span) const {
    constexpr A lowest = -math::infinity<A>;
    A most = lowest;
    each_run(team, span, [&](int first, const T* run) {
      for (int k = 0; k < Count; ++k) {
        const A v = static_cast<A>(run[k]);
        if (first + k < span.n && v > most) most = v;
      }
    });
    return team.max(most);
  }

  // The run of this row that lies where `run` does in the other.
  template <class U>
  DEEPSEEK_HOST_DEVICE const T* beside(const held_row<U, Count>& other, const U* run) const {
    return x_ + (run - other.data());
  }
  DEEPSEEK_HOST_DEVICE const T* data() const {
    return x_;
  }

 private:
  template <class Team>
  DEEPSEEK_HOST_DEVICE static int begin(const Team& team, int r) {
    return (r * team.size() + team.rank()) * Count;
  }
  alignas(vector_bytes) T x_[held_elements];
};

// f(first, run of a, run of b) over two rows held alike.
template <class Team, class A, class B, int Count, class F>
DEEPSEEK_HOST_DEVICE void each_of_both(const Team& team, const row_span& span,
                                       const held_row<A, Count>& a, const held_row<B, Count>& b,
                                       const F& f) {
  a.each_run(team, span, [&](int first, const A* run) { f(first, run, b.beside(a, run)); });
}
// The sum of f(a, b), each as a Sum.
template <class Sum, class Team, class A, class B, int Count, class F>
DEEPSEEK_HOST_DEVICE Sum sum_of_both(const Team& team, const row_span& span,
                                     const held_row<A, Count>& a, const held_row<B, Count>& b,
                                     const F& f) {
  Sum partial = 0;
  each_of_both(team, span, a, b, [&](int first, const A* as, const B* bs) {
    for (int k = 0; k < Count; ++k) {
      if (first + k < span.n) partial += f(static_cast<Sum>(as[k]), static_cast<Sum>(bs[k]));
    }
  });
  return team.sum(partial);
}

template <class F>
struct spanned {
  F f;
  row_span span;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    f(team, row, span);
  }
};

// Rows whose types are wider than float are too many registers.
template <class... T>
inline constexpr bool may_be_held = ((sizeof(T) <= 4) && ...);

struct row_shape {
  index_t rows, length;
  bool whole;
};

inline constexpr int widest_block = 512;
inline constexpr index_t longest_of_block = widest_block * held_elements;

// f(team, row) by the `shared_by` blocks of a cluster.
template <class F>
struct each_wide_row {
  static constexpr int threads = widest_block;
  index_t rows;
  int shared_by;
  F f;

  index_t blocks() const { return rows * shared_by; }
  int cluster_blocks() const { return shared_by; }
  static std::size_t shared_bytes() { return cluster_places; }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if constexpr (cluster::compiled) {
      const cluster_team team(block, shared_by);
      f(team, block.index() / shared_by);
      team.leave();
    }
  }
};

// False where no cluster of the device holds such a row. How many blocks share it follows its
// length alone.
template <DeviceBackend B, class F>
bool run_each_wide_row([[maybe_unused]] const B& b, [[maybe_unused]] const row_shape& shape,
                       [[maybe_unused]] const F& f) {
  if constexpr (ClusterBackend<B>) {
    int blocks = 2;
    while (blocks < cluster::most_blocks && shape.length > blocks * longest_of_block) blocks *= 2;
    if (shape.length > blocks * longest_of_block || blocks > b.largest_cluster()) return false;
    if (shape.rows > 0) b.launch(each_wide_row<F>{shape.rows, blocks, f});
    return true;
  } else {
    return false;
  }
}

// False where rows are too long to be held; nothing is launched then.
template <DeviceBackend B, class F>
bool run_each_held_row(const B& b, const row_shape& shape, const F& f) {
  const spanned<F> each{f, {static_cast<int>(shape.length), shape.whole}};
  if (shape.length > longest_of_block) return run_each_wide_row(b, shape, each);
  if (shape.rows > 0) run_each_row(b, shape.rows, shape.length, each);
  return true;
}
// f(team, row, span) where rows of these types are held, else f(team, row) by Threads threads.
template <int Threads, class... T, DeviceBackend B, class F>
void run_each_row_of(const B& b, const row_shape& shape, const F& f) {
  if constexpr (may_be_held<T...>) {
    if (run_each_held_row(b, shape, f)) return;
  }
  if (shape.rows > 0) b.launch(each_row<Threads, F>{shape.rows, f});
}

}  // namespace deepseek
