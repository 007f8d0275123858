// SPDX-License-Identifier: Apache-2.0
// Tasks run once each, errors come back in task order, nesting and several callers are safe,
// sleeping workers wake.
#include "deepseek/backend/cpu/thread_pool.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <numeric>
#include <string>

using deepseek::thread_pool;

TEST_CASE("thread_pool: every task runs exactly once") {
  for (int threads : {1, 2, 3, 5}) {
    thread_pool pool(threads);
    CHECK(pool.threads() == threads);
    for (std::ptrdiff_t tasks : {0, 1, 2, 3, 7, 64, 1000}) {
      std::vector<int> ran(static_cast<std::size_t>(tasks), 0);
      pool.parallel(tasks, [&](std::ptrdiff_t i) { ++ran[static_cast<std::size_t>(i)]; });
      CHECK(std::accumulate(ran.begin(), ran.end(), 0) == tasks);
      for (int count : ran) REQUIRE(count == 1);
    }
  }
}

TEST_CASE("thread_pool: many short regions, some after the workers fell asleep") {
  thread_pool pool(3);
  std::ptrdiff_t sums[8] = {};
  for (int repeat = 0; repeat < 3000; ++repeat) {
    if (repeat % 1000 == 999) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    pool.parallel(8, [&](std::ptrdiff_t i) { sums[i] += i; });
  }
  for (std::ptrdiff_t i = 0; i < 8; ++i) CHECK(sums[i] == 3000 * i);
}

TEST_CASE("thread_pool: work is shared") {
  thread_pool pool(2);
  std::mutex guard;
  std::vector<std::thread::id> seen;
  pool.parallel(2, [&](std::ptrdiff_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    std::lock_guard lock(guard);
    seen.push_back(std::this_thread::get_id());
  });
  REQUIRE(seen.size() == 2);
  CHECK(seen[0] != seen[1]);
}

TEST_CASE("thread_pool: the failure of the smallest task is rethrown, the pool stays usable") {
  for (int threads : {1, 2, 3}) {
    thread_pool pool(threads);
    for (int repeat = 0; repeat < 50; ++repeat) {
      int caught = -1;
      try {
        pool.parallel(100, [](std::ptrdiff_t i) {
          if (i >= 17) throw static_cast<int>(i);
        });
      } catch (int i) {
        caught = i;
      }
      REQUIRE(caught == 17);
    }
    int after = 0;
    pool.parallel(1, [&](std::ptrdiff_t) { ++after; });
    CHECK(after == 1);
  }
}

TEST_CASE("thread_pool: a call from inside a task runs there, in order") {
  thread_pool pool(3);
  std::vector<std::vector<std::ptrdiff_t>> order(6);
  pool.parallel(6, [&](std::ptrdiff_t i) {
    const auto here = std::this_thread::get_id();
    pool.parallel(4, [&](std::ptrdiff_t j) {
      if (std::this_thread::get_id() == here) order[static_cast<std::size_t>(i)].push_back(j);
    });
  });
  for (const auto& o : order) CHECK(o == std::vector<std::ptrdiff_t>{0, 1, 2, 3});
}

TEST_CASE("thread_pool: two callers take turns") {
  thread_pool pool(2);
  std::atomic<std::ptrdiff_t> total{0};
  const auto call = [&] {
    for (int i = 0; i < 300; ++i) pool.parallel(5, [&](std::ptrdiff_t t) { total += t; });
  };
  std::thread other(call);
  call();
  other.join();
  CHECK(total == 2 * 300 * 10);
}

TEST_CASE("thread_pool: a senseless number of threads is an error with the number in it") {
  for (int threads : {0, -1, 251}) {
    try {
      thread_pool pool(threads);
      FAIL("no error");
    } catch (const deepseek::error& e) {
      CHECK(e.code() == deepseek::error_code::invalid_argument);
      CHECK(std::string(e.what()).find(std::to_string(threads)) != std::string::npos);
    }
  }
}
