// SPDX-License-Identifier: Apache-2.0
// Caches of a decoder, one row of numbers a position: keys and values [rows, W_k], [rows, W_v];
// latents [rows, kv_rank + rope_dim], the normed latent, then the rotated key part.
// Storage only: the length is the call's `start`, so rewinding is a smaller start, and the call
// says where positions stand: in order (row t is position t), or by its page table, so that several
// sequences share one storage. The model checks the capacity before anything is written. Where the
// start moves (core/call.hpp) rows are placed by the number in memory, and attention is handed all
// rows up to the bound. A layer's state says steps_alike if that is all it does with the start.
#pragma once

#include "deepseek/core/call.hpp"
#include "deepseek/ops/copy.hpp"
#include "deepseek/ops/place_rows.hpp"

namespace deepseek {

inline void require_fits(index_t start, index_t n, index_t capacity) {
  require(start >= 0 && start + n <= capacity, error_code::index_range, "kv_cache: positions ",
          start, " .. ", start + n - 1, " do not fit a capacity of ", capacity,
          "; make the cache larger or rewind");
}

// Rows of one width; `append` writes positions start .. start + n - 1 of the call.
template <class T, class S, index_t W>
class row_cache {
 public:
  static constexpr index_t width = W;
  static constexpr bool steps_alike = true;

  void reserve(index_t capacity) { rows_ = tensor<T, S, dyn, W>({capacity, W}); }
  index_t capacity() const { return rows_.extent(0); }
  // How many positions there are rows for.
  index_t positions(const page_table<S>& pages) const {
    return pages.size == 0 ? capacity() : pages.pages.extent(0) * pages.size;
  }
  static constexpr index_t bytes_per_token() { return W * static_cast<index_t>(sizeof(T)); }

  template <class B, class X>
  void append(const B& b, const run_options<S>& run, const X& x) {
    const index_t n = x.extent(0), start = run.start;
    if (run.moving.moves()) return ops::place_rows(b, x, run.moving.at, rows_.view());
    require_fits(start, n, positions(run.pages));
    for_each_run(run.pages, start, n, [&](index_t i, index_t row, index_t count) {
      ops::copy(b, rows(x, i, count), rows(rows_.view(), row, count));
    });
  }
  // The same where nothing stands in pages: all rows up to there.
  template <class B, class X>
  auto append(const B& b, index_t start, const X& x) {
    append(b, run_options<S>{.start = start}, x);
    return rows(as_const(rows_.view()), 0, start + x.extent(0));
  }
  // What attention reads up to position `end`: rows in order, or all rows, for a page table.
  auto seen(const run_options<S>& run, index_t end) const {
    return run.pages.size == 0 ? rows(rows_.view(), 0, end) : rows(rows_.view(), 0, capacity());
  }
  // Positions first .. first + n - 1 as rows in order; where they stand in pages, a copy in
  // scratch.
  template <class Call>
  view<const T, S, dyn, W> read(const Call& c, index_t first, index_t n) const {
    const auto& pages = c.options.pages;
    if (pages.size == 0) return rows(rows_.view(), first, n);
    const auto out = c.scratch.template make<T, dyn, W>(n);
    for_each_run(pages, first, n, [&](index_t i, index_t row, index_t count) {
      ops::copy(c.backend, rows(rows_.view(), row, count), rows(out, i, count));
    });
    return out;
  }
  // The numbers of one page for another.
  template <class B>
  void copy_page(const B& b, index_t from, index_t to, index_t size) {
    ops::copy(b, rows(as_const(rows_.view()), from * size, size),
              rows(rows_.view(), to * size, size));
  }

 private:
  // f(i, row, count): positions first + i, ... stand in rows row, ...; the runs between pages'
  // ends.
  template <class F>
  static void for_each_run(const page_table<S>& pages, index_t first, index_t n, F f) {
    for (index_t i = 0, count = 0; i < n; i += count) {
      const index_t t = first + i;
      count = pages.size == 0 ? n - i : std::min(n - i, pages.size - t % pages.size);
      f(i, pages.size == 0 ? t : pages.pages(t / pages.size) * pages.size + t % pages.size, count);
    }
  }

  tensor<T, S, dyn, W> rows_;
};

template <class T, class S, index_t Keys, index_t Values>
struct kv_cache {
  row_cache<T, S, Keys> keys;
  row_cache<T, S, Values> values;
  static constexpr bool steps_alike = true;

  void reserve(index_t capacity) {
    keys.reserve(capacity);
    values.reserve(capacity);
  }
  index_t capacity() const { return keys.capacity(); }
  static constexpr index_t bytes_per_token() {
    return row_cache<T, S, Keys>::bytes_per_token() + row_cache<T, S, Values>::bytes_per_token();
  }
  // Writes the rows of this call and gives what attention reads.
  template <class B, class K, class V>
  auto append(const B& b, const run_options<S>& run, const K& k, const V& v) {
    keys.append(b, run, k);
    values.append(b, run, v);
    const index_t end = reached(run, k.extent(0));
    return std::pair{keys.seen(run, end), values.seen(run, end)};
  }
  template <class B>
  void copy_page(const B& b, index_t from, index_t to, index_t size) {
    keys.copy_page(b, from, to, size);
    values.copy_page(b, from, to, size);
  }
};

template <class T, class S, index_t KVRank, index_t RopeDim>
struct latent_cache : row_cache<T, S, KVRank + RopeDim> {};

}  // namespace deepseek
