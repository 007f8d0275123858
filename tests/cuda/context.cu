// SPDX-License-Identifier: Apache-2.0
// The cuda context: what it says without a device, and on one its memory limit, what its pool
// keeps, deferred findings, copies, graphs.
#include "deepseek/cuda.cuh"

#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

bool has_device() {
  int count = 0;
  const bool has = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  (void)cudaGetLastError();
  return has;
}

struct bad_index {
  static constexpr int threads = 32;
  ds::fault_place faults;
  const char* object = "test: ids";  // the host's: a literal in the kernel is the device's
  static ds::index_t blocks() { return 1; }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    ds::fault f;
    f.position = 3;
    f.value = 99;
    f.size = 10;
    f.object = object;
    if (block.rank() == 5) faults.tell(block, f);
  }
};

}  // namespace

TEST_CASE("cuda: without a device the error says what to do") {
  if (has_device()) {
    support::skip("a device is there");
    return;
  }
  CHECK_ERROR(ds::error_code::device, "looking for devices", "run on ds::cpu", ds::cuda{});
}

TEST_CASE("cuda: a number of a device that is not there") {
  if (!has_device()) {
    support::skip("no CUDA device");
    return;
  }
  CHECK_ERROR(ds::error_code::device, "device 4711 of", ds::cuda({.device = 4711}));
}

TEST_CASE("cuda: copies, a limit of memory, a finding that is thrown later, a graph") {
  if (!has_device()) {
    support::skip("no CUDA device");
    return;
  }
  const ds::cuda b;
  ds::tensor<float, ds::host, 5> x;
  for (int i = 0; i < 5; ++i) x.data()[i] = static_cast<float>(i);
  const auto there = ds::in_memory<ds::device>(x);
  const auto back = ds::in_memory<ds::host>(there);
  for (int i = 0; i < 5; ++i) CHECK(back.data()[i] == x.data()[i]);
  CHECK(b.read(there.data() + 3) == 3.0F);

  b.launch(bad_index{b.faults()});
  CHECK_ERROR(ds::error_code::index_range, "test: ids[3] is 99", "0 .. 9", b.synchronize());
  b.synchronize();  // said once

  ds::tensor<float, ds::device, 5> y;
  const auto work = [&] { ds::ops::add(b, there, y); };
  ds::cuda_graph graph(b, work);
  graph.launch(b);
  graph.launch(b);
  b.synchronize();
  CHECK(b.read(y.data() + 4) == 8.0F);

  auto& account = ds::device_memory_account::shared();
  account.set_limit(account.used() + 1000);
  CHECK_ERROR(ds::error_code::out_of_memory, "2000 bytes", "pass the limit",
              ds::tensor<std::int8_t, ds::device, 2000>());
  account.set_limit(std::numeric_limits<std::size_t>::max());
}

TEST_CASE("cuda: freed memory is kept while a context lives, until it is told to give it back") {
  if (!has_device()) {
    support::skip("no CUDA device");
    return;
  }
  auto& pools = ds::device_memory_pools::shared();
  constexpr std::size_t much = std::size_t{256} << 20;
  using large = ds::tensor<std::int8_t, ds::device, ds::index_t{much}>;
  {
    const ds::cuda b;
    { const large x; }
    b.synchronize();
    CHECK(pools.reserved(b.device()) >= much);
    b.trim_memory();
    CHECK(pools.reserved(b.device()) < much);
    { const large x; }
    b.synchronize();
    CHECK(pools.reserved(b.device()) >= much);
  }
  CHECK(pools.reserved(0) < much);
}
