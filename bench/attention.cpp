// SPDX-License-Identifier: Apache-2.0
// attention of a prompt, forward and backward, by pattern. The peer keeps whole rows of scores: it
// computes all pairs and hides the later ones.
#include "attention_case.hpp"
#include "peers.hpp"

#include <limits>

namespace bench {
namespace {

constexpr attention_size short_prompt{"t256_h8_kv2_d64", 256, 8, 2, 64};

using eigen_head = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>,
                              0, Eigen::OuterStride<>>;

eigen_head head_of(cube& t, index_t head) {
  return {t.data() + head * t.extent(2), t.extent(0), t.extent(2),
          Eigen::OuterStride<>(t.extent(1) * t.extent(2))};
}

void eigen_causal(attention_case<dense_pattern>& c) {
  const float scale = 1 / std::sqrt(static_cast<float>(c.s.dim));
  Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> scores;
  for (index_t head = 0; head < c.s.heads; ++head) {
    const index_t kv = head / (c.s.heads / c.s.kv_heads);
    scores.noalias() = head_of(c.q, head) * head_of(c.k, kv).transpose();
    for (index_t i = 0; i < c.s.tokens; ++i) {
      auto seen = scores.row(i).head(i + 1).array();
      seen = ((seen - seen.maxCoeff()) * scale).exp();
      seen *= 1 / seen.sum();
      scores.row(i).tail(c.s.tokens - i - 1).setZero();
    }
    head_of(c.o, head).noalias() = scores * head_of(c.v, kv);
  }
}

template <class P>
void add_pattern(const std::string& pattern) {
  const std::string large = pattern + "_" + prompt.name, small = pattern + "_" + short_prompt.name;
  add_reference<attention_case<P>>(small, short_prompt);
  add_cpu<attention_case<P>>("flash", small, short_prompt);
  add_cpu<attention_case<P>>("flash", large, prompt);
  add_reference<attention_backward_case<P>>(small, short_prompt);
  add_cpu<attention_backward_case<P>>("flash", small, short_prompt);
  add_cpu<attention_backward_case<P>>("flash", large, prompt);
}

}  // namespace

void add_cases() {
  add_pattern<dense_pattern>("causal");
  add_pattern<local_pattern>("local128");
  add_pattern<block_pattern>("block128_1");
  add_pattern<random_pattern>("random64_4");
  for (const attention_size& s : {short_prompt, prompt}) {
    add_peer<attention_case<dense_pattern>>(
        {"attention", "eigen", "scores", std::string("causal_") + s.name}, eigen_causal, s);
  }
}

}  // namespace bench
