// SPDX-License-Identifier: Apache-2.0
// Memory that each block of a kernel needs, in shared memory where it fits, else in the workspace:
// the launch then goes in parts, so that the workspace stays small.
#pragma once

#include "deepseek/backend/cuda/device_backend.hpp"

namespace deepseek {

struct block_room {
  std::byte* outside = nullptr;  // null: in shared memory
  std::size_t bytes = 0;         // of a block, a multiple of 16

  DEEPSEEK_HOST_DEVICE std::size_t shared_bytes() const { return outside == nullptr ? bytes : 0; }
  template <class Block>
  DEEPSEEK_HOST_DEVICE std::byte* of(const Block& block) const {
    return outside == nullptr ? block.shared()
                              : outside + static_cast<std::size_t>(block.index()) * bytes;
  }
};

// run(first, count, room) for all of 0 .. n - 1, a block each with `bytes` of memory.
template <DeviceBackend B, class F>
void run_with_room(const B& b, index_t n, std::size_t bytes, const F& run) {
  constexpr std::size_t most_shared = std::size_t{96} << 10, most_outside = std::size_t{64} << 20;
  if (n <= 0) return;
  bytes = (bytes + 15) / 16 * 16;
  if (bytes <= most_shared) return run(index_t{0}, n, block_room{nullptr, bytes});
  const index_t fit = static_cast<index_t>(most_outside / bytes), part = fit > 132 ? fit : 132;
  for (index_t first = 0; first < n; first += part) {
    const index_t count = n - first < part ? n - first : part;
    const scope freed(b.workspace());
    std::byte* const memory =
        b.workspace().template make<std::byte, dyn>(count * static_cast<index_t>(bytes)).data();
    run(first, count, block_room{memory, bytes});
  }
}

}  // namespace deepseek
