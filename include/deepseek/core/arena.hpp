// SPDX-License-Identifier: Apache-2.0
// An arena hands out memory by moving a mark; a scope gives back all that was taken inside it.
// It grows by whole blocks, so what was handed out never moves; after warm-up it allocates nothing.
// Memory is not initialized. Under address sanitizer what is not handed out is poisoned.
#pragma once

#include "deepseek/core/tensor.hpp"

#if DEEPSEEK_ASAN
#include <sanitizer/asan_interface.h>
#endif

#include <algorithm>
#include <deque>
#include <optional>

namespace deepseek {

template <class Space>
class arena {
 public:
  struct mark {
    std::size_t block = 0, used = 0;
  };

  explicit arena(std::size_t first_block = std::size_t{1} << 20) : next_size_(first_block) {}
  arena(const arena&) = delete;
  arena& operator=(const arena&) = delete;
  ~arena() {
    for (auto& b : blocks_) unpoison(b.data(), b.bytes());
  }

  // make<T, dyn, 64>(n): a contiguous view; one argument for each dynamic extent, in order.
  template <class T, index_t... E, class... Sizes>
  view<T, Space, E...> make(Sizes... sizes) {
    static_assert(sizeof...(Sizes) == ((E == dyn ? 1 : 0) + ... + 0),
                  "deepseek::arena: give make() one size for each dyn extent");
    const index_t given[] = {static_cast<index_t>(sizes)..., 0};
    typename view<T, Space, E...>::extents_array extents = {E...};
    index_t n = 1;
    int next = 0;
    for (int i = 0; i < static_cast<int>(sizeof...(E)); ++i) {
      if (extents[i] == dyn) extents[i] = given[next++];
      require(extents[i] >= 0, error_code::invalid_argument, "arena: extent ", i, " is ",
              extents[i], "; extents are >= 0");
      n = checked_product(n, extents[i]);
    }
    const index_t bytes = checked_product(n, static_cast<index_t>(sizeof(T)));
    return {reinterpret_cast<T*>(take(static_cast<std::size_t>(bytes))), extents};
  }

  mark here() const { return now_; }
  void release_to(mark m) {
    for (std::size_t b = m.block; b < blocks_.size() && b <= now_.block; ++b) {
      const std::size_t from = b == m.block ? m.used : 0;
      poison(blocks_[b].data() + from, blocks_[b].bytes() - from);
    }
    now_ = m;
  }
  void clear() { release_to({}); }

  std::size_t bytes_used() const {
    std::size_t n = now_.used;
    for (std::size_t b = 0; b < now_.block; ++b) n += blocks_[b].bytes();
    return n;
  }
  std::size_t bytes_peak() const { return peak_; }
  std::size_t blocks() const { return blocks_.size(); }

  // For tests: what is handed out is filled with this byte first; no result may depend on it.
  void fill_with(std::optional<unsigned char> byte) { fill_ = byte; }

 private:
  using block = storage<std::byte, Space>;

  std::byte* take(std::size_t bytes) {
    constexpr std::size_t a = memory<host>::alignment;
    require(bytes < (std::size_t{1} << 62), error_code::overflow, "arena: ", bytes, " bytes asked");
    // The gap after each allocation stays poisoned: an overrun is seen.
    const std::size_t need = (bytes + a - 1) / a * a + (DEEPSEEK_ASAN ? a : 0);
    while (now_.block < blocks_.size() && now_.used + need > blocks_[now_.block].bytes()) {
      now_ = {now_.block + 1, 0};
    }
    if (now_.block == blocks_.size()) grow(need);
    std::byte* p = blocks_[now_.block].data() + now_.used;
    now_.used += need;
    peak_ = std::max(peak_, bytes_used());
    unpoison(p, bytes);
    if constexpr (std::is_same_v<Space, host>) {
      if (fill_) std::memset(p, *fill_, bytes);
    }
    return p;
  }
  void grow(std::size_t need) {
    next_size_ = std::max(next_size_ * 2, need);
    blocks_.emplace_back(static_cast<index_t>(next_size_));
    poison(blocks_.back().data(), blocks_.back().bytes());
  }

  static void poison([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t n) {
#if DEEPSEEK_ASAN
    if constexpr (std::is_same_v<Space, host>) __asan_poison_memory_region(p, n);
#endif
  }
  static void unpoison([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t n) {
#if DEEPSEEK_ASAN
    if constexpr (std::is_same_v<Space, host>) __asan_unpoison_memory_region(p, n);
#endif
  }

  std::deque<block> blocks_;
  mark now_;
  std::size_t next_size_, peak_ = 0;
  std::optional<unsigned char> fill_;
};

// Gives back, at the end of a C++ scope, what was taken from an arena inside it.
template <class Space>
class scope {
 public:
  explicit scope(arena<Space>& a) : arena_(a), mark_(a.here()) {}
  scope(const scope&) = delete;
  scope& operator=(const scope&) = delete;
  ~scope() { arena_.release_to(mark_); }

 private:
  arena<Space>& arena_;
  typename arena<Space>::mark mark_;
};

}  // namespace deepseek
