// SPDX-License-Identifier: Apache-2.0
// A fixed number of threads, the caller among them, that run independent tasks.
// parallel(tasks, f) calls f(0), ..., f(tasks - 1), each once, on any thread, and returns when all
// are done. Each thread begins with its own contiguous share and then takes what others have left,
// so results must not depend on who ran a task: tasks write to places of their own, and sums over
// tasks are made afterwards in task order. Errors: of the tasks that throw, the one with the
// smallest number is rethrown on the caller; later tasks may not run. A call from inside a task
// runs on that thread alone. Calls from several threads wait for each other. Idle workers spin for
// some microseconds, then sleep. In a forked child, which has no workers, the caller runs all
// tasks.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <unistd.h>  // getpid

#include "deepseek/config.hpp"
#include "deepseek/core/error.hpp"

namespace deepseek {

class thread_pool {
 public:
  static constexpr int most_threads = 250;

  explicit thread_pool(int threads) : threads_(threads) {
    require(threads >= 1 && threads <= most_threads, error_code::invalid_argument,
            "thread_pool: ", threads, " threads were asked for; give 1 to ", most_threads);
    if (threads == 1) return;
    shares_ = std::make_unique<share[]>(static_cast<std::size_t>(threads));
    workers_.reserve(static_cast<std::size_t>(threads - 1));
    try {
      for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
    } catch (...) {
      stop();
      throw;
    }
  }
  ~thread_pool() { stop(); }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  int threads() const noexcept { return threads_; }

  template <class F>
  void parallel(std::ptrdiff_t tasks, F&& f) {
    if (tasks <= 0) return;
    void* context = const_cast<void*>(static_cast<const void*>(std::addressof(f)));
    constexpr auto one = &run_task<std::remove_reference_t<F>>;
    if (threads_ == 1 || tasks == 1 || inside_task()) {
      for (std::ptrdiff_t i = 0; i < tasks; ++i) one(context, i);
      return;
    }
    run(tasks, {one, context});
  }

 private:
  // One task. Never inlined: a body compiled twice, here for one thread and there for several, may
  // be contracted to fused multiply-adds in two ways, and then bits depend on threads.
  template <class Body>
#if defined(__GNUC__) && !defined(__clang__)
  __attribute__((noinline, noclone))
#else
  __attribute__((noinline))
#endif
  static void
  run_task(void* context, std::ptrdiff_t i) {
    (*static_cast<Body*>(context))(i);
  }

  struct callback {
    void (*call)(void*, std::ptrdiff_t) = nullptr;
    void* context = nullptr;
  };
  struct alignas(64) share {
    std::atomic<std::ptrdiff_t> next{0};
    std::ptrdiff_t end = 0;
  };
  // state_: a region's number, whether it is open, and how many workers are inside it.
  static constexpr std::uint32_t inside_mask = 255, open_bit = 256, region_step = 512;

  static bool& inside_task() {
    thread_local bool inside = false;
    return inside;
  }

  static void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  void run(std::ptrdiff_t tasks, callback f) {
    std::lock_guard lock(caller_);
    f_ = f;
    for (int i = 0; i < threads_; ++i) {
      shares_[slot(i)].next.store(tasks * i / threads_, std::memory_order_relaxed);
      shares_[slot(i)].end = tasks * (i + 1) / threads_;
    }
    first_failed_.store(tasks, std::memory_order_relaxed);
    const std::uint32_t number = state_.load(std::memory_order_relaxed) & ~(open_bit | inside_mask);
    state_.store((number + region_step) | open_bit, std::memory_order_seq_cst);
    state_.notify_all();
    take_tasks(0);
    close();
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

  // A worker that has not come in by now finds the door shut; those inside are waited for.
  void close() {
    for (int turn = 0;; ++turn) {
      std::uint32_t seen = state_.load(std::memory_order_acquire);
      if ((seen & inside_mask) == 0 &&
          state_.compare_exchange_weak(seen, seen & ~open_bit, std::memory_order_acq_rel)) {
        return;
      }
      turn < 4000 ? relax() : std::this_thread::yield();
    }
  }

  void take_tasks(int self) {
    inside_task() = true;
    for (int step = 0; step < threads_; ++step) {
      share& from = shares_[slot((self + step) % threads_)];
      for (;;) {
        const std::ptrdiff_t i = from.next.fetch_add(1, std::memory_order_relaxed);
        if (i >= from.end) break;
        if (i < first_failed_.load(std::memory_order_relaxed)) run_task(i);
      }
    }
    inside_task() = false;
  }

  void run_task(std::ptrdiff_t i) {
    try {
      f_.call(f_.context, i);
    } catch (...) {
      std::lock_guard lock(failing_);
      if (i >= first_failed_.load(std::memory_order_relaxed)) return;
      first_failed_.store(i, std::memory_order_relaxed);
      failure_ = std::current_exception();
    }
  }

  void work(int self) {
    std::uint32_t last = 0;
    for (;;) {
      std::uint32_t seen = next_region(last);
      if (stopping_.load(std::memory_order_relaxed)) return;
      if (!state_.compare_exchange_strong(seen, seen + 1, std::memory_order_acq_rel)) continue;
      last = seen / region_step;
      take_tasks(self);
      state_.fetch_sub(1, std::memory_order_release);
    }
  }

  // Waits until a region other than `last` is open.
  std::uint32_t next_region(std::uint32_t last) {
    for (int turn = 0;; ++turn) {
      const std::uint32_t seen = state_.load(std::memory_order_acquire);
      if ((seen & open_bit) != 0 && seen / region_step != last) return seen;
      if (turn < 4000) {
        relax();
      } else if (turn < 4100) {
        std::this_thread::yield();
      } else {
        state_.wait(seen, std::memory_order_acquire);
      }
    }
  }

  void stop() {
    if (workers_.empty()) return;
    if (::getpid() != owner_) return forget_workers();
    stopping_.store(true, std::memory_order_relaxed);
    const std::uint32_t number = state_.load(std::memory_order_relaxed) & ~(open_bit | inside_mask);
    state_.store((number + region_step) | open_bit, std::memory_order_seq_cst);
    state_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

  // In a forked child the workers are the parent's, and their handles may name threads that the
  // child made since (memory of stacks is used again): they are put away untouched.
  void forget_workers() {
    static auto* const forgotten = new std::vector<std::vector<std::thread>>;
    static std::mutex guard;
    std::lock_guard lock(guard);
    forgotten->push_back(std::move(workers_));
  }

  static std::size_t slot(int i) {
    return static_cast<std::size_t>(i);
  }

  int threads_;
  std::unique_ptr<share[]> shares_;
  std::vector<std::thread> workers_;
  callback f_;
  std::mutex caller_, failing_;
  std::exception_ptr failure_;
  std::atomic<std::ptrdiff_t> first_failed_{0};
  std::atomic<bool> stopping_{false};
  const ::pid_t owner_ = ::getpid();
  alignas(64) std::atomic<std::uint32_t> state_{0};
};

}  // namespace deepseek
