// SPDX-License-Identifier: Apache-2.0
// ggml: types as its models store them, and those that its CPU backend repacks when weights are put
// into its own buffer.
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include "ggml_ways.hpp"

#include <stdexcept>

namespace peers {
namespace {

// The buffer type that repacks, if this processor has one.
ggml_backend_buffer_type_t repacking() {
  ggml_backend_reg_t const cpu = ggml_backend_cpu_reg();
  const auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
      ggml_backend_reg_get_proc_address(cpu, "ggml_backend_dev_get_extra_bufts"));
  if (extra == nullptr) return nullptr;
  ggml_backend_buffer_type_t* all = extra(ggml_backend_reg_dev_get(cpu, 0));
  for (; all != nullptr && *all != nullptr; ++all) {
    if (std::strcmp(ggml_backend_buft_name(*all), "CPU_REPACK") == 0) return *all;
  }
  return nullptr;
}

// Plain memory, or buffers that repack what is put into them.
class weights_of {
 public:
  explicit weights_of(bool repacked) : repacked_(repacked), plain_(repacked) {}
  ~weights_of() {
    for (auto* buffer : buffers_) ggml_backend_buffer_free(buffer);
  }
  weights_of(const weights_of&) = delete;
  weights_of& operator=(const weights_of&) = delete;

  void add(ggml_tensor* w, std::vector<char> data) {
    if (!repacked_) return plain_.add(w, std::move(data));
    ggml_backend_buffer_type_t const type = repacking();
    ggml_backend_buffer_t const buffer =
        ggml_backend_buft_alloc_buffer(type, ggml_backend_buft_get_alloc_size(type, w));
    ggml_tensor copy = *w;
    copy.buffer = nullptr, copy.data = nullptr;
    ggml_backend_tensor_alloc(buffer, &copy, ggml_backend_buffer_get_base(buffer));
    ggml_backend_tensor_set(&copy, data.data(), 0, data.size());
    buffers_.push_back(buffer);
    copies_.push_back(copy);
  }
  void place(ggml_tensor* w, index_t call) {
    if (!repacked_) return plain_.place(w, call);
    const ggml_tensor& from = copies_[static_cast<std::size_t>(call) % copies_.size()];
    w->data = from.data, w->buffer = from.buffer, w->extra = from.extra;
  }
  index_t count() const {
    return repacked_ ? static_cast<index_t>(copies_.size()) : plain_.count();
  }

 private:
  bool repacked_;
  plain_weights plain_;
  std::vector<ggml_backend_buffer_t> buffers_;
  std::vector<ggml_tensor> copies_;
};

struct flavour {
  static constexpr bool float_keys = true;
  using weights = weights_of;

  class graph_runner {
   public:
    ~graph_runner() {
      if (pool_ != nullptr) ggml_threadpool_free(pool_);
    }
    void plan(const graph& g, ggml_tensor* result, int threads) {
      ggml_cpu_init();
      ggml_build_forward_expand(g.nodes(), result);
      ggml_threadpool_params how = ggml_threadpool_params_default(threads);
      pool_ = ggml_threadpool_new(&how);
      plan_ = ggml_graph_plan(g.nodes(), threads, pool_);
      room_.resize(plan_.work_size);
      plan_.work_data = room_.data();
      nodes_ = g.nodes();
    }
    void compute() {
      if (ggml_graph_compute(nodes_, &plan_) != GGML_STATUS_SUCCESS) {
        throw std::runtime_error("ggml_graph_compute failed");
      }
    }

   private:
    ggml_threadpool* pool_ = nullptr;
    ggml_cgraph* nodes_ = nullptr;
    ggml_cplan plan_{};
    std::vector<std::uint8_t> room_;
  };

  static std::vector<stored> stored_linear(element e) {
    switch (e) {
      case element::f32:
        return {{"f32", GGML_TYPE_F32}};
      case element::bf16:
        return {{"bf16", GGML_TYPE_BF16}};
      case element::f16:
        return {{"f16", GGML_TYPE_F16}};
      case element::int8:
        return {{"q8_0", GGML_TYPE_Q8_0}};
      case element::int4:
        break;
    }
    std::vector<stored> all{{"q4_0", GGML_TYPE_Q4_0}, {"q4_K", GGML_TYPE_Q4_K}};
    if (repacking() != nullptr) {
      all.push_back({"q4_0 repacked", GGML_TYPE_Q4_0, GGML_TYPE_COUNT, true});
      all.push_back({"q4_K repacked", GGML_TYPE_Q4_K, GGML_TYPE_COUNT, true});
    }
    return all;
  }
  static std::vector<stored> stored_experts(element e) {
    std::vector<stored> all = stored_linear(e);
    for (stored& how : all) {
      if (how.type == GGML_TYPE_Q4_K) how.down = GGML_TYPE_Q4_0;
    }
    return all;
  }
  static void quantize(ggml_type type, const float* from, void* to, index_t rows, index_t columns) {
    ggml_quantize_chunk(type, from, to, 0, rows, columns, nullptr);
  }
  static ggml_tensor* hidden(ggml_context* c, ggml_tensor* gate, ggml_tensor* up, ggml_tensor* x,
                             ggml_tensor* ids) {
    return ggml_swiglu_split(c, ggml_mul_mat_id(c, gate, x, ids), ggml_mul_mat_id(c, up, x, ids));
  }
  static ggml_tensor* weighted_sum(ggml_context* c, ggml_tensor* rows, ggml_tensor* by) {
    return sum_over_active(c, rows, by);
  }
  static ggml_tensor* norm(ggml_context* c, ggml_tensor* x, ggml_tensor* weight, float eps) {
    return ggml_mul(c, ggml_rms_norm(c, x, eps), weight);
  }
  static ggml_tensor* top_k(ggml_context* c, ggml_tensor* scores, int k) {
    return ggml_argsort_top_k(c, scores, k);
  }
};

class ggml_peer : public ggml_library<flavour> {
 public:
  ggml_peer() {
    ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  }
  std::string name() const override { return "ggml"; }
  std::string version() const override {
    return std::string(ggml_version()) + " (" + ggml_commit() + ")";
  }
};

}  // namespace
}  // namespace peers

DEEPSEEK_PEER(peers::ggml_peer)
