// SPDX-License-Identifier: Apache-2.0
// The ggml of ik_llama.cpp: its types, those that hold several rows side by side among them, and
// its fused nodes of experts.
#include <ggml.h>

#include "ggml_ways.hpp"

#include <stdexcept>

namespace peers {
namespace {

struct flavour {
  static constexpr bool float_keys = false;  // its attention kernels have none
  using weights = plain_weights;

  class graph_runner {
   public:
    void plan(const graph& g, ggml_tensor* result, int threads) {
      ggml_build_forward_expand(g.nodes(), result);
      plan_ = ggml_graph_plan(g.nodes(), threads);
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
    ggml_cgraph* nodes_ = nullptr;
    ggml_cplan plan_{};
    std::vector<std::uint8_t> room_;
  };

  static std::vector<stored> stored_linear(element e) {
    switch (e) {
      case element::f32:
        return {{"f32", GGML_TYPE_F32}};
      case element::bf16:
        return {{"bf16", GGML_TYPE_BF16}, {"bf16_r16", GGML_TYPE_BF16_R16}};
      case element::f16:
        return {{"f16", GGML_TYPE_F16}};
      case element::int8:
        return {{"q8_0", GGML_TYPE_Q8_0}, {"q8_0_r8", GGML_TYPE_Q8_0_R8}};
      case element::int4:
        break;
    }
    return {{"q4_0", GGML_TYPE_Q4_0},
            {"q4_0_r8", GGML_TYPE_Q4_0_R8},
            {"q4_K", GGML_TYPE_Q4_K},
            {"q4_K_r4", GGML_TYPE_Q4_K_R4},
            {"iq4_ks", GGML_TYPE_IQ4_KS}};
  }
  static std::vector<stored> stored_experts(element e) {
    std::vector<stored> all = stored_linear(e);
    for (stored& how : all) {
      if (how.type == GGML_TYPE_Q4_K || how.type == GGML_TYPE_IQ4_KS) how.down = GGML_TYPE_Q4_0;
      if (how.type == GGML_TYPE_Q4_K_R4) how.down = GGML_TYPE_Q4_0_R8;
    }
    return all;
  }
  static void quantize(ggml_type type, const float* from, void* to, index_t rows, index_t columns) {
    ggml_quantize_chunk(type, from, to, 0, rows, columns, nullptr, nullptr);
  }
  static ggml_tensor* hidden(ggml_context* c, ggml_tensor* gate, ggml_tensor* up, ggml_tensor* x,
                             ggml_tensor* ids) {
    return ggml_moe_up_gate(c, up, gate, x, ids, GGML_UNARY_OP_SILU);
  }
  static ggml_tensor* weighted_sum(ggml_context* c, ggml_tensor* rows, ggml_tensor* by) {
    return ggml_mul_multi_add(c, rows, by);
  }
  static ggml_tensor* norm(ggml_context* c, ggml_tensor* x, ggml_tensor* weight, float eps) {
    return ggml_fused_rms_norm(c, x, weight, eps);
  }
  static ggml_tensor* top_k(ggml_context* c, ggml_tensor* scores, int k) {
    return ggml_top_k(c, scores, k);
  }
};

class ik_peer : public ggml_library<flavour> {
 public:
  std::string name() const override { return "ik_llama.cpp"; }
  std::string version() const override { return DEEPSEEK_PEER_VERSION; }
};

}  // namespace
}  // namespace peers

DEEPSEEK_PEER(peers::ik_peer)
