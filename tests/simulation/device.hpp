// SPDX-License-Identifier: Apache-2.0
// basic_device<Space>: a backend whose kernels run on the simulated machine. With Space = host the
// tests of ops and layers run on it as they are; with Space = deepseek::device its memory is closed
// to the host while no kernel runs (closed_memory.hpp).
#pragma once

#include "simulation/closed_memory.hpp"
#include "simulation/machine.hpp"

#include "deepseek/backend/cuda/product.hpp"

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
    const open_memory open;
    return *at;
  }

  template <class Kernel>
  void launch(const Kernel& kernel) const {
    if (kernel.blocks() <= 0) return;
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

 private:
  struct parts {
    ds::arena<Space> workspace;
    machine device;
    ds::fault fault;
  };
  std::unique_ptr<parts> parts_ = std::make_unique<parts>();
  library library_;
};

using host_device = basic_device<ds::host>;

}  // namespace simulation
