// SPDX-License-Identifier: Apache-2.0
// A list of launches that were recorded instead of run: each with the type of its kernel, the bytes
// of its arguments and what runs it. Two lists are equal where they launch the same kernels with
// the same arguments: then replaying one is running the other.
#pragma once

#include "deepseek/core/error.hpp"

#include <cstddef>
#include <cstring>
#include <new>
#include <type_traits>
#include <typeindex>
#include <vector>

namespace simulation {

class launch_list {
 public:
  struct entry {
    std::type_index kind;
    std::vector<std::byte> bytes;
    const void* device;
    void (*run)(const void* device, const void* bytes);
    bool operator==(const entry& o) const { return kind == o.kind && bytes == o.bytes; }
  };

  bool empty() const { return entries_.empty(); }
  std::size_t size() const { return entries_.size(); }
  void clear() { entries_.clear(); }
  void run() const {
    for (const entry& e : entries_) e.run(e.device, e.bytes.data());
  }
  bool operator==(const launch_list& o) const { return entries_ == o.entries_; }

  // A kernel, or a call of a library.
  template <class Device, class What>
  void add(const Device& b, const What& what) {
    entries_.push_back(
        {typeid(What), bytes_of(what), &b, [](const void* device, const void* bytes) {
           const auto& on = *static_cast<const Device*>(device);
           alignas(What) std::byte place[sizeof(What)];
           std::memcpy(place, bytes, sizeof place);
           const auto& recorded = *std::launder(reinterpret_cast<const What*>(place));
           if constexpr (requires { on.call(recorded); }) {
             on.call(recorded);
           } else {
             on.launch(recorded);
           }
         }});
  }

 private:
  // As the device would get them, without what lies between members.
  template <class What>
  static std::vector<std::byte> bytes_of(const What& what) {
    if constexpr (std::is_trivially_copyable_v<What>) {
      What copy = what;
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
      __builtin_clear_padding(&copy);
#endif
#endif
      return copied(&copy, sizeof copy);
    } else {  // a pattern made at run time
      deepseek::fail(deepseek::error_code::unsupported,
                     "simulation: a kernel's arguments have memory of their own");
    }
  }
  static std::vector<std::byte> copied(const void* from, std::size_t bytes) {
    const auto* first = static_cast<const std::byte*>(from);
    return {first, first + bytes};
  }

  std::vector<entry> entries_;
};

}  // namespace simulation
