// SPDX-License-Identifier: Apache-2.0
// Which plain loops ran in place of kernels, and how often. The reference counts nothing; a backend
// that derives from it and has kernels of its own does (cpu::loops), so that a product which fell
// back is seen. Counting allocates nothing and may happen on several threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace deepseek {

class loop_counts {
 public:
  static constexpr int most_ops = 32;  // more share the last place

  // name: an op's, of static lifetime.
  void add(std::string_view name) {
    for (int i = 0; i < most_ops; ++i) {
      const char* there = nullptr;
      if (places_[i].name.compare_exchange_strong(there, name.data()) || there == name.data() ||
          i + 1 == most_ops) {
        places_[i].calls.fetch_add(1, std::memory_order_relaxed);
        return;
      }
    }
  }
  std::uint64_t calls() const {
    std::uint64_t sum = 0;
    for (const place& p : places_) sum += p.calls.load(std::memory_order_relaxed);
    return sum;
  }
  std::uint64_t calls(std::string_view name) const {
    std::uint64_t sum = 0;
    for (const place& p : places_) {
      const char* const there = p.name.load();
      if (there != nullptr && name == there) sum += p.calls.load(std::memory_order_relaxed);
    }
    return sum;
  }
  // "gemm 2, weight_gemm 1"; empty where none ran.
  std::string text() const {
    std::string out;
    for (const place& p : places_) {
      const char* const there = p.name.load();
      const std::uint64_t calls = p.calls.load(std::memory_order_relaxed);
      if (there == nullptr || calls == 0) continue;
      out += (out.empty() ? "" : ", ") + std::string(there) + " " + std::to_string(calls);
    }
    return out;
  }
  void clear() {
    for (place& p : places_) p.calls.store(0, std::memory_order_relaxed);
  }

 private:
  struct place {
    std::atomic<const char*> name{nullptr};
    std::atomic<std::uint64_t> calls{0};
  };
  place places_[most_ops];
};

}  // namespace deepseek
