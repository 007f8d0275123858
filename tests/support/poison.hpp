// SPDX-License-Identifier: Apache-2.0
// Buffers that notice what must not happen: writes beyond the ends, reads beyond the end, changed
// inputs. guarded<T>: filled with NaN (or a given value), 64 canary bytes on each side. fenced<T>:
// its last element touches a page that may not be read or written: one element too far is SIGSEGV.
#pragma once

#include <deepseek/core/dtype.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

namespace support {

// NaN for floating types; for integers a value that no test expects.
template <class T>
T poison() {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(std::numeric_limits<T>::max() - 0x2a);
  } else {
    return static_cast<T>(std::numeric_limits<float>::quiet_NaN());
  }
}

// Memory with canaries; `skew` moves the data that many bytes off a 64-byte boundary.
class canary_memory {
 public:
  canary_memory(std::size_t bytes, std::size_t skew);
  unsigned char* data() { return memory_.data() + start_; }
  const unsigned char* data() const { return memory_.data() + start_; }
  bool intact() const;

 private:
  std::vector<unsigned char> memory_;
  std::size_t start_, bytes_;
};

// Memory whose end is the end of a mapped page; the pages before and after are closed.
class fenced_memory {
 public:
  explicit fenced_memory(std::size_t bytes);
  ~fenced_memory();
  fenced_memory(const fenced_memory&) = delete;
  fenced_memory& operator=(const fenced_memory&) = delete;
  unsigned char* data() const { return data_; }

 private:
  unsigned char *map_ = nullptr, *data_ = nullptr;
  std::size_t mapped_ = 0;
};

template <class T>
class guarded {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit guarded(std::size_t n, T fill = poison<T>(), std::size_t skew_elements = 0)
      : memory_(n * sizeof(T), skew_elements * sizeof(T)), size_(n) {
    for (std::size_t i = 0; i < n; ++i) data()[i] = fill;
    remember();
  }
  explicit guarded(const std::vector<T>& from, std::size_t skew_elements = 0)
      : guarded(from.size(), T(), skew_elements) {
    for (std::size_t i = 0; i < size_; ++i) data()[i] = from[i];
    remember();
  }

  T* data() { return reinterpret_cast<T*>(memory_.data()); }
  const T* data() const { return reinterpret_cast<const T*>(memory_.data()); }
  std::size_t size() const { return size_; }
  T& operator[](std::size_t i) { return data()[i]; }
  const T& operator[](std::size_t i) const { return data()[i]; }
  std::vector<T> values() const { return std::vector<T>(data(), data() + size_); }

  bool intact() const { return memory_.intact(); }  // the canaries are as they were
  void remember() { copy_.assign(memory_.data(), memory_.data() + size_ * sizeof(T)); }
  bool unchanged() const {  // bytewise since construction or remember()
    return size_ == 0 || std::memcmp(copy_.data(), memory_.data(), copy_.size()) == 0;
  }

 private:
  canary_memory memory_;
  std::size_t size_;
  std::vector<unsigned char> copy_;
};

template <class T>
class fenced {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit fenced(std::size_t n, T fill = poison<T>()) : memory_(n * sizeof(T)), size_(n) {
    for (std::size_t i = 0; i < n; ++i) data()[i] = fill;
  }
  explicit fenced(const std::vector<T>& from) : fenced(from.size()) {
    for (std::size_t i = 0; i < size_; ++i) data()[i] = from[i];
  }
  T* data() { return reinterpret_cast<T*>(memory_.data()); }
  const T* data() const { return reinterpret_cast<const T*>(memory_.data()); }
  std::size_t size() const { return size_; }
  T& operator[](std::size_t i) { return data()[i]; }
  std::vector<T> values() const { return std::vector<T>(data(), data() + size_); }

 private:
  fenced_memory memory_;
  std::size_t size_;
};

// Bytewise equality: tells +0 from -0 and one NaN from another.
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  static_assert(std::is_trivially_copyable_v<T>);
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace support
