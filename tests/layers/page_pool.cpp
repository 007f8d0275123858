// SPDX-License-Identifier: Apache-2.0
// Pages: taken, shared, made one's own before writing, given back; a pool too small changes
// nothing.
#include "deepseek/layers/page_pool.hpp"

#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

using copies = std::vector<std::pair<ds::index_t, ds::index_t>>;
struct note {
  copies& all;
  void operator()(ds::index_t from, ds::index_t to) const { all.emplace_back(from, to); }
};
std::vector<std::int32_t> numbers(const ds::sequence_pages& s) {
  const auto t = s.table();
  return {t.pages.data(), t.pages.data() + t.pages.extent(0)};
}

}  // namespace

TEST_CASE("page_pool: pages are counted") {
  const auto pool = std::make_shared<ds::page_pool>(ds::paging{.pages = 4, .size = 8});
  copies copied;
  ds::sequence_pages a(pool);
  CHECK(!a.empty());
  CHECK(a.positions() == 0);
  a.own(0, 17, note{copied});
  CHECK(a.positions() == 24);
  CHECK(pool->free_pages() == 1);
  a.own(17, 24, note{copied});  // fits what is there
  CHECK(pool->free_pages() == 1);
  a.keep(8);
  CHECK(a.positions() == 8);
  CHECK(pool->free_pages() == 3);
  a.keep(20);  // takes nothing
  CHECK(a.positions() == 8);
  CHECK(copied.empty());
  {
    ds::sequence_pages other(pool);
    other.own(0, 24, note{copied});
    CHECK(pool->free_pages() == 0);
    CHECK_ERROR(ds::error_code::index_range, "positions 8 .. 8 need 1 more", "0 of 4 are free",
                a.own(8, 9, note{copied}));
    CHECK(a.positions() == 8);
  }
  CHECK(pool->free_pages() == 3);
}

TEST_CASE("page_pool: what two share is copied by the one that writes") {
  const auto pool = std::make_shared<ds::page_pool>(ds::paging{.pages = 5, .size = 4});
  copies copied;
  ds::sequence_pages a(pool);
  a.own(0, 10, note{copied});
  const auto before = numbers(a);
  ds::sequence_pages fork(a);
  CHECK(numbers(fork) == before);
  CHECK(pool->free_pages() == 2);
  for (const auto page : before) CHECK(pool->users(page) == 2);
  fork.own(10, 11, note{copied});  // in the last page, which both hold half full
  REQUIRE(copied.size() == 1);
  CHECK(copied[0].first == before[2]);
  CHECK(copied[0].second == numbers(fork)[2]);
  CHECK(numbers(a) == before);
  CHECK(pool->users(before[2]) == 1);
  a.own(10, 11, note{copied});  // alone with it now
  CHECK(copied.size() == 1);
  CHECK(pool->free_pages() == 1);
  // Two pages would have to be copied, one is free: nothing happens.
  CHECK_ERROR(ds::error_code::index_range, "need 2 more", a.own(0, 8, note{copied}));
  CHECK(numbers(a) == before);
  CHECK(copied.size() == 1);
  fork = ds::sequence_pages();
  CHECK(fork.empty());
  CHECK(pool->free_pages() == 2);
  for (const auto page : before) CHECK(pool->users(page) == 1);
  ds::sequence_pages moved(std::move(a));
  CHECK(numbers(moved) == before);
  moved.keep(0);
  CHECK(pool->free_pages() == 5);
}

TEST_CASE("page_pool: what a scope took and did not keep comes back") {
  const auto pool = std::make_shared<ds::page_pool>(ds::paging{.pages = 4, .size = 4});
  copies copied;
  ds::sequence_pages a(pool);
  a.own(0, 4, note{copied});
  try {
    ds::kept_pages pages(a);
    a.own(4, 12, note{copied});
    throw 1;
  } catch (int) {
  }
  CHECK(a.positions() == 4);
  {
    ds::kept_pages pages(a);
    a.own(4, 12, note{copied});
    pages.keep(8);
  }
  CHECK(a.positions() == 8);
}

TEST_CASE("page_pool: sizes") {
  using code = ds::error_code;
  CHECK_ERROR(code::invalid_argument, "0 pages of 64", ds::page_pool(ds::paging{}));
  CHECK_ERROR(code::overflow, "2147483648 pages",
              ds::page_pool(ds::paging{.pages = ds::index_t{1} << 31, .size = 1}));
  CHECK_ERROR(code::invalid_argument, "2 pages of 0",
              ds::page_pool(ds::paging{.pages = 2, .size = 0}));
  CHECK(ds::sequence_pages().table().size == 0);
}
