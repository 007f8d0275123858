// SPDX-License-Identifier: Apache-2.0
// basic_device<Space>: a backend whose kernels run on the simulated machine. With Space = host the
// tests of ops and layers run on it as they are; with Space = deepseek::device its memory is closed
// to the host while no kernel runs (closed_memory.hpp).
#pragma once

#include "simulation/closed_memory.hpp"
#include "simulation/machine.hpp"

#include "deepseek/backend/cuda/product.hpp"
#include "deepseek/core/graph.hpp"

#include "simulation/recording.hpp"

#include <memory>

namespace simulation {

// The library's product in plain loops over exactly what its descriptors say.
template <class T>
void plain_product(const ds::library_product& p) {
  using A = ds::accumulate_t<T>;
  const auto element = [](const ds::library_matrix& m, ds::index_t batch, ds::index_t row,
                          ds::index_t column) -> T& {
    const ds::index_t at = m.transposed ? column * m.leading + row : row * m.leading + column;
    return const_cast<T*>(static_cast<const T*>(m.data))[batch * m.batch + at];
  };
  for (ds::index_t i = 0; i < p.batches * p.m * p.n; ++i) {
    const ds::index_t batch = i / (p.m * p.n), m = i / p.n % p.m, n = i % p.n;
    A sum = 0;
    for (ds::index_t k = 0; k < p.k; ++k) {
      sum += static_cast<A>(element(p.a, batch, m, k)) * static_cast<A>(element(p.b, batch, k, n));
    }
    T& c = element(p.c, batch, m, n);
    c = static_cast<T>(p.adds ? sum + static_cast<A>(c) : sum);
  }
}

enum class library { absent, plain_loops };

template <class Space>
class basic_device {
 public:
  using space = Space;
  using runs_kernels = void;

  explicit basic_device(library which = library::absent) : library_(which) {}

  ds::arena<Space>& workspace() const { return parts_->workspace; }
  std::string_view name() const { return "simulated device"; }
  bool deterministic() const { return true; }
  ds::fault_place faults() const { return {&parts_->fault}; }
  ds::index_t launches() const { return parts_->device.launches(); }
  void synchronize() const {}
  // One number from the device, after all that was launched.
  template <class T>
  T read(const T* at) const {
    ds::require(parts_->recording == nullptr, ds::error_code::unsupported,
                "simulation: a number is read back while launches are recorded");
    const open_memory open;
    return *at;
  }

  template <class Kernel>
  void launch(const Kernel& kernel) const {
    if (kernel.blocks() <= 0) return;
    if (parts_->recording != nullptr) return parts_->recording->add(*this, kernel);
    {
      const open_memory open;
      parts_->device.run(kernel);
    }
    if (parts_->fault.found != 0) {
      const ds::fault f = std::exchange(parts_->fault, {});
      ds::throw_fault(f);
    }
  }
  bool library_product(const ds::library_product& p) const {
    if (library_ == library::absent) return false;
    if (parts_->recording != nullptr) return parts_->recording->add(*this, p), true;
    const open_memory open;
    switch (p.type) {
      case ds::dtype::f64:
        return plain_product<double>(p), true;
      case ds::dtype::f32:
        return plain_product<float>(p), true;
      case ds::dtype::bf16:
        return plain_product<ds::bf16>(p), true;
      case ds::dtype::f16:
        return plain_product<ds::f16>(p), true;
      default:
        return false;
    }
  }
  // What is launched from here on goes into the list (null: it runs). Its memory is closed for
  // copies and allocations, as a GPU's is while launches are recorded.
  void record_into(launch_list* list) const {
    parts_->recording = list;
    closed_region::shared().seal(list != nullptr);
  }

 private:
  struct parts {
    ds::arena<Space> workspace;
    machine device;
    ds::fault fault;
    launch_list* recording = nullptr;
  };
  std::unique_ptr<parts> parts_ = std::make_unique<parts>();
  library library_;
};

using host_device = basic_device<ds::host>;

// As cuda_graph: what f launches on the device, and what it does not run meanwhile.
class recorded_launches {
 public:
  using device = basic_device<ds::device>;
  recorded_launches() = default;
  template <class F>
  recorded_launches(const device& b, const F& f) {
    update(b, f);
  }
  bool empty() const { return list_.empty(); }
  void clear() { list_.clear(); }
  template <class F>
  void update(const device& b, const F& f) {
    clear();
    b.record_into(&list_);
    try {
      f();
    } catch (...) {
      b.record_into(nullptr);
      clear();
      throw;
    }
    b.record_into(nullptr);
  }
  void launch(const device&) const { list_.run(); }
  const launch_list& list() const { return list_; }

 private:
  launch_list list_;
};

}  // namespace simulation

template <>
struct deepseek::graph_of<simulation::basic_device<deepseek::device>> {
  using type = simulation::recorded_launches;
};
