// SPDX-License-Identifier: Apache-2.0
// What device memory asks of the runtime, with one that is made up here and needs no device: pools
// of its own that keep what is free while a context lives, up to the limit, and give it back when
// there is nothing left. Blocks are not split or merged; a free one counts as such, and above the
// threshold goes back to the driver, when the host has waited.
#include "deepseek/backend/cuda/memory.cuh"
#include "deepseek/core/tensor.hpp"

#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <map>

namespace ds = deepseek;

namespace {

struct block {
  int pool;
  std::size_t bytes;
  enum { used, freed, free } state;
};
struct pool {
  int device = 0;
  std::uint64_t threshold = 0;
};
struct runtime {
  int current = 0, asked = 0, waits = 0;  // asked: for memory
  std::size_t capacity = 1000;            // of each device
  bool has_pools = true;
  cudaError_t fails_to_wait = cudaSuccess;
  std::map<int, pool> pools;  // by number, from 1
  std::map<char*, block> blocks;

  std::size_t reserved(int number) const {
    std::size_t bytes = 0;
    for (const auto& [at, b] : blocks) bytes += b.pool == number ? b.bytes : 0;
    return bytes;
  }
  void give_back(int number, std::size_t most) {
    for (auto at = blocks.begin(); at != blocks.end() && reserved(number) > most;) {
      const bool goes = at->second.pool == number && at->second.state == block::free;
      if (goes) std::free(at->first);
      at = goes ? blocks.erase(at) : std::next(at);
    }
  }
  std::uint64_t threshold(int device) const {
    for (const auto& [number, p] : pools) {
      if (p.device == device) return p.threshold;
    }
    return 4711;
  }
} now;

int number_of(cudaMemPool_t handle) {
  return static_cast<int>(reinterpret_cast<std::uintptr_t>(handle));
}
std::size_t used() {
  return ds::device_memory_account::shared().used();
}
std::size_t reserved(int device = 0) {
  return ds::device_memory_pools::shared().reserved(device);
}
using bytes = ds::storage<std::byte, ds::device>;

}  // namespace

extern "C" {
cudaError_t cudaGetDevice(int* device) {
  *device = now.current;
  return cudaSuccess;
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t* handle, const cudaMemPoolProps* what) {
  if (!now.has_pools) return cudaErrorNotSupported;
  CHECK(what->allocType == cudaMemAllocationTypePinned);
  CHECK(what->location.type == cudaMemLocationTypeDevice);
  const int number = static_cast<int>(now.pools.size()) + 1;
  now.pools[number].device = what->location.id;
  *handle = reinterpret_cast<cudaMemPool_t>(static_cast<std::uintptr_t>(number));
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t handle, cudaMemPoolAttr which, void* value) {
  REQUIRE(which == cudaMemPoolAttrReleaseThreshold);
  now.pools.at(number_of(handle)).threshold = *static_cast<std::uint64_t*>(value);
  return cudaSuccess;
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t handle, cudaMemPoolAttr which, void* value) {
  REQUIRE(which == cudaMemPoolAttrReservedMemCurrent);
  *static_cast<std::uint64_t*>(value) = now.reserved(number_of(handle));
  return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t handle, std::size_t most) {
  now.give_back(number_of(handle), most);
  return cudaSuccess;
}
cudaError_t cudaMallocFromPoolAsync(void** p, std::size_t size, cudaMemPool_t handle,
                                    cudaStream_t stream) {
  REQUIRE(stream == nullptr);
  const int number = number_of(handle);
  REQUIRE(now.pools.at(number).device == now.current);
  ++now.asked;
  for (auto& [at, b] : now.blocks) {
    if (b.pool != number || b.state == block::used || b.bytes != size) continue;
    b.state = block::used;
    *p = at;
    return cudaSuccess;
  }
  if (now.reserved(number) + size > now.capacity) return cudaErrorMemoryAllocation;
  *p = std::malloc(size);
  now.blocks[static_cast<char*>(*p)] = {number, size, block::used};
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  now.current = device;
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  REQUIRE(stream == nullptr);
  block& b = now.blocks.at(static_cast<char*>(p));
  CHECK(now.pools.at(b.pool).device == now.current);
  b.state = block::freed;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  ++now.waits;
  if (now.fails_to_wait != cudaSuccess) return now.fails_to_wait;
  for (auto& [at, b] : now.blocks) {
    if (b.state == block::freed) b.state = block::free;
  }
  for (const auto& [number, p] : now.pools) {
    if (now.reserved(number) > p.threshold) now.give_back(number, p.threshold);
  }
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t size, cudaStream_t) {
  std::memset(p, value, size);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind,
                            cudaStream_t) {
  std::memcpy(to, from, size);
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
const char* cudaGetErrorName(cudaError_t) {
  return "cudaErrorMadeUp";
}
const char* cudaGetErrorString(cudaError_t) {
  return "made up";
}
}

TEST_CASE("memory pool: on a device without pools a typed error, and nothing is taken") {
  now.has_pools = false;
  CHECK_ERROR(ds::error_code::device, "making a memory pool on device 0", ds::kept_memory(0));
  CHECK_ERROR(ds::error_code::device, "allocating 100 bytes", bytes(100));
  CHECK(used() == 0);
  now.has_pools = true;
}

TEST_CASE("memory pool: what is free is kept while a context lives") {
  constexpr auto all = std::numeric_limits<std::uint64_t>::max();
  { const bytes before(100); }
  CHECK(now.threshold(0) == 0);
  CHECK(reserved() == 100);
  {
    const ds::kept_memory first(0);
    CHECK(now.threshold(0) == all);
    {
      const ds::kept_memory second(0);
      { const bytes x(100), y(300); }
      (void)cudaStreamSynchronize(nullptr);
      CHECK(reserved() == 400);
    }
    CHECK(reserved() == 400);  // one context is left
    const bytes again(300);
    CHECK(reserved() == 400);
    CHECK(used() == 300);
    REQUIRE(ds::device_memory_pools::shared().trim(0) == cudaSuccess);
    CHECK(reserved() == 300);  // what is in use stays
  }
  CHECK(now.threshold(0) == 0);
  CHECK(reserved() == 0);
}

TEST_CASE(
    "memory pool: the last context gives back what is free, and what is freed later goes too") {
  auto* context = new ds::kept_memory(0);
  auto* outlives = new bytes(200);
  { const bytes x(100); }
  delete context;
  CHECK(reserved() == 200);
  delete outlives;
  (void)cudaStreamSynchronize(nullptr);
  CHECK(reserved() == 0);
}

TEST_CASE("memory pool: at most the limit of memory is kept, on each device") {
  auto& pools = ds::device_memory_pools::shared();
  const ds::kept_memory here(0), there(1);
  pools.keep_at_most(250);
  CHECK(now.threshold(0) == 250);
  CHECK(now.threshold(1) == 250);
  { const bytes x(100), y(101), z(102); }
  CHECK(reserved(0) == 303);
  CHECK(reserved(1) == 0);
  (void)cudaStreamSynchronize(nullptr);
  CHECK(reserved(0) <= 250);
  CHECK(reserved(0) > 0);
  now.current = 1;
  { const bytes x(500); }
  CHECK(reserved(1) == 500);
  now.current = 0;
  pools.keep_at_most(std::numeric_limits<std::size_t>::max());
}

TEST_CASE("memory pool: a block is freed on its own device, and the current one stays") {
  const ds::kept_memory here(0), there(1);
  auto* of_this = new bytes(100);
  now.current = 1;
  auto* of_that = new bytes(200);
  delete of_this;  // cudaFreeAsync above looks at the current device
  CHECK(now.current == 1);
  now.current = 0;
  delete of_that;
  CHECK(now.current == 0);
  CHECK(used() == 0);
}

TEST_CASE("memory pool: where nothing is left what is kept is given back and asked for once more") {
  const ds::kept_memory context(0);
  const bytes stays(100);
  { const bytes x(300), y(400); }  // kept: 800 of 1000, in blocks that are too small
  now.asked = now.waits = 0;
  const bytes large(900);
  CHECK(now.asked == 2);
  CHECK(now.waits == 1);
  CHECK(reserved() == 1000);

  now.asked = 0;
  CHECK_ERROR(ds::error_code::out_of_memory, "allocating 50 bytes", "raise", bytes(50));
  CHECK(now.asked == 2);
  CHECK(used() == 1000);
}

TEST_CASE("memory pool: a device that is lost while it is waited for is said to be") {
  const ds::kept_memory context(0);
  now.fails_to_wait = cudaErrorIllegalAddress;
  CHECK_ERROR(ds::error_code::device_fatal, "allocating 2000 bytes", bytes(2000));
  now.fails_to_wait = cudaSuccess;
  CHECK(used() == 0);
}
