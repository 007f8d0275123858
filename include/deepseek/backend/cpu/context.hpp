// SPDX-License-Identifier: Apache-2.0
// The CPU backend: SIMD kernels of our own and Eigen, on a pool of threads that the context owns.
// It derives from reference: an op without an overload for cpu falls back to the plain loops.
// Results have the same bits for any number of threads. Making one checks the processor.
#pragma once

#include "deepseek/backend/cpu/kernels/gemm.hpp"
#include "deepseek/backend/cpu/simd.hpp"
#include "deepseek/backend/cpu/simd_tiles.hpp"
#include "deepseek/backend/cpu/thread_pool.hpp"
#include "deepseek/backend/reference/context.hpp"

namespace deepseek {

struct cpu_config {
  int threads = 1;  // including the calling one; >= 1
};

struct cpu : reference {
  explicit cpu(cpu_config config = {}) : pool_(make_pool(config)) { loops_ = counts_.get(); }

  std::string_view name() const { return "cpu"; }
  int threads() const { return pool_->threads(); }

  // Runs f(0) .. f(tasks - 1), each once, on the pool. What the tasks compute must not depend on
  // which thread runs them: they are cut by fixed sizes, never by the number of threads.
  template <class F>
  void parallel(index_t tasks, F&& f) const {
    pool_->parallel(tasks, f);
  }
  thread_pool& pool() const { return *pool_; }

  // The products that no kernel took since the context was made or the counts were cleared: types
  // or strides that only the plain loops of the reference have, 10 to 100 times slower.
  loop_counts& loops() const { return *counts_; }

  // A reusable list of products of one parallel region (grows once, then allocates nothing).
  template <class T>
  std::vector<kernels::gemm_problem<T>>& problems() const {
    return std::get<std::vector<kernels::gemm_problem<T>>>(*problems_);
  }

 private:
  static std::unique_ptr<thread_pool> make_pool(cpu_config config) {
    simd::check_processor();
    simd::request_tiles();
    require(config.threads >= 1 && config.threads <= thread_pool::most_threads,
            error_code::invalid_argument, "cpu: threads is ", config.threads,
            "; write a number from 1 to ", thread_pool::most_threads);
    return std::make_unique<thread_pool>(config.threads);
  }
  using problem_lists = std::tuple<std::vector<kernels::gemm_problem<float>>,
                                   std::vector<kernels::gemm_problem<double>>>;
  std::unique_ptr<thread_pool> pool_;
  std::unique_ptr<loop_counts> counts_ = std::make_unique<loop_counts>();
  std::unique_ptr<problem_lists> problems_ = std::make_unique<problem_lists>();
};

// What computes `call`, which runs ops on b: "kernels", or "loops: gemm 1" where products of it
// fell back to plain loops. Runs it once; the counts begin anew.
template <class F>
std::string implementation_name(const cpu& b, const F& call) {
  b.loops().clear();
  call();
  const std::string loops = b.loops().text();
  return loops.empty() ? "kernels" : "loops: " + loops;
}
template <class F>
std::string implementation_name(const reference&, const F&) {
  return "loops";
}

}  // namespace deepseek
