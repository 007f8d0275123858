// SPDX-License-Identifier: Apache-2.0
// speculative_sampler: a token guessed from one distribution, q, is kept or replaced so that what
// comes out has another, p, exactly:
//   draft d ~ q;  keep it with probability min(1, p_d / q_d);  else draw from max(p - q, 0) / sum.
// p and q are what sampler (same configuration) draws from; with temperature 0 a draft is kept if
// it is the most likely token, else that one comes: the text of sampler, token by token.
// Random numbers depend on (seed, use, position) alone, position being how many tokens were drawn
// before: drafts, decisions, replacements and next() have streams of their own; next() gives what
// sampler gives there. Errors: those of sampler; shape_mismatch (p and q of different sizes),
// index_range (a draft that was not drawn).
// Source: Leviathan, Kalman and Matias 2023, section 2.3 and appendix A.1; Chen et al. 2023.
#pragma once

#include "deepseek/serve/sampler.hpp"

namespace deepseek {

class speculative_sampler {
 public:
  explicit speculative_sampler(const sampler_config& config) : sampler_(config) {}

  struct verdict {
    std::int32_t token;
    bool accepted;
  };

  // A token from the model's own logits, without a draft.
  template <class Logits>
  std::int32_t next(const Logits& logits, std::uint64_t position) {
    sampler_.set_position(position);
    return sampler_.next(logits);
  }
  // Draft i (0, 1, ...) from the logits of whatever drafts; its distribution is kept for verify.
  template <class Logits>
  std::int32_t draft(const Logits& logits, std::size_t i, std::uint64_t position) {
    if (drafts_.size() <= i) drafts_.resize(i + 1);
    sampler_.distribution(logits, drafts_[i].q);
    return drafts_[i].token = pick(drafts_[i].q, 1, random(use::draft, position));
  }
  // What becomes of draft i, given the logits of the model.
  template <class Logits>
  verdict verify(const Logits& logits, std::size_t i, std::uint64_t position) {
    require(i < drafts_.size() && !drafts_[i].q.empty(), error_code::index_range,
            "speculative_sampler: draft ", i, " of ", drafts_.size(),
            " was not drawn; call draft before verify");
    const auto& [token, q] = drafts_[i];
    sampler_.distribution(logits, p_);
    require(p_.size() == q.size(), error_code::shape_mismatch, "speculative_sampler: ", p_.size(),
            " logits of the model and ", q.size(), " of the draft; use models of one vocabulary");
    const auto d = static_cast<std::size_t>(token);
    if (random(use::decision, position) * q[d] < p_[d]) return {token, true};
    double left = 0;
    for (std::size_t t = 0; t < p_.size(); ++t) left += (p_[t] = std::max(p_[t] - q[t], 0.0));
    return {pick(p_, left, random(use::replacement, position)), false};
  }

 private:
  enum class use : std::uint32_t { draft = 1, decision, replacement };
  struct drafted {
    std::int32_t token = 0;
    std::vector<double> q;
  };

  double random(use what, std::uint64_t position) const {
    return uniform53(
        {sampler_.config().seed, 0, static_cast<std::uint32_t>(what), 0, random_use::sampling},
        position);
  }
  // The inverse of the cumulative sum of weights at u times their total.
  static std::int32_t pick(const std::vector<double>& weights, double total, double u) {
    double left = u * total;
    std::size_t last = 0;
    for (std::size_t t = 0; t < weights.size(); ++t) {
      if (weights[t] == 0) continue;
      if (left < weights[t]) return static_cast<std::int32_t>(t);
      left -= weights[t];
      last = t;  // the total was rounded up
    }
    return static_cast<std::int32_t>(last);
  }

  sampler sampler_;
  std::vector<drafted> drafts_;
  std::vector<double> p_;
};

}  // namespace deepseek
