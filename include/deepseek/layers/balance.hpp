// SPDX-License-Identifier: Apache-2.0
// The balance losses of a layer of experts, each alpha sum f P (ops/balance_loss.hpp):
// balance_form::batch over all tokens, sequence over each sequence and then averaged (seq_aux),
// affinity over each sequence with f from the K largest scores without bias and groups and P from
// scores divided by their sum, first_choice over all tokens with f from first choices only
// (GShard's E sum m c / T). batch is Switch's loss where K = 1 and DeepSpeed's E^2 / K mean(m c)
// for any K. device_balance: the loss of devices that hold equal groups of experts, and of their
// traffic. Sources: DeepSeekMoE 2024, 3.3; DeepSeek-V2 2024, 2.2.3; DeepSeek-V3 2024, 2.1.2;
// Lepikhin et al. 2020, 2.2; Fedus et al. 2022, 2.2.
#pragma once

#include "deepseek/layers/layer.hpp"
#include "deepseek/ops/balance_loss.hpp"
#include "deepseek/ops/top_k.hpp"

namespace deepseek {

enum class balance_form { batch, sequence, affinity, first_choice };

struct device_balance {
  index_t count = 1;         // devices; a divisor of the routed experts
  index_t top = 1;           // devices that a token is sent to at most
  double alpha = 0;          // weight of the loss over devices, >= 0
  double communication = 0;  // weight of the loss over what is sent to them, >= 0
  bool operator==(const device_balance&) const = default;
};

// Config: has balance (the experts' alpha), form, devices and active.
template <auto Config>
struct balance_losses {
  // The sum of the losses.
  template <class Call, class P, class I>
  static double value(const Call& c, const balance_inputs<P, I>& in) {
    double sum = 0;
    each(c, in, [&](const auto& given, const auto& spec) {
      sum += ops::balance_loss(c.backend, given, spec);
    });
    return sum;
  }
  // Adds their gradient times c.options.gradient_scale to dscores.
  template <class Call, class P, class I, class DS>
  static void add_gradient(const Call& c, const balance_inputs<P, I>& in, const DS& dscores) {
    each(c, in, [&](const auto& given, auto spec) {
      spec.alpha *= c.options.gradient_scale;
      ops::balance_loss_backward(c.backend, given, dscores, spec);
    });
  }

 private:
  template <class Call>
  static auto spec_of(const Call& c, double alpha) {
    balance_spec<typename Call::space> spec{.alpha = alpha};
    constexpr bool whole =
        Config.form == balance_form::batch || Config.form == balance_form::first_choice;
    if (!whole) spec.sequences = c.options.sequences;
    return spec;
  }
  // f(inputs, spec) for every loss whose weight is not zero.
  template <class Call, class P, class I, class F>
  static void each(const Call& c, const balance_inputs<P, I>& in, const F& f) {
    if constexpr (Config.balance > 0) {
      auto spec = spec_of(c, Config.balance);
      if constexpr (Config.form == balance_form::affinity) {
        spec.share = balance_share::divided;
        by_affinity(c, in.scores, [&](const auto& given) { f(given, spec); });
      } else if constexpr (Config.form == balance_form::first_choice) {
        f(balance_inputs{in.scores, columns<0, 1>(in.ids)}, spec);
      } else {
        f(in, spec);
      }
    }
    auto spec = spec_of(c, Config.devices.alpha);
    spec.groups = Config.devices.count;
    if (Config.devices.alpha > 0) f(in, spec);
    spec.alpha = Config.devices.communication;
    spec.top_groups = Config.devices.top;
    spec.count = balance_count::tokens;
    if (Config.devices.communication > 0) f(in, spec);
  }
  // The K largest of the scores themselves in place of the choice.
  template <class Call, class P, class F>
  static void by_affinity(const Call& c, const P& scores, const F& f) {
    const scope freed(c.scratch);
    const index_t tokens = scores.extent(0);
    auto values = c.scratch.template make<typename P::value_type, dyn, Config.active>(tokens);
    auto ids = c.scratch.template make<std::int32_t, dyn, Config.active>(tokens);
    ops::top_k(c.backend, scores, values, ids);
    f(balance_inputs{scores, ids});
  }
};

}  // namespace deepseek
