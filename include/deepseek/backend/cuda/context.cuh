// SPDX-License-Identifier: Apache-2.0
// The CUDA backend: a device, a stream, a workspace arena, the product library. Work is queued in
// order on the stream; what a kernel found wrong with indices is thrown by a later call or by
// synchronize(). After an error that loses the device every call refuses with device_fatal.
// Moving a context keeps its workspace; a context is not shared by threads that run together.
#pragma once

#include "deepseek/backend/cuda/architecture.cuh"
#include "deepseek/backend/cuda/block.cuh"
#include "deepseek/backend/cuda/device_backend.hpp"
#include "deepseek/backend/cuda/device_calls.cuh"
#include "deepseek/backend/cuda/library.cuh"
#include "deepseek/backend/cuda/memory.cuh"
#include "deepseek/backend/cuda/tile_map.cuh"

#include <memory>
#include <type_traits>

namespace deepseek {

struct cuda_config {
  int device = 0;                                 // >= 0
  std::size_t memory_limit = 0;                   // bytes of all contexts together; 0: none
  float_products products = float_products::f32;  // tf32: faster, 10 bits of fraction
  fp8_products fp8 = fp8_products::f32;           // tensor_cores: faster, sums of about 14 bits
  bool deterministic = true;                      // same bits each run
  bool warp_groups = true;        // use what only sm_90a has; false: the kernels of sm_80
  bool clusters = true;           // of blocks, on 9.0 and later; false: wide rows are read again
  cudaStream_t stream = nullptr;  // null: a stream of the context's own
};

// What cuda and a test's backend over managed memory share.
template <class Space>
class basic_cuda {
 public:
  using space = Space;
  using runs_kernels = void;

  explicit basic_cuda(const cuda_config& config = {}) : parts_(std::make_unique<parts>(config)) {}

  arena<Space>& workspace() const { return parts_->workspace; }
  std::string_view name() const { return "cuda"; }
  int device() const { return parts_->device; }
  cudaStream_t stream() const { return parts_->stream; }
  bool deterministic() const { return parts_->deterministic; }
  fault_place faults() const { return {parts_->asked.data(), parts_->found}; }
  // Dynamic shared memory that a kernel may ask for.
  std::size_t most_shared_bytes() const {
    int bytes = 0;
    check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, parts_->device),
          "asking for its shared memory");
    return static_cast<std::size_t>(bytes) - reserved_bytes;
  }

  // What only compute capability 9.0 has (tile_map.cuh).
  bool has_warp_groups() const { return parts_->warp_groups; }
  // Blocks of a cluster (cluster.hpp); 1: there are none.
  int largest_cluster() const { return parts_->largest_cluster; }
  index_t multiprocessors() const { return parts_->multiprocessors; }
  bulk::tile_map tile_map(const bulk::tile_source& source) const { return make_tile_map(source); }

  template <class Kernel>
  void launch(const Kernel& kernel) const {
    static_assert(
        std::is_trivially_copy_constructible_v<Kernel> && std::is_trivially_destructible_v<Kernel>,
        "deepseek::cuda: a kernel gets its arguments as plain bytes, and one of them owns "
        "memory of the host; any_pattern does: name the pattern's type, or write out what it "
        "shows, list_blocks(pattern, {queries, keys}), and pass "
        "block_list(in_memory<device>(...))");
    const index_t blocks = kernel.blocks();
    if (blocks <= 0) return;
    before_work();
    require(blocks <= std::numeric_limits<std::int32_t>::max(), error_code::overflow,
            "cuda: ", blocks, " blocks of one launch; use a smaller batch");
    const std::size_t bytes = shared_bytes_of(kernel);
    if (bytes > shared_bytes_unasked) {
      check(cudaFuncSetAttribute(run_kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(bytes)),
            "asking for shared memory");
    }
    run_blocks(kernel, static_cast<unsigned>(blocks), bytes);
    if constexpr (std::is_same_v<Space, host>) synchronize();
  }

  bool library_offers(const deepseek::library_product& p) const {
    before_work();
    return parts_->products.offers(p);
  }
  bool library_product(const deepseek::library_product& p) const {
    before_work();
    const bool taken = parts_->products.run(p, parts_->stream);
    if constexpr (std::is_same_v<Space, host>) synchronize();
    return taken;
  }

  void sum_before(const sums_before& call) const { run_library(call, "adding up numbers"); }
  void sort(const sorted_pairs& call) const { run_library(call, "sorting"); }

  // Waits for all that was launched and throws what went wrong in it.
  void synchronize() const {
    refuse_if_lost();
    check(cudaStreamSynchronize(parts_->stream), "running kernels");
    throw_if_found();
  }
  // Waits, and gives the driver the device memory that is kept for allocations to come.
  void trim_memory() const {
    synchronize();
    check(cudaSetDevice(parts_->device), "choosing");
    check(device_memory_pools::shared().trim(parts_->device), "giving memory back");
  }
  template <class T>
  T read(const T* at) const {
    T value{};
    before_work();
    cudaStreamCaptureStatus recording{};
    check(cudaStreamIsCapturing(parts_->stream, &recording), "asking a stream");
    require(recording == cudaStreamCaptureStatusNone, error_code::unsupported,
            "cuda: a number is read back while launches are recorded (an op of this net waits for "
            "the device); launch it without a graph");
    check(cudaMemcpyAsync(&value, at, sizeof(T), cudaMemcpyDefault, parts_->stream), "reading");
    synchronize();
    return value;
  }

 private:
  struct parts {
    explicit parts(const cuda_config& config)
        : device(open(config)),
          kept(device),
          products(config.products, config.fp8),
          deterministic(config.deterministic) {
      stream = config.stream;
      owns_stream = stream == nullptr;
      if (!owns_stream) require_ordered(stream, device);
      if (owns_stream) require_cuda(cudaStreamCreate(&stream), "making a stream", device);
      // Pinned and mapped: a kernel writes a finding, the host looks without a copy.
      void* pinned = nullptr;
      require_cuda(cudaHostAlloc(&pinned, sizeof(fault), cudaHostAllocMapped), "pinning memory",
                   device);
      found = new (pinned) fault;
      warp_groups = config.warp_groups && deepseek::has_warp_groups(device);
      if (config.clusters) largest_cluster = deepseek::largest_cluster(device);
      require_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
                   "counting its multiprocessors", device);
    }
    parts(const parts&) = delete;
    parts& operator=(const parts&) = delete;
    ~parts() {
      (void)cudaStreamSynchronize(stream);
      if (owns_stream) (void)cudaStreamDestroy(stream);
      if (found != nullptr) (void)cudaFreeHost(found);
    }
    // Copies and allocations go through the default stream, which a non-blocking stream ignores.
    static void require_ordered(cudaStream_t given, int device) {
      unsigned flags = 0;
      require_cuda(cudaStreamGetFlags(given, &flags), "asking a stream", device);
      require((flags & cudaStreamNonBlocking) == 0, error_code::invalid_argument,
              "cuda: the stream given is non-blocking, so copies would not wait for it; make it "
              "with cudaStreamCreate, or let the context make one");
    }
    static int open(const cuda_config& config) {
      int count = 0;
      require_cuda(cudaGetDeviceCount(&count), "looking for devices");
      require(config.device >= 0 && config.device < count, error_code::device, "cuda: device ",
              config.device, " of ", count, "; pass a number from 0 to ", count - 1);
      require_cuda(cudaSetDevice(config.device), "opening", config.device);
      if (config.memory_limit > 0) {
        device_memory_account::shared().set_limit(config.memory_limit);
        device_memory_pools::shared().keep_at_most(config.memory_limit);
      }
      return config.device;
    }
    int device;
    kept_memory kept;  // goes after all that is allocated below
    cudaStream_t stream = nullptr;
    bool owns_stream = false;
    fault* found = nullptr;                     // pinned and mapped
    storage<fault, deepseek::device> asked{1};  // the same, near the kernels
    arena<Space> workspace;
    product_library products;
    bool deterministic;
    bool warp_groups = false;
    int largest_cluster = 1;
    int multiprocessors = 0;
    bool lost = false;
  };

  template <class Kernel>
  void run_blocks(const Kernel& kernel, unsigned blocks, std::size_t bytes) const {
    if constexpr (requires { kernel.cluster_blocks(); }) {
      cudaLaunchAttribute cluster{};
      cluster.id = cudaLaunchAttributeClusterDimension;
      cluster.val.clusterDim.x = static_cast<unsigned>(kernel.cluster_blocks());
      cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
      cudaLaunchConfig_t launch{};
      launch.gridDim = dim3(blocks);
      launch.blockDim = dim3(Kernel::threads);
      launch.dynamicSmemBytes = bytes;
      launch.stream = parts_->stream;
      launch.attrs = &cluster;
      launch.numAttrs = 1;
      check(cudaLaunchKernelEx(&launch, run_kernel<Kernel>, kernel), "launching clusters");
    } else {
      run_kernel<Kernel><<<blocks, Kernel::threads, bytes, parts_->stream>>>(kernel);
      check(cudaGetLastError(), "launching a kernel");
    }
  }
  template <class Call>
  void run_library(const Call& call, const char* doing) const {
    if (call.n == 0) return;
    before_work();
    check(run_call(call, parts_->workspace, parts_->stream), doing);
    if constexpr (std::is_same_v<Space, host>) synchronize();
  }
  void refuse_if_lost() const {
    require(!parts_->lost, error_code::device_fatal, "cuda: device ", parts_->device,
            " was lost by an earlier error; start the program again");
  }
  void throw_if_found() const {
    volatile const std::int32_t& found = parts_->found->found;
    if (found == 0) return;
    (void)cudaStreamSynchronize(parts_->stream);  // the rest of the finding, and its readers
    const fault f = *parts_->found;
    *parts_->found = {};
    memory<deepseek::device>::zero(parts_->asked.data(), sizeof(fault));
    throw_fault(f);
  }
  void before_work() const {
    refuse_if_lost();
    throw_if_found();
    check(cudaSetDevice(parts_->device), "choosing");
  }
  void check(cudaError_t status, const char* doing) const {
    if (loses_device(status)) parts_->lost = true;
    require_cuda(status, doing, parts_->device);
  }

  std::unique_ptr<parts> parts_;
};

using cuda = basic_cuda<deepseek::device>;

}  // namespace deepseek
