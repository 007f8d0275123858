// SPDX-License-Identifier: Apache-2.0
// basic_device<Space>: a backend whose kernels run on the simulated machine. With Space = host the
// tests of ops and layers run on it as they are; with Space = deepseek::device its memory is closed
// to the host while no kernel runs (closed_memory.hpp), and the host's stack to kernels
// (closed_stack.hpp).
#pragma once

#include "simulation/closed_memory.hpp"
#include "simulation/machine.hpp"

#include "deepseek/backend/cuda/product.hpp"
#include "deepseek/core/graph.hpp"

#include "simulation/plain_calls.hpp"
#include "simulation/plain_product.hpp"
#include "simulation/recording.hpp"

#include <memory>

namespace simulation {

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
  ds::index_t launches_of_clusters() const { return parts_->device.launches_of_clusters(); }
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
    if constexpr (std::is_same_v<Space, ds::host>) {
      run(any_kernel_of(kernel));
    } else {
      const auto copy = std::make_unique<Kernel>(kernel);  // of the arguments, as a GPU has
      run(any_kernel_of(*copy));
    }
  }
  bool library_product(const ds::library_product& p) const {
    if (!library_offers(p)) return false;
    call(p);
    return true;
  }
  bool library_offers(const ds::library_product& p) const {
    return library_ != library::absent && has_plain_product(p);
  }
  void sum_before(const ds::sums_before& c) const { call(c); }
  void sort(const ds::sorted_pairs& c) const { call(c); }
  // What a library does, or its place in the list of launches.
  template <class Call>
  requires requires(const Call& c) { run_plainly(c); }
  void call(const Call& c) const {
    if (parts_->recording != nullptr) return parts_->recording->add(*this, c);
    const open_memory open;
    run_plainly(c);
  }
  // What is launched from here on goes into the list (null: it runs). Its memory is closed for
  // copies and allocations, as a GPU's is while launches are recorded.
  void record_into(launch_list* list) const {
    parts_->recording = list;
    closed_region::shared().seal(list != nullptr);
  }

 private:
  void run(const any_kernel& kernel) const {
    {
      const open_memory open;
      if constexpr (std::is_same_v<Space, ds::host>) {
        parts_->device.run(kernel);
      } else {
        parts_->device.run_beside_the_stack(kernel);
      }
    }
    if (parts_->fault.found != 0) {
      const ds::fault f = std::exchange(parts_->fault, {});
      ds::throw_fault(f);
    }
  }

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
