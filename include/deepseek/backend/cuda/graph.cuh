// SPDX-License-Identifier: Apache-2.0
// cuda_graph: what a function launches on a context, recorded once and launched as one piece. The
// function may allocate nothing and read nothing back (run it once before, so that arenas have
// grown). Numbers that change from step to step (a position) are in the kernels' arguments:
// update(f) records again and exchanges them in the graph that is there; where the launches
// themselves differ, a new graph is made. A decode step needs neither: its position stands in
// memory (serve/decode_steps.hpp).
#pragma once

#include "deepseek/backend/cuda/context.cuh"
#include "deepseek/core/graph.hpp"

namespace deepseek {

class cuda_graph {
 public:
  cuda_graph() = default;
  template <class F>
  cuda_graph(const cuda& b, const F& f) {
    update(b, f);
  }
  cuda_graph(const cuda_graph&) = delete;
  cuda_graph& operator=(const cuda_graph&) = delete;
  ~cuda_graph() { clear(); }

  bool empty() const { return runs_ == nullptr; }
  void launch(const cuda& b) const {
    require(!empty(), error_code::invalid_argument,
            "cuda_graph: nothing is recorded; call update(b, f) first");
    require_cuda(cudaGraphLaunch(runs_, b.stream()), "launching a graph", b.device());
  }
  void clear() {
    if (runs_ != nullptr) (void)cudaGraphExecDestroy(runs_);
    runs_ = nullptr;
  }
  template <class F>
  void update(const cuda& b, const F& f) {
    b.synchronize();  // what is wrong so far is said here, not inside the recording
    const recording now(b, f);
    if (runs_ != nullptr) {
      cudaGraphExecUpdateResultInfo changed{};
      if (cudaGraphExecUpdate(runs_, now.graph, &changed) == cudaSuccess) return;
      (void)cudaGetLastError();
      clear();
    }
    require_cuda(cudaGraphInstantiate(&runs_, now.graph, 0), "making a graph", b.device());
  }

 private:
  struct recording {
    cudaGraph_t graph = nullptr;

    template <class F>
    recording(const cuda& b, const F& f) {
      require_cuda(cudaStreamBeginCapture(b.stream(), cudaStreamCaptureModeThreadLocal),
                   "recording a graph", b.device());
      try {
        f();
      } catch (...) {
        (void)cudaStreamEndCapture(b.stream(), &graph);
        drop();
        throw;
      }
      const cudaError_t status = cudaStreamEndCapture(b.stream(), &graph);
      if (status != cudaSuccess) drop();
      require_cuda(status, "recording a graph (it may not allocate or read back)", b.device());
    }
    recording(const recording&) = delete;
    recording& operator=(const recording&) = delete;
    ~recording() { drop(); }
    void drop() {
      if (graph != nullptr) (void)cudaGraphDestroy(graph);
      graph = nullptr;
      (void)cudaGetLastError();
    }
  };

  cudaGraphExec_t runs_ = nullptr;
};

template <>
struct graph_of<cuda> {
  using type = cuda_graph;
};

}  // namespace deepseek
