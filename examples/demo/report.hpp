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
  speculation drafts, drafts_int8;
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
                                    {"decode_tokens_per_s_int8", f.int8.decode},
                                    {"cache_bytes_per_token", cache_bytes_per_token},
                                    {"cache_bytes_per_token_mha", mha_cache_bytes_per_token},
                                    {"acceptance", f.drafts.acceptance},
                                    {"tokens_per_call", f.drafts.tokens_per_call},
                                    {"speculative_speed_up", f.drafts.speed_up},
                                    {"speculative_speed_up_int8", f.drafts_int8.speed_up},
                                    {"same_text", f.drafts.same_text && f.drafts_int8.same_text}};
  return line.dump();
}

inline void print_model(const model& m, const corpus& text) {
  const ds::index_t total = ds::parameter_count(m.parameters());
  std::printf("text      %zu files, %zu bytes to train on, %zu held out\n", text.names.size(),
              text.train.bytes.size(), text.held.bytes.size());
  const auto number = [](ds::index_t n) { return static_cast<long long>(n); };
  std::printf("model     embedding 256 x %lld, then %lld layers of\n", number(latent.dim),
              number(layers));
  std::printf("            latent attention: %lld heads of %lld + %lld, latents of %lld, causal\n",
              number(latent.heads), number(latent.nope_dim), number(latent.rope_dim),
              number(latent.kv_rank));
  std::printf("            experts: %lld of width %lld, %lld active for a byte, %lld shared\n",
              number(experts.routed), number(experts.hidden), number(experts.active),
              number(experts.shared));
  std::printf("          and one such layer that predicts the byte after the next\n");
  std::printf("          %lld parameters, %lld active for a byte\n", number(total),
              number(active_parameters(m)));
  std::printf("cache     %lld bytes for a byte of text; as keys and values of all heads %lld\n",
              number(cache_bytes_per_token), number(mha_cache_bytes_per_token));
}

// What each expert got in training: a line for a layer; a bar of eight steps for an expert, full at
// twice its equal share.
inline void print_expert_load(const model& m) {
  ds::visit(
      [](const ds::tensor_name& at, const auto& t) {
        if (!at.path.ends_with("gate.load")) return;
        std::printf("  %-24s", at.path.c_str());
        for (ds::index_t e = 0; e < t.size(); ++e) {
          const double share = static_cast<double>(t.data()[e]);
          const int steps =
              std::clamp(static_cast<int>(4 * share * static_cast<double>(t.size()) + 0.5), 0, 8);
          std::printf(" %-8s%4.1f%%", std::string(static_cast<std::size_t>(steps), '#').c_str(),
                      100 * share);
        }
        std::printf("\n");
      },
      m.parameters());
}

inline void print_speculation(const char* name, const speculation& s) {
  std::printf("  %s  %5.1f %% accepted  %.2f tokens a call  %.2f times as fast  %s\n", name,
              100 * s.acceptance, s.tokens_per_call, s.speed_up,
              s.same_text ? "the same text" : "ANOTHER TEXT");
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
  std::printf("\nspeculative decoding, always the most likely byte\n");
  print_speculation("fp32", f.drafts);
  print_speculation("int8", f.drafts_int8);
}

}  // namespace demo
