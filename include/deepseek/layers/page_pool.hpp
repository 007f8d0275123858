// SPDX-License-Identifier: Apache-2.0
// Pages of a cache. page_pool: which of `pages` pages of `size` positions are in use, and by how
// many sequences. sequence_pages: the pages of one sequence, page i holding positions i * size ...;
// copying it shares them, and what is about to be written to is made its own first (copied, if
// somebody else has it, too). Numbers only: the caller copies what stands in the pages.
// Errors: index_range (more pages than are free; nothing is changed), invalid_argument, overflow.
// Not for several threads at once. Source: Kwon et al. 2023 (paged attention), section 4.
#pragma once

#include "deepseek/core/call.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace deepseek {

struct paging {
  index_t pages = 0;  // of the pool, > 0
  index_t size = 64;  // positions of a page, > 0; attention reads multiples of 64 fastest
};

class page_pool {
 public:
  explicit page_pool(const paging& p) : size_(p.size) {
    require(p.pages > 0 && p.size > 0, error_code::invalid_argument, "page_pool: ", p.pages,
            " pages of ", p.size, " positions; write numbers > 0");
    require(p.pages <= INT32_MAX, error_code::overflow, "page_pool: ", p.pages,
            " pages; a page table counts them in int32, make pages larger");
    checked_product(p.pages, p.size);
    users_.resize(static_cast<std::size_t>(p.pages));
    for (index_t i = p.pages - 1; i >= 0; --i) free_.push_back(static_cast<std::int32_t>(i));
  }

  index_t size() const { return size_; }
  index_t pages() const { return static_cast<index_t>(users_.size()); }
  index_t free_pages() const { return static_cast<index_t>(free_.size()); }
  index_t users(std::int32_t page) const { return users_.at(static_cast<std::size_t>(page)); }

  std::int32_t take() {
    require(!free_.empty(), error_code::index_range, "page_pool: all ", pages(),
            " pages are in use; make the pool larger or end a sequence");
    const std::int32_t page = free_.back();
    free_.pop_back();
    users_[static_cast<std::size_t>(page)] = 1;
    return page;
  }
  void share(std::int32_t page) { ++users_.at(static_cast<std::size_t>(page)); }
  void release(std::int32_t page) {
    if (--users_.at(static_cast<std::size_t>(page)) == 0) free_.push_back(page);
  }

 private:
  index_t size_;
  std::vector<index_t> users_;
  std::vector<std::int32_t> free_;
};

class sequence_pages {
 public:
  sequence_pages() = default;
  explicit sequence_pages(std::shared_ptr<page_pool> pool) : pool_(std::move(pool)) {}
  sequence_pages(const sequence_pages& o) : pool_(o.pool_), pages_(o.pages_) {
    for (const std::int32_t page : pages_) pool_->share(page);
  }
  sequence_pages(sequence_pages&& o) noexcept
      : pool_(std::move(o.pool_)), pages_(std::exchange(o.pages_, {})) {}
  sequence_pages& operator=(sequence_pages o) noexcept {
    std::swap(pool_, o.pool_);
    std::swap(pages_, o.pages_);
    return *this;
  }
  ~sequence_pages() { keep(0); }

  bool empty() const { return pool_ == nullptr; }  // no pool: positions stand in order
  page_table<host> table() const {
    if (empty()) return {};
    return {{pages_.data(), {static_cast<index_t>(pages_.size())}}, pool_->size()};
  }

  // Makes positions first .. end - 1 writable: pages that are missing are taken, those that others
  // have, too, are replaced; copy(from, to) for each of these.
  template <class Copy>
  void own(index_t first, index_t end, const Copy& copy) {
    const index_t count = static_cast<index_t>(pages_.size()), needed = pages_for(end);
    const index_t from = std::min(first / pool_->size(), count);
    const auto shared = [&](index_t i) {
      return pool_->users(pages_[static_cast<std::size_t>(i)]) > 1;
    };
    index_t more = std::max<index_t>(needed - count, 0);
    for (index_t i = from; i < std::min(needed, count); ++i) more += shared(i) ? 1 : 0;
    require(more <= pool_->free_pages(), error_code::index_range, "page_pool: positions ", first,
            " .. ", end - 1, " need ", more, " more pages, ", pool_->free_pages(), " of ",
            pool_->pages(), " are free; make the pool larger or end a sequence");
    for (index_t i = from; i < std::min(needed, count); ++i) {
      if (!shared(i)) continue;
      auto& page = pages_[static_cast<std::size_t>(i)];
      const std::int32_t mine = pool_->take();
      copy(page, mine);
      pool_->release(std::exchange(page, mine));
    }
    while (static_cast<index_t>(pages_.size()) < needed) pages_.push_back(pool_->take());
  }
  index_t positions() const {
    return empty() ? 0 : static_cast<index_t>(pages_.size()) * pool_->size();
  }
  // Gives back the pages behind the first `length` positions.
  void keep(index_t length) {
    while (!pages_.empty() && static_cast<index_t>(pages_.size()) > pages_for(length)) {
      pool_->release(pages_.back());
      pages_.pop_back();
    }
  }

 private:
  index_t pages_for(index_t positions) const {
    return (positions + pool_->size() - 1) / pool_->size();
  }

  std::shared_ptr<page_pool> pool_;
  std::vector<std::int32_t> pages_;
};

// Gives back, at the end of a C++ scope, the pages that it took and did not keep.
class kept_pages {
 public:
  explicit kept_pages(sequence_pages& pages) : pages_(pages), length_(pages.positions()) {}
  kept_pages(const kept_pages&) = delete;
  kept_pages& operator=(const kept_pages&) = delete;
  ~kept_pages() { pages_.keep(length_); }
  void keep(index_t length) { length_ = length; }

 private:
  sequence_pages& pages_;
  index_t length_;
};

}  // namespace deepseek
