// SPDX-License-Identifier: Apache-2.0
// trainer: training of a model on token targets, or on another loss (train/losses.hpp), with
// gradient accumulation, clipping by global norm and a schedule. The gradient of a group of
// micro-batches is exact: the sum of token losses over the group divided by its counted tokens,
// also for a last, partial group (flush()). A net with drafts (with_mtp) is trained on loss +
// draft_weight * draft_loss, the sum of the drafts' losses against the targets one further, divided
// by the same number. A loss or gradient that is not finite, or a gradient whose norm after
// clipping is above 2^63 (its squares overflow in float), throws (nonfinite) and leaves parameters
// and moments alone. Clipping: factor min(1, clip / (norm + 1e-6)), norm over all trained
// gradients. with_penalty adds a function of the parameters to the loss (elastic weights);
// after_step runs behind every step (masks of pruned weights).
#pragma once

#include "deepseek/layers/model.hpp"
#include "deepseek/ops/next_tokens.hpp"
#include "deepseek/ops/scale.hpp"
#include "deepseek/ops/sum_of_squares_all.hpp"
#include "deepseek/train/losses.hpp"
#include "deepseek/train/optimizer.hpp"
#include "deepseek/train/schedule.hpp"

#include <functional>
#include <optional>

namespace deepseek {

struct trainer_config {
  index_t accumulate = 1;      // micro-batches per optimizer step, >= 1
  double clip = 1;             // largest global gradient norm; 0: no clipping
  std::uint64_t seed = 0;      // of dropout and random patterns
  std::int32_t ignore = -100;  // target of tokens without a loss
  double draft_weight = 0.3;   // of the loss of drafts, in nets that give any; >= 0
};

struct train_result {
  double loss = 0;       // mean over the group's counted tokens, nats
  double auxiliary = 0;  // balance losses, already weighted
  double norm = 0;       // gradient norm before clipping
  double lr = 0;
  index_t tokens = 0;     // counted
  index_t step = 0;       // optimizer steps done
  double draft_loss = 0;  // of drafts, before its weight
  double penalty = 0;     // of with_penalty
};

// The sum of squares of one tensor after the other.
template <class B>
class squares {
 public:
  explicit squares(const B& b) : backend_(b) {}
  template <class Tensor>
  void add(const Tensor& t) {
    sum_ += ops::sum_of_squares(backend_, t);
  }
  double sum() const { return sum_; }

 private:
  const B& backend_;
  double sum_ = 0;
};
// On a device all tensors of a type at once, type by type.
template <RunsKernels B>
class squares<B> {
 public:
  explicit squares(const B& b) : backend_(b) {}
  template <class Tensor>
  void add(const Tensor& t) {
    std::get<list<typename Tensor::value_type>>(lists_).push_back({t.data(), {t.size()}});
  }
  double sum() const {
    return std::apply([&](const auto&... each) { return (sum_of(each) + ...); }, lists_);
  }

 private:
  template <class T>
  using list = std::vector<view<const T, typename B::space, dyn>>;
  template <class List>
  double sum_of(const List& each) const {
    return ops::sum_of_squares_all(backend_, std::span<const typename List::value_type>(each));
  }
  const B& backend_;
  std::tuple<list<float>, list<double>, list<bf16>, list<f16>> lists_;
};

// sqrt of the sum of squares over all trained tensors, in double, in a fixed order.
template <class B, class P>
double global_norm(const B& b, const P& gradients) {
  squares<B> all(b);
  visit(
      [&](const tensor_name& at, const auto& t) {
        if constexpr (!std::is_integral_v<typename std::remove_cvref_t<decltype(t)>::value_type>) {
          if (at.role == field_role::trained) all.add(t);
        }
      },
      gradients);
  return std::sqrt(all.sum());
}

template <class Model, class B, class Rule, class Schedule, class Loss = token_loss>
class trainer {
 public:
  using parameters_type = typename Model::parameters_type;
  using optimizer_type = deepseek::optimizer<Rule, parameters_type>;
  using space = typename Model::space;

  trainer(const B& b, Model& m, const Rule& rule, const Schedule& schedule,
          trainer_config config = {}, const Loss& loss = {})
      : backend_(b),
        model_(m),
        optimizer_(rule, m.parameters()),
        schedule_(schedule),
        config_(config),
        loss_of_(loss),
        tape_(m.tape(b)),
        gradients_(std::make_unique<parameters_type>()) {
    require(config.accumulate >= 1, error_code::invalid_argument, "trainer: accumulate is ",
            config.accumulate, "; write a number >= 1");
    require(config.clip >= 0, error_code::invalid_argument, "trainer: clip is ", config.clip,
            "; write a norm > 0, or 0 for no clipping");
    set_draft_weight(config.draft_weight);
  }

  // For a schedule of it.
  void set_draft_weight(double weight) {
    require(std::isfinite(weight) && weight >= 0, error_code::invalid_argument,
            "trainer: draft_weight is ", weight, "; write a finite number >= 0");
    config_.draft_weight = weight;
  }

  // penalty(parameters, gradients, factor) returns its value and adds factor times its gradient. It
  // is asked once a step and counts as much as the mean loss of the group.
  using penalty_function = std::function<double(const parameters_type&, parameters_type&, double)>;
  void with_penalty(penalty_function penalty) { penalty_ = std::move(penalty); }
  // What must hold after every step: f(parameters).
  void after_step(std::function<void(parameters_type&)> f) { after_step_ = std::move(f); }

  // One micro-batch: tokens [n] and targets [n], packed sequences by offsets. Returns the result of
  // the group when it is full and the parameters have moved.
  template <class X, class Y>
  std::optional<train_result> micro_step(const X& tokens, const Y& targets,
                                         sequence_offsets<space> sequences = {}) {
    run_report report;
    auto run = options(sequences);
    run.report = &report;
    const auto y = model_.forward(backend_, tokens, tape_, run);
    const auto [counted, loss, draft_loss] = losses_to_gradients(y, targets, sequences);
    tape_.set_gradient_scale(static_cast<double>(counted));
    model_.backward(backend_, tokens, tape_, y, *gradients_);
    loss_ += loss;
    draft_loss_ += draft_loss;
    auxiliary_ += report.auxiliary_loss * static_cast<double>(counted);
    counted_ += counted;
    return ++micro_ >= config_.accumulate ? flush() : std::nullopt;
  }

  // Steps with what was gathered, if anything was: the end of an epoch.
  std::optional<train_result> flush() {
    if (micro_ == 0) return std::nullopt;
    const double tokens = static_cast<double>(std::max<index_t>(counted_, 1));
    const double penalty =
        penalty_ ? penalty_(std::as_const(model_.parameters()), *gradients_, tokens) : 0.0;
    const double norm = global_norm(backend_, *gradients_) / tokens;
    const double lr = schedule_(optimizer_.steps());
    const double clipped = config_.clip > 0 ? std::min(1.0, config_.clip / (norm + 1e-6)) : 1.0;
    if (!std::isfinite(norm) || clipped * norm > 0x1p63) {
      forget();
      fail(error_code::nonfinite, "trainer: the gradient's norm is ", norm, " at step ",
           optimizer_.steps(), ", clipped to ", clipped * norm,
           "; the step was not taken; lower the learning rate or clip below 2^63");
    }
    if (counted_ > 0) {
      optimizer_.step(backend_, model_.parameters(), *gradients_, lr, clipped / tokens);
      update_buffers(backend_, model_.parameters(), *gradients_);
      if (after_step_) after_step_(model_.parameters());
    }
    const train_result result{loss_ / tokens,     auxiliary_ / tokens,  norm,   lr, counted_,
                              optimizer_.steps(), draft_loss_ / tokens, penalty};
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
  struct summed_losses {
    index_t counted = 0;
    double loss = 0, draft_loss = 0;  // sums over tokens
  };
  // Measures the outputs and overwrites them with their gradients, which are sums: they are divided
  // by the group's tokens at the step.
  template <class Outputs, class Y>
  summed_losses losses_to_gradients(const Outputs& y, const Y& targets,
                                    sequence_offsets<space> sequences) {
    if constexpr (is_view<Outputs>) {
      const auto [counted, sum] = checked(loss_of_(backend_, y, targets, config_.ignore));
      return {counted, sum, 0};
    } else {
      const scope freed(backend_.workspace());
      const auto further =
          backend_.workspace().template make<std::int32_t, dyn>(y.drafts.extent(0));
      ops::next_tokens(backend_, ids_of(targets), sequences, config_.ignore, further);
      const auto [counted, sum] = checked(loss_of_(backend_, y.logits, targets, config_.ignore));
      const auto drafts = checked(token_loss{}(backend_, y.drafts, further, config_.ignore));
      ops::scale(backend_, config_.draft_weight, y.drafts);
      return {counted, sum, drafts.sum};
    }
  }
  // The ids among the targets, which drafts are trained on.
  template <class Y>
  static const auto& ids_of(const Y& targets) {
    if constexpr (requires { targets.ids; }) {
      return targets.ids;
    } else {
      return targets;
    }
  }
  loss_sum checked(const loss_sum& r) const {
    require(std::isfinite(r.sum), error_code::nonfinite, "trainer: the loss is ", r.sum,
            " at step ", optimizer_.steps(), "; lower the learning rate or look at the data");
    return r;
  }
  void forget() {
    zero(*gradients_);
    loss_ = draft_loss_ = auxiliary_ = 0;
    counted_ = micro_ = 0;
  }

  const B& backend_;
  Model& model_;
  optimizer_type optimizer_;
  Schedule schedule_;
  trainer_config config_;
  Loss loss_of_;
  penalty_function penalty_;
  std::function<void(parameters_type&)> after_step_;
  typename Model::tape_type tape_;
  std::unique_ptr<parameters_type> gradients_;
  double loss_ = 0, draft_loss_ = 0, auxiliary_ = 0;
  index_t counted_ = 0, micro_ = 0;
};

}  // namespace deepseek
