// SPDX-License-Identifier: Apache-2.0
// elastic_memory: elastic weight consolidation for a model. After a task, anchor and Fisher
// information of every trained weight are noted; a trainer of the next task adds
//   lambda / 2 sum_i F_i (w_i - anchor_i)^2   to its loss:
//   ds::elastic_memory memory(b, m, {.lambda = 1e4});
//   for (each sequence of the old task) memory.observe(b, m, tokens, targets);
//   memory.consolidate(m);
//   trainer.with_penalty(memory.penalty(b));
// F_i = 1 / (tokens) sum over sequences of (d ln p(sequence) / d w_i)^2. Targets given: those that
// were observed (the empirical Fisher). Without: drawn from the model's own distribution by seed,
// as the definition has it. consolidate ages what earlier tasks left by `decay` (1: all tasks count
// alike) and moves the anchor. One sequence a call. Squares are kept in the model's element type:
// float or double. Errors: invalid_argument (nothing observed).
// Cost of observe: a forward and a backward pass; of the penalty: 8 flops a weight and step.
// Sources: Kirkpatrick et al. 2017; Schwarz et al. 2018, section 3 (online form).
#pragma once

#include "deepseek/core/random.hpp"
#include "deepseek/layers/model.hpp"
#include "deepseek/ops/cross_entropy.hpp"
#include "deepseek/ops/elastic_weights.hpp"
#include "deepseek/ops/softmax.hpp"

namespace deepseek {

struct elastic_config {
  double lambda = 1;  // >= 0
  double decay = 1;   // of the Fisher information of earlier tasks, in [0, 1]
  std::uint64_t seed = 0;
  std::int32_t ignore = -100;
};

template <class Model>
class elastic_memory {
 public:
  using parameters_type = typename Model::parameters_type;
  using space = typename Model::space;

  template <class B>
  elastic_memory(const B& b, const Model& m, const elastic_config& config = {})
      : config_(config),
        tape_(m.tape(b)),
        gradients_(std::make_unique<parameters_type>()),
        seen_(std::make_unique<parameters_type>()),
        fisher_(std::make_unique<parameters_type>()),
        anchor_(std::make_unique<parameters_type>()) {
    require(config.lambda >= 0 && std::isfinite(config.lambda) && config.decay >= 0 &&
                config.decay <= 1,
            error_code::invalid_argument, "elastic_memory: lambda is ", config.lambda, ", decay ",
            config.decay, "; pass a finite lambda >= 0 and a decay in [0, 1]");
  }

  // One sequence of the task and what follows each of its tokens.
  template <class B, class X, class Y>
  void observe(const B& b, const Model& m, const X& tokens, const Y& targets) {
    const auto logits = m.forward(b, tokens, tape_, {.how = mode::inference});
    add_squares(b, m, tokens, targets, logits);
  }
  // The same with targets drawn from what the model itself expects.
  template <class B, class X>
  void observe(const B& b, const Model& m, const X& tokens) {
    static_assert(std::is_same_v<space, host>,
                  "deepseek::elastic_memory: targets are drawn on the host; pass targets");
    const auto logits = m.forward(b, tokens, tape_, {.how = mode::inference});
    const index_t n = logits.extent(0);
    const scope freed(b.workspace());
    const auto targets = b.workspace().template make<std::int32_t, dyn>(n);
    const auto p =
        b.workspace().template make<typename Model::value_type, dyn, dyn>(n, logits.extent(1));
    ops::softmax(b, logits, p);
    for (index_t i = 0; i < n; ++i) targets(i) = drawn(p, i);
    add_squares(b, m, tokens, targets, logits);
  }

  index_t observed() const { return tokens_; }

  // The task is over: what was observed joins the Fisher information, the anchor moves here.
  void consolidate(const Model& m) {
    require(tokens_ > 0, error_code::invalid_argument,
            "elastic_memory: nothing was observed; call observe with sequences of the task first");
    const double share = 1 / static_cast<double>(tokens_);
    each_trained(
        [&](auto& fisher, auto& seen) {
          using T = typename std::remove_cvref_t<decltype(fisher)>::value_type;
          for (index_t i = 0; i < fisher.size(); ++i) {
            const double now = config_.decay * static_cast<double>(fisher.data()[i]) +
                               share * static_cast<double>(seen.data()[i]);
            fisher.data()[i] = static_cast<T>(now);
          }
        },
        *fisher_, *seen_);
    zero(*seen_);
    tokens_ = 0;
    *anchor_ = m.parameters();
  }

  // Adds factor times the gradient to g and returns the penalty.
  template <class B>
  double add_gradient(const B& b, const parameters_type& p, parameters_type& g,
                      double factor) const {
    double sum = 0;
    each_trained(
        [&](const auto& w, auto& dw, const auto& anchor, const auto& fisher) {
          const elastic_inputs in{w, anchor, fisher};
          sum += ops::elastic_penalty(b, in, config_.lambda);
          ops::elastic_gradient(b, in, dw, {config_.lambda, factor});
        },
        p, g, *anchor_, *fisher_);
    return sum;
  }
  // For trainer::with_penalty; this object and b must live as long.
  template <class B>
  auto penalty(const B& b) const {
    return [this, &b](const parameters_type& p, parameters_type& g, double factor) {
      return add_gradient(b, p, g, factor);
    };
  }

  const parameters_type& fisher() const { return *fisher_; }
  const parameters_type& anchor() const { return *anchor_; }

 private:
  template <class F, class P, class... Q>
  static void each_trained(const F& f, P& p, Q&... q) {
    visit(
        [&](const tensor_name& at, auto& first, auto&... rest) {
          using T = typename std::remove_cvref_t<decltype(first)>::value_type;
          if constexpr (!std::is_integral_v<T>) {
            if (at.role == field_role::trained) f(first, rest...);
          }
        },
        p, q...);
  }
  template <class B, class X, class Y, class L>
  void add_squares(const B& b, const Model& m, const X& tokens, const Y& targets, const L& logits) {
    static_assert(is_view<L>,
                  "deepseek::elastic_memory: the net has several outputs (drafts); consolidate the "
                  "net without them");
    index_t counted = 0;
    const auto ids = as_view(targets);
    for (index_t i = 0; i < ids.extent(0); ++i) counted += ids(i) != config_.ignore ? 1 : 0;
    zero(*gradients_);
    ops::cross_entropy_gradient(b, logits, targets, logits,
                                cross_entropy_gradient_spec{config_.ignore, 1, 1});
    tape_.set_gradient_scale(0);  // balance losses are no part of ln p
    m.backward(b, tokens, tape_, logits, *gradients_);
    each_trained([&](const auto& g, auto& seen) { ops::fisher_update(b, g, seen); }, *gradients_,
                 *seen_);
    tokens_ += counted;
  }
  template <class P>
  std::int32_t drawn(const P& p, index_t row) {
    const stream_key key{config_.seed, 0, 0, 0, random_use::sampling};
    double left = static_cast<double>(uniform01(random_word(key, draws_++)));
    for (index_t v = 0; v + 1 < p.extent(1); ++v) {
      left -= static_cast<double>(p(row, v));
      if (left < 0) return static_cast<std::int32_t>(v);
    }
    return static_cast<std::int32_t>(p.extent(1) - 1);
  }

  elastic_config config_;
  typename Model::tape_type tape_;
  std::unique_ptr<parameters_type> gradients_, seen_, fisher_, anchor_;
  index_t tokens_ = 0;
  std::uint64_t draws_ = 0;
};

template <class B, class Model>
elastic_memory(const B&, const Model&, const elastic_config&) -> elastic_memory<Model>;
template <class B, class Model>
elastic_memory(const B&, const Model&) -> elastic_memory<Model>;

}  // namespace deepseek
