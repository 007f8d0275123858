// SPDX-License-Identifier: Apache-2.0
// optimizer<Rule, P>: one update rule over all trained tensors of a parameter struct; its state is
// the same struct again, once per moment. Rules: adamw, sgd, lion, amf (ops/optimizer.hpp has the
// formulas and sources). Buffers (field_role::state) are skipped. Weight decay touches matrices
// only (not what starts at a fixed value: norm weights and biases) unless decays::everything is
// asked for. On a device one launch updates all tensors of a type (ops/update_all.hpp). Errors:
// invalid_argument (rates, betas, eps outside their ranges), before anything is changed.
#pragma once

#include "deepseek/core/parameters.hpp"
#include "deepseek/ops/update_all.hpp"

#include <array>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

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
    ops::adamw_update(b, w, g, moments{*s[0], *s[1]}, step_of(decay, at));
  }
  adamw_step step_of(double decay, const step_scale& at) const {
    const double t = static_cast<double>(at.step);
    return {at.lr,
            beta1,
            beta2,
            eps,
            decay,
            1 - std::pow(beta1, t),
            1 - std::pow(beta2, t),
            at.gradient_factor};
  }
};

struct sgd {
  static constexpr int states = 1;
  double momentum = 0.9, weight_decay = 0;
  sgd_momentum how = sgd_momentum::heavy_ball;

  template <class B, class W, class G, class States>
  void update(const B& b, W& w, const G& g, States& s, double decay, const step_scale& at) const {
    ops::sgd_update(b, w, g, *s[0], step_of(decay, at));
  }
  sgd_step step_of(double decay, const step_scale& at) const {
    return {at.lr, momentum, decay, at.gradient_factor, how};
  }
};

struct lion {
  static constexpr int states = 1;
  double beta1 = 0.9, beta2 = 0.99, weight_decay = 0.01;

  template <class B, class W, class G, class States>
  void update(const B& b, W& w, const G& g, States& s, double decay, const step_scale& at) const {
    ops::lion_update(b, w, g, *s[0], step_of(decay, at));
  }
  lion_step step_of(double decay, const step_scale& at) const {
    return {at.lr, beta1, beta2, decay, at.gradient_factor};
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
    ops::amf_update(b, w, g, amf_moments{*s[0], *s[1], *s[2]}, step_of(decay, at));
  }
  amf_step step_of(double decay, const step_scale& at) const {
    const double t = static_cast<double>(at.step);
    const bool mended = form == amf_form::corrected;
    return {at.lr,
            beta1,
            beta2,
            momentum,
            eps,
            mended ? decay : 0.0,
            mended ? 1 - std::pow(beta1, t) : 1.0,
            mended ? 1 - std::pow(beta2, t) : 1.0,
            at.gradient_factor,
            form};
  }
};

// A rule whose step is a value that ops::update_all takes: step_of(decay, scale).
template <class Rule>
concept StepsTogether = requires(const Rule& rule, const step_scale& at) {
  { states_of(rule.step_of(rule.weight_decay, at)) } -> std::same_as<int>;
};

// The tensors of one step by their types, each type's in one list and updated at once.
template <class B, class Rule>
class gathered_updates {
 public:
  template <class W, class G, class States>
  void add(W& w, const G& g, const States& states, bool decays) {
    using P = typename W::value_type;
    using S = typename B::space;
    update_item<P, typename G::value_type, S, Rule::states> item{flat(w), flat(g), {}, decays};
    for (std::size_t i = 0; i < states.size(); ++i) item.state[i] = flat(*states[i]);
    list_of(item).items.push_back(item);
  }
  void run(const B& b, const Rule& rule, const step_scale& at) const {
    for (const auto& [type, list] : lists_) list->run(b, rule, at);
  }

 private:
  struct any_list {
    virtual ~any_list() = default;
    virtual void run(const B&, const Rule&, const step_scale&) const = 0;
  };
  template <class Item>
  struct typed_list : any_list {
    std::vector<Item> items;
    void run(const B& b, const Rule& rule, const step_scale& at) const override {
      ops::update_all(b, std::span<const Item>(items), rule.step_of(rule.weight_decay, at));
    }
  };
  template <class Tensor>
  static auto flat(Tensor& t) {
    using E = std::remove_pointer_t<decltype(t.data())>;
    return view<E, typename B::space, dyn>(t.data(), {t.size()});
  }
  template <class Item>
  typed_list<Item>& list_of(const Item&) {
    for (auto& [type, list] : lists_) {
      if (type == &tag<Item>) return static_cast<typed_list<Item>&>(*list);
    }
    lists_.emplace_back(&tag<Item>, std::make_unique<typed_list<Item>>());
    return static_cast<typed_list<Item>&>(*lists_.back().second);
  }

  // Its address stands for a type: -fno-rtti has no typeid. Not const: a linker may fold constants.
  template <class Item>
  static inline char tag = 0;

  std::vector<std::pair<const char*, std::unique_ptr<any_list>>> lists_;
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
    [[maybe_unused]] gathered_updates<B, Rule> together;
    visit(
        [&](const tensor_name& name, auto& w, const auto& gradient, auto&... state) {
          using Tensor = std::remove_reference_t<decltype(w)>;
          if constexpr (!std::is_integral_v<typename Tensor::value_type>) {  // those are state
            if (name.role == field_role::state) return;
            // Experts side by side give a bias vector a second extent: its start decides.
            const bool matrix = Tensor::rank >= 2 && name.start == first_value::drawn;
            const bool decaying = matrix || which_ == decays::everything;
            std::array<Tensor*, sizeof...(state)> states = {&state...};
            if constexpr (RunsKernels<B> && StepsTogether<Rule>) {
              together.add(w, gradient, states, decaying);
            } else {
              rule_.update(b, w, gradient, states, decaying ? rule_.weight_decay : 0.0, at);
            }
          }
        },
        p, g, *state_[I]...);
    if constexpr (RunsKernels<B> && StepsTogether<Rule>) {
      together.run(b, rule_, at);
    }
  }

  Rule rule_;
  decays which_;
  index_t steps_ = 0;
  std::array<std::unique_ptr<P>, static_cast<std::size_t>(Rule::states)> state_;
};

}  // namespace deepseek
