// SPDX-License-Identifier: Apache-2.0
// A forked child goes on with the context of its parent: products have the same bits there, though
// the threads of the pool stayed behind; the context ends there without waiting for them, and the
// child may make contexts of its own. The parent goes on, too.
#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "deepseek/backend/cpu/gemm.hpp"

namespace ds = deepseek;

namespace {

constexpr ds::index_t n = 256;
using matrix = ds::view<float, ds::host, ds::dyn, ds::dyn>;
using numbers = std::vector<float>;

numbers product(const ds::cpu& b, numbers& a) {
  numbers c(n * n);
  ds::ops::gemm(b, matrix(a.data(), {n, n}), matrix(a.data(), {n, n}), matrix(c.data(), {n, n}));
  return c;
}

bool same(const numbers& a, const numbers& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// What the child returns: 0, or the number of what went wrong.
int in_child(std::unique_ptr<ds::cpu> inherited, numbers& a, const numbers& want) {
  for (int i = 0; i < 3; ++i) {
    if (!same(product(*inherited, a), want)) return 1;
  }
  const auto own = std::make_unique<ds::cpu>(ds::cpu_config{2});
  if (!same(product(*own, a), want)) return 2;
  inherited.reset();  // its handles may name the threads of `own` by now
  return same(product(*own, a), want) ? 0 : 3;
}

// The child's exit status; -1 where it had to be ended after `limit`.
int status_of(pid_t child, std::chrono::seconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > end) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      return -1;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
}

}  // namespace

TEST_CASE("fork: a child goes on with a context of two threads, and so does its parent") {
  numbers a(n * n);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i * 37 % 101) / 50 - 1;
  for (int round = 0; round < 3; ++round) {
    auto b = std::make_unique<ds::cpu>(ds::cpu_config{2});
    const numbers want = product(*b, a);
    if (round == 2) std::this_thread::sleep_for(std::chrono::milliseconds(50));  // workers sleep
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) ::_exit(in_child(std::move(b), a, want));
    CHECK(same(product(*b, a), want));
    CHECK(status_of(child, std::chrono::seconds(60)) == 0);
    CHECK(same(product(*b, a), want));
  }
}
