// SPDX-License-Identifier: Apache-2.0
// One row of the GPU bench: a call timed cold (the L2 flushed before each) and hot (many in a row,
// sustained clocks), printed as JSON with the names that bench/gpu_peers.py uses, so that a report
// can set the two side by side. Inputs are random normal numbers, never zeros.
#pragma once

#include "deepseek/cuda.cuh"

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

namespace bench {

namespace ds = deepseek;
using ds::bf16;
using ds::index_t;

template <class T, index_t... E>
using tensor = ds::tensor<T, ds::device, E...>;
template <class T>
using vec = tensor<T, ds::dyn>;
template <class T>
using matrix = tensor<T, ds::dyn, ds::dyn>;
template <class T>
using cube = tensor<T, ds::dyn, ds::dyn, ds::dyn>;

// ---- numbers made on the device: Philox, Box-Muller
template <class T>
struct normal_numbers {
  T* to;
  double deviation;
  std::uint32_t seed;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    std::uint64_t h = static_cast<std::uint64_t>(i) * 0x9E3779B97F4A7C15ULL + seed;
    h = (h ^ (h >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    h = (h ^ (h >> 27U)) * 0x94D049BB133111EBULL;
    h ^= h >> 31U;
    const float u = (static_cast<float>(h >> 40U) + 0.5F) * 0x1p-24F;
    const float v = static_cast<float>(h & 0xffffffU) * 0x1p-24F;
    const float z = std::sqrt(-2 * std::log(u)) * std::cos(6.2831853F * v);
    to[i] = static_cast<T>(static_cast<float>(deviation) * z);
  }
};
template <class Tensor>
Tensor normal(const ds::cuda& b, const typename Tensor::extents_array& extents, std::uint32_t seed,
              double deviation = 1) {
  Tensor t(extents);
  using T = typename Tensor::value_type;
  ds::run_each_element(b, t.size(), normal_numbers<T>{t.data(), deviation, seed});
  return t;
}

struct work {
  double flops = 0, bytes = 0;
};

class timer {
 public:
  explicit timer(const ds::cuda& b) : b_(b), flush_({index_t{256} << 20}) {
    ds::require_cuda(cudaEventCreate(&from_), "making an event");
    ds::require_cuda(cudaEventCreate(&to_), "making an event");
  }
  timer(const timer&) = delete;
  timer& operator=(const timer&) = delete;
  ~timer() {
    (void)cudaEventDestroy(from_);
    (void)cudaEventDestroy(to_);
  }

  void row(const std::string& op, const std::string& shape, const work& w,
           const std::function<void()>& call) {
    try {
      measure(op, shape, w, call);
    } catch (const ds::error& e) {
      std::printf("{\"op\": \"%s\", \"impl\": \"deepseek\", \"shape\": \"%s\", \"err\": %s}\n",
                  op.c_str(), shape.c_str(), ds::escaped(e.what()).c_str());
    }
    std::fflush(stdout);
  }

 private:
  void measure(const std::string& op, const std::string& shape, const work& w,
               const std::function<void()>& call) {
    for (int i = 0; i < 3; ++i) call();
    b_.synchronize();
    const double estimate = std::max(once(call), 1.0);
    const int n = std::clamp(static_cast<int>(3e5 / estimate), 6, 30);
    std::vector<double> cold;
    for (int i = 0; i < n; ++i) {
      flush_.zero();
      cold.push_back(once(call));
    }
    std::nth_element(cold.begin(), cold.begin() + n / 2, cold.end());
    const int many = std::clamp(static_cast<int>(1e5 / estimate), 3, 200);
    const double hot = once([&] {
                         for (int i = 0; i < many; ++i) call();
                       }) /
                       many;
    const double cold_us = cold[static_cast<std::size_t>(n / 2)];
    const double used = w.bytes > 2e8 || w.flops > 2e11 ? hot : cold_us;
    std::printf(
        "{\"op\": \"%s\", \"impl\": \"deepseek\", \"shape\": \"%s\", \"cold_us\": %.1f, "
        "\"hot_us\": %.1f, \"tflops\": %.1f, \"gbps\": %.1f}\n",
        op.c_str(), shape.c_str(), cold_us, hot, w.flops / used / 1e6, w.bytes / used / 1e3);
  }
  // Microseconds.
  double once(const std::function<void()>& call) {
    float ms = 0;
    ds::require_cuda(cudaEventRecord(from_, b_.stream()), "recording an event");
    call();
    ds::require_cuda(cudaEventRecord(to_, b_.stream()), "recording an event");
    ds::require_cuda(cudaEventSynchronize(to_), "running a bench");
    ds::require_cuda(cudaEventElapsedTime(&ms, from_, to_), "reading an event");
    b_.synchronize();
    return 1e3 * static_cast<double>(ms);
  }

  const ds::cuda& b_;
  vec<std::int32_t> flush_;
  cudaEvent_t from_ = nullptr, to_ = nullptr;
};

// Each file of bench/gpu defines one or two.
void memory_rows(const ds::cuda& b, timer& t);
void product_rows(const ds::cuda& b, timer& t);
void attention_rows(const ds::cuda& b, timer& t);
void expert_rows(const ds::cuda& b, timer& t);
void choice_rows(const ds::cuda& b, timer& t);
void decode_rows(const ds::cuda& b, timer& t);
void latent_rows(const ds::cuda& b, timer& t);

}  // namespace bench
