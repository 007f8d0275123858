// SPDX-License-Identifier: Apache-2.0
// optimizer<Rule, P>: one update rule over all trained tensors of a parameter struct; its state is
// the same struct again, once per moment. Rules: adamw, sgd, lion, amf (ops/optimizer.hpp has the
// formulas and sources). Buffers (field_role::state) are skipped. Weight decay touches matrices
// only (not what starts at a fixed value: norm weights and biases) unless decays::everything is
// asked for. Errors: invalid_argument (rates, betas, eps outside their ranges), before anything is
// changed.
#pragma once

#include "deepseek/core/parameters.hpp"
#include "deepseek/ops/optimizer.hpp"

#include <array>
#include <cmath>
#include <memory>

namespace deepseek {

enum class decays { matrices, everything };

// What one step is told from outside: the learning rate of the schedule and a factor on gradients
// (1 / tokens, clipping, 1 / loss scale).
struct step_scale {
  double lr = 1e-3;
  double gradient_factor = 1;
  index_t step = 1;  // 1 for the first
};

struct adamw {
  static constexpr int states = 2;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;

  template <class B, class W, class G, class States>
  void update(const B& b, W& w, const G& g, States& s, double decay, const step_scale& at) const {
    const double t = static_cast<double>(at.step);
    ops::adamw_update(b, w, g, moments{*s[0], *s[1]},
                      adamw_step{at.lr, beta1, beta2, eps, decay, 1 - std::pow(beta1, t),
                                 1 - std::pow(beta2, t), at.gradient_factor});
  }
};

struct sgd {
  static constexpr int states = 1;
  double momentum = 0.9, weight_decay = 0;
  sgd_momentum how = sgd_momentum::heavy_ball;

  template <class B, class W, class G, class States>
  void update(const B& b, W& w, const G& g, States& s, double decay, const step_scale& at) const {
    ops::sgd_update(b, w, g, *s[0], sgd_step{at.lr, momentum, decay, at.gradient_factor, how});
  }
};

struct lion {
  static constexpr int states = 1;
  double beta1 = 0.9, beta2 = 0.99, weight_decay = 0.01;

  template <class B, class W, class G, class States>
  void update(const B& b, W& w, const G& g, States& s, double decay, const step_scale& at) const {
    ops::lion_update(b, w, g, *s[0], lion_step{at.lr, beta1, beta2, decay, at.gradient_factor});
  }
};

// As printed in its article the rule has no bias correction and no decay (amf_form::printed); the
// corrected form has both. In either the buffer sums steps: the steady step is lr / (1 - momentum).
struct amf {
  static constexpr int states = 3;
  double beta1 = 0.9, beta2 = 0.999, momentum = 0.9, eps = 1e-8, weight_decay = 0;
  amf_form form = amf_form::corrected;

  template <class B, class W, class G, class States>
  void update(const B& b, W& w, const G& g, States& s, double decay, const step_scale& at) const {
    const double t = static_cast<double>(at.step);
    const bool mended = form == amf_form::corrected;
    ops::amf_update(b, w, g, amf_moments{*s[0], *s[1], *s[2]},
                    amf_step{at.lr, beta1, beta2, momentum, eps, mended ? decay : 0.0,
                             mended ? 1 - std::pow(beta1, t) : 1.0,
                             mended ? 1 - std::pow(beta2, t) : 1.0, at.gradient_factor, form});
  }
};

template <class Rule, class P>
class optimizer {
 public:
  optimizer(const Rule& rule, const P&, decays which = decays::matrices)
      : rule_(rule), which_(which) {
    for (auto& s : state_) s = std::make_unique<P>();
  }

  index_t steps() const { return steps_; }
  void set_steps(index_t n) { steps_ = n; }  // when a checkpoint is resumed

  template <class B, class G>
  void step(const B& b, P& p, const G& g, double lr, double gradient_factor = 1) {
    const step_scale at{lr, gradient_factor, steps_ + 1};
    step_with(b, p, g, at, std::make_index_sequence<static_cast<std::size_t>(Rule::states)>{});
    ++steps_;
  }

  // f(name, tensor) for every tensor of the state: "0.layers.0.attn.wq.weight", ...
  template <class F>
  void visit_state(F&& f) {
    for (std::size_t i = 0; i < state_.size(); ++i) {
      visit(
          [&](const tensor_name& at, auto& t) {
            if (at.role == field_role::trained) f(std::to_string(i) + "." + at.path, t);
          },
          *state_[i]);
    }
  }

 private:
  template <class B, class G, std::size_t... I>
  void step_with(const B& b, P& p, const G& g, const step_scale& at, std::index_sequence<I...>) {
    visit(
        [&](const tensor_name& name, auto& w, const auto& gradient, auto&... state) {
          using Tensor = std::remove_reference_t<decltype(w)>;
          if constexpr (!std::is_integral_v<typename Tensor::value_type>) {  // those are state
            if (name.role == field_role::state) return;
            // Experts side by side give a bias vector a second extent: its start decides.
            const bool matrix = Tensor::rank >= 2 && name.start == first_value::drawn;
            const double decay = matrix || which_ == decays::everything ? rule_.weight_decay : 0.0;
            std::array<Tensor*, sizeof...(state)> states = {&state...};
            rule_.update(b, w, gradient, states, decay, at);
          }
        },
        p, g, *state_[I]...);
  }

  Rule rule_;
  decays which_;
  index_t steps_ = 0;
  std::array<std::unique_ptr<P>, static_cast<std::size_t>(Rule::states)> state_;
};

}  // namespace deepseek
