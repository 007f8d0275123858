// SPDX-License-Identifier: Apache-2.0
// Tensors, arenas, `new` and what it aligns come from managed memory in programs that link
// memory.cpp, and go back there, and variables and constants stand there; malloc does not. With a
// runtime that is made up here, for this needs no device: it also frees while it allocates, as the
// real one does.
#include "deepseek/core/arena.hpp"
#include "deepseek/core/tensor.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include <cuda_runtime.h>

namespace ds = deepseek;

namespace {

struct given {
  const char* first;
  std::size_t bytes;
};
given from_runtime[16];
int blocks_given = 0;

bool is_managed(const void* p) {
  for (const given* g = from_runtime; g < from_runtime + blocks_given; ++g) {
    if (p >= g->first && p < g->first + g->bytes) return true;
  }
  return false;
}

struct alignas(4096) page {
  char bytes[5000];
};

}  // namespace

extern "C" cudaError_t cudaGetDeviceCount(int* count) {
  std::free(std::malloc(8));
  *count = 1;
  return cudaSuccess;
}
extern "C" cudaError_t cudaMallocManaged(void** p, std::size_t bytes, unsigned) {
  std::free(std::malloc(8));
  *p = std::aligned_alloc(64, bytes);
  from_runtime[blocks_given++] = {static_cast<const char*>(*p), bytes};
  return cudaSuccess;
}

extern "C" cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) {
  return cudaMallocManaged(p, bytes, 0);
}

extern "C" cudaError_t cudaHostRegister(void* p, std::size_t bytes, unsigned) {
  from_runtime[blocks_given++] = {static_cast<const char*>(p), bytes};
  return cudaSuccess;
}
extern "C" cudaError_t cudaGetLastError() {
  return cudaSuccess;
}

TEST_CASE("managed memory: what device programs allocate") {
  int before = 0;
  CHECK(is_managed(&before));
  static const int constants[] = {1, 2, 3};
  static int counter = 0;
  CHECK(is_managed(constants + before));
  CHECK(is_managed(&counter));
  for (int round = 0; round < 3; ++round) {
    const ds::tensor<float, ds::host, ds::dyn> small({10}), large({1 << 20}), huge({1 << 25});
    ds::arena<ds::host> scratch;
    const auto row = scratch.make<float, ds::dyn>(100'000);
    for (const float* p : {small.data(), large.data(), huge.data(), as_const(row).data()}) {
      CHECK(is_managed(p));
      CHECK(reinterpret_cast<std::uintptr_t>(p) % ds::memory<ds::host>::alignment == 0);
    }
    CHECK(is_managed(huge.data() + (1 << 25) - 1));
    const std::vector<int> numbers(100);
    CHECK(is_managed(numbers.data()));
    const auto aligned = std::make_unique<page>();
    CHECK(is_managed(aligned.get()));
    CHECK(reinterpret_cast<std::uintptr_t>(aligned.get()) % alignof(page) == 0);
    void* const plain = std::malloc(100);
    CHECK(!is_managed(plain));
    std::free(plain);
    if (round == 1) before = blocks_given;
  }
  CHECK(blocks_given == before);  // freed blocks are used again
}
