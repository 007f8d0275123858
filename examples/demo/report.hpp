// SPDX-License-Identifier: Apache-2.0
// What the demo measured: printed for people, and as one JSON object in the last line.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "speed.hpp"

namespace demo {

struct figures {
  double bpb_before = 0, bpb = 0, bpb_order0 = 0, bpb_order2 = 0, bpb_xz = 0, bpb_int8 = 0;
  ds::index_t weight_bytes = 0, weight_bytes_int8 = 0, parameters = 0, active_parameters = 0;
  ds::index_t train_tokens = 0;
  double train_seconds = 0;
  speed fp32, int8;
};

inline std::string json_line(const figures& f) {
  const nlohmann::ordered_json line{{"bpb_before", f.bpb_before},
                                    {"bpb", f.bpb},
                                    {"bpb_order0", f.bpb_order0},
                                    {"bpb_order2", f.bpb_order2},
                                    {"bpb_xz", f.bpb_xz},
                                    {"bpb_int8", f.bpb_int8},
                                    {"weight_bytes", f.weight_bytes},
                                    {"weight_bytes_int8", f.weight_bytes_int8},
                                    {"parameters", f.parameters},
                                    {"active_parameters", f.active_parameters},
                                    {"train_tokens", f.train_tokens},
                                    {"train_seconds", f.train_seconds},
                                    {"prefill_tokens_per_s", f.fp32.prefill},
                                    {"decode_tokens_per_s", f.fp32.decode},
                                    {"prefill_tokens_per_s_int8", f.int8.prefill},
                                    {"decode_tokens_per_s_int8", f.int8.decode}};
  return line.dump();
}

inline void print_model(const model& m, const corpus& text) {
  const ds::index_t total = ds::parameter_count(m.parameters());
  std::printf("text      %zu files, %zu bytes to train on, %zu held out\n", text.names.size(),
              text.train.bytes.size(), text.held.bytes.size());
  std::printf("model     embedding 256 x %lld, then 4 layers of\n",
              static_cast<long long>(heads.dim));
  std::printf("            attention: %lld heads of %lld, causal, rotary positions\n",
              static_cast<long long>(heads.heads), static_cast<long long>(heads.width()));
  std::printf("            experts: %lld of width %lld, %lld active for a byte, %lld shared\n",
              static_cast<long long>(experts.routed), static_cast<long long>(experts.hidden),
              static_cast<long long>(experts.active), static_cast<long long>(experts.shared));
  std::printf(
      "          %lld parameters, %lld active for a byte; cache %lld bytes for a byte of text\n",
      static_cast<long long>(total), static_cast<long long>(active_parameters(m)),
      static_cast<long long>(cache_bytes_per_token));
}

// What each expert got in training: one bar for an expert, a line for a layer.
inline void print_expert_load(const model& m) {
  ds::visit(
      [](const ds::tensor_name& at, const auto& t) {
        if (!at.path.ends_with("gate.load")) return;
        std::printf("  %-24s", at.path.c_str());
        for (ds::index_t e = 0; e < t.size(); ++e) {
          std::printf(" %4.1f%%", 100 * static_cast<double>(t.data()[e]));
        }
        std::printf("\n");
      },
      m.parameters());
}

inline void print_figures(const figures& f) {
  std::printf("\nbits per byte of the held-out text\n");
  std::printf("  before training           %6.3f\n", f.bpb_before);
  std::printf("  counting bytes (order 0)  %6.3f\n", f.bpb_order0);
  std::printf("  order 2, interpolated     %6.3f\n", f.bpb_order2);
  std::printf("  xz, given the same text   %6.3f\n", f.bpb_xz);
  std::printf("  this model                %6.3f\n", f.bpb);
  std::printf("  this model in int8        %6.3f  (%+.2f %%)\n", f.bpb_int8,
              100 * (f.bpb_int8 / f.bpb - 1));
  std::printf("\n              weights     prefill      decode\n");
  std::printf("  fp32  %9.2f MB %9.0f/s %9.0f/s   tokens (bytes)\n",
              static_cast<double>(f.weight_bytes) / 1e6, f.fp32.prefill, f.fp32.decode);
  std::printf("  int8  %9.2f MB %9.0f/s %9.0f/s   %.3f of the bytes\n",
              static_cast<double>(f.weight_bytes_int8) / 1e6, f.int8.prefill, f.int8.decode,
              static_cast<double>(f.weight_bytes_int8) / static_cast<double>(f.weight_bytes));
}

}  // namespace demo
