// SPDX-License-Identifier: Apache-2.0
// trainer: cross-entropy training of a model on token targets, with gradient accumulation, clipping
// by global norm and a schedule. The gradient of a group of micro-batches is exact: the sum of
// token losses over the group divided by its counted tokens, also for a last, partial group
// (flush()). A loss or gradient that is not finite throws (nonfinite) and leaves parameters and
// moments alone. Clipping: factor min(1, clip / (norm + 1e-6)), norm over all trained gradients.
#pragma once

#include "deepseek/layers/model.hpp"
#include "deepseek/ops/cross_entropy.hpp"
#include "deepseek/ops/sum_of_squares.hpp"
#include "deepseek/train/optimizer.hpp"
#include "deepseek/train/schedule.hpp"

#include <optional>

namespace deepseek {

struct trainer_config {
  index_t accumulate = 1;      // micro-batches per optimizer step, >= 1
  double clip = 1;             // largest global gradient norm; 0: no clipping
  std::uint64_t seed = 0;      // of dropout and random patterns
  std::int32_t ignore = -100;  // target of tokens without a loss
};

struct train_result {
  double loss = 0;       // mean over the group's counted tokens, nats
  double auxiliary = 0;  // balance losses, already weighted
  double norm = 0;       // gradient norm before clipping
  double lr = 0;
  index_t tokens = 0;  // counted
  index_t step = 0;    // optimizer steps done
};

// sqrt of the sum of squares over all trained tensors, in double, in a fixed order.
template <class B, class P>
double global_norm(const B& b, const P& gradients) {
  double sum = 0;
  visit(
      [&](const tensor_name& at, const auto& t) {
        if constexpr (!std::is_integral_v<typename std::remove_cvref_t<decltype(t)>::value_type>) {
          if (at.role == field_role::trained) sum += ops::sum_of_squares(b, t);
        }
      },
      gradients);
  return std::sqrt(sum);
}

template <class Model, class B, class Rule, class Schedule>
class trainer {
 public:
  using parameters_type = typename Model::parameters_type;
  using optimizer_type = deepseek::optimizer<Rule, parameters_type>;
  using space = typename Model::space;

  trainer(const B& b, Model& m, const Rule& rule, const Schedule& schedule,
          trainer_config config = {})
      : backend_(b),
        model_(m),
        optimizer_(rule, m.parameters()),
        schedule_(schedule),
        config_(config),
        tape_(m.tape(b)),
        gradients_(std::make_unique<parameters_type>()) {
    require(config.accumulate >= 1, error_code::invalid_argument, "trainer: accumulate is ",
            config.accumulate, "; write a number >= 1");
    require(config.clip >= 0, error_code::invalid_argument, "trainer: clip is ", config.clip,
            "; write a norm > 0, or 0 for no clipping");
  }

  // One micro-batch: tokens [n] and targets [n], packed sequences by offsets. Returns the result of
  // the group when it is full and the parameters have moved.
  template <class X, class Y>
  std::optional<train_result> micro_step(const X& tokens, const Y& targets,
                                         sequence_offsets<space> sequences = {}) {
    run_report report;
    auto run = options(sequences);
    run.report = &report;
    const auto logits = model_.forward(backend_, tokens, tape_, run);
    const cross_entropy_result r = measure(logits, targets);
    require(std::isfinite(r.mean), error_code::nonfinite, "trainer: the loss is ", r.mean,
            " at step ", optimizer_.steps(), "; lower the learning rate or look at the data");
    // Sums, not means: divided by the group's tokens at the step.
    ops::cross_entropy_gradient(backend_, logits, targets, logits,
                                cross_entropy_gradient_spec{config_.ignore, 1.0, 1});
    tape_.set_gradient_scale(static_cast<double>(r.counted));
    model_.backward(backend_, tokens, tape_, logits, *gradients_);
    loss_ += r.mean * static_cast<double>(r.counted);
    auxiliary_ += report.auxiliary_loss * static_cast<double>(r.counted);
    counted_ += r.counted;
    return ++micro_ >= config_.accumulate ? flush() : std::nullopt;
  }

  // Steps with what was gathered, if anything was: the end of an epoch.
  std::optional<train_result> flush() {
    if (micro_ == 0) return std::nullopt;
    const double tokens = static_cast<double>(std::max<index_t>(counted_, 1));
    const double norm = global_norm(backend_, *gradients_) / tokens;
    const double lr = schedule_(optimizer_.steps());
    if (!std::isfinite(norm)) {
      forget();
      fail(error_code::nonfinite, "trainer: the gradient's norm is ", norm, " at step ",
           optimizer_.steps(), "; the step was not taken; lower the learning rate");
    }
    const double clipped = config_.clip > 0 ? std::min(1.0, config_.clip / (norm + 1e-6)) : 1.0;
    if (counted_ > 0) {
      optimizer_.step(backend_, model_.parameters(), *gradients_, lr, clipped / tokens);
      update_buffers(model_.parameters(), *gradients_);
    }
    const train_result result{loss_ / tokens, auxiliary_ / tokens, norm, lr,
                              counted_,       optimizer_.steps()};
    forget();
    return result;
  }

  const parameters_type& gradients() const { return *gradients_; }
  optimizer_type& optimizer() { return optimizer_; }
  std::size_t tape_bytes() const { return tape_.bytes(); }

 private:
  auto options(sequence_offsets<space> sequences) const {
    run_options<space> run{.how = mode::training, .seed = config_.seed};
    run.step = static_cast<std::uint64_t>(optimizer_.steps() * config_.accumulate + micro_);
    run.sequences = sequences;
    return run;
  }
  template <class L, class Y>
  cross_entropy_result measure(const L& logits, const Y& targets) {
    const scope freed(backend_.workspace());
    using A = accumulate_t<typename L::value_type>;
    auto losses = backend_.workspace().template make<A, dyn>(logits.extent(0));
    return ops::cross_entropy(backend_, logits, targets, losses,
                              cross_entropy_spec{config_.ignore});
  }
  void forget() {
    zero(*gradients_);
    loss_ = auxiliary_ = 0;
    counted_ = micro_ = 0;
  }

  const B& backend_;
  Model& model_;
  optimizer_type optimizer_;
  Schedule schedule_;
  trainer_config config_;
  typename Model::tape_type tape_;
  std::unique_ptr<parameters_type> gradients_;
  double loss_ = 0, auxiliary_ = 0;
  index_t counted_ = 0, micro_ = 0;
};

}  // namespace deepseek
