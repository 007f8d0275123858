// SPDX-License-Identifier: Apache-2.0
// A launch runs on a stack of its own while that of the host is closed: a kernel that got a pointer
// to a local variable, or a reference to one, is SIGSEGV here as it is an illegal address on a GPU.
// Only the main thread's launches are watched, and none under the address sanitizer.
#pragma once

#include "simulation/fibers.hpp"

#include <cstdint>
#include <exception>
#include <utility>

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

namespace simulation {

// All whole pages of the main thread's stack from `here` up.
class closed_stack {
 public:
  explicit closed_stack(const void* here) {
#if defined(__linux__) && !DEEPSEEK_ASAN
    if (gettid() != getpid()) return;
    const std::uintptr_t page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const std::uintptr_t first = (reinterpret_cast<std::uintptr_t>(here) + page - 1) / page * page;
    const std::uintptr_t end = end_of_stack() / page * page;
    if (end <= first) return;
    first_ = reinterpret_cast<void*>(first);
    bytes_ = end - first;
    (void)mprotect(first_, bytes_, PROT_NONE);
#else
    (void)here;
#endif
  }
  ~closed_stack() {
    if (bytes_ > 0) (void)mprotect(first_, bytes_, PROT_READ | PROT_WRITE);
  }
  closed_stack(const closed_stack&) = delete;
  closed_stack& operator=(const closed_stack&) = delete;

 private:
  static std::uintptr_t end_of_stack() {
    static const std::uintptr_t end = [] {
      pthread_attr_t about;
      void* low = nullptr;
      std::size_t size = 0;
      if (pthread_getattr_np(pthread_self(), &about) != 0) return std::uintptr_t{0};
      (void)pthread_attr_getstack(&about, &low, &size);
      (void)pthread_attr_destroy(&about);
      return reinterpret_cast<std::uintptr_t>(low) + size;
    }();
    return end;
  }
  void* first_ = nullptr;
  std::size_t bytes_ = 0;
};

// Runs f, which stands on the heap, beside the host's stack; what it throws comes back.
template <class F>
class beside_the_stack {
 public:
  explicit beside_the_stack(F f) : f_(std::move(f)) {}
  void run() {
    volatile char room[2 << 14];  // so that no caller's variable is in a page with this
    room[0] = 0;
    here_ = const_cast<const char*>(room);
    on_.start(&body, this);
    on_.resume();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  static void body(void* self) {
    auto& me = *static_cast<beside_the_stack*>(self);
    const closed_stack closed(me.here_);
    try {
      me.f_();
    } catch (...) {
      me.error_ = std::current_exception();
    }
  }
  F f_;
  fiber on_;
  const void* here_ = nullptr;
  std::exception_ptr error_;
};

}  // namespace simulation
