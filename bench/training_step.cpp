// SPDX-License-Identifier: Apache-2.0
// One optimizer step of the demo's model on 8 windows of 256 bytes: forward, losses, backward,
// clipping, AdamW. Checked first: the losses and gradients of steps on short windows against the
// reference backend.
#include "support/cases.hpp"
#include "training/training_run.hpp"

#include <algorithm>
#include <cmath>

namespace bench {
namespace {

// Multiply-adds of all products and of the visible pairs of attention for one token, forward.
struct multiply_adds {
  static constexpr auto& a = demo::latent;
  static constexpr auto& e = demo::experts;
  static constexpr double blocks = demo::layers + 1;  // one more predicts further
  static constexpr double projections =
      static_cast<double>(a.dim * (a.heads * (a.key_dim() + a.v_dim) + a.cache_width()) +
                          a.kv_rank * a.heads * (a.nope_dim + a.v_dim));
  static constexpr double experts =
      static_cast<double>(e.dim * e.routed + 3 * (e.active + e.shared) * e.dim * e.hidden);
  static constexpr double ends = 2 * 192 * 256 + 2 * 192 * 192;  // the head twice, eh_proj
  static constexpr double products = blocks * (projections + experts) + ends;
  static constexpr double pairs = blocks * static_cast<double>((demo::window + 1) * a.heads) / 2;
  static constexpr double pair_forward = static_cast<double>(a.key_dim() + a.v_dim);
  static constexpr double pair_backward = static_cast<double>(3 * a.key_dim() + 2 * a.v_dim);
};

work cost_of_step(index_t tokens, index_t parameters) {
  using m = multiply_adds;
  const double each = 3 * m::products + m::pairs * (m::pair_forward + m::pair_backward);
  const double adamw = 7 * 4 * static_cast<double>(parameters);  // reads 4, writes 3
  return {2 * each * static_cast<double>(tokens), adamw};
}

// In units of what is allowed: a hundred-thousandth of the loss.
double error_of_short_steps(const ds::cpu& b) {
  constexpr index_t window = 8;
  training_run<ds::cpu> got(b, window);
  const ds::reference loops;
  training_run<ds::reference> want(loops, window);
  double worst = 0;
  for (int i = 0; i < 3; ++i) {
    const ds::train_result x = got.step(), y = want.step();
    worst = std::max({worst, std::abs(x.loss / y.loss - 1), std::abs(x.norm / y.norm - 1)});
  }
  return worst / 1e-5;
}

struct training_on {
  ds::cpu machine;
  training_run<ds::cpu> run;
  explicit training_on(int threads) : machine{{.threads = threads}}, run(machine, demo::window) {}
};

problem step_problem(int threads) {
  const auto at = std::make_shared<training_on>(threads);
  const index_t tokens = at->run.batch(0).input_view().extent(0);
  problem made;
  made.cost = cost_of_step(tokens, ds::parameter_count(at->run.parameters()));
  made.run = [=] { at->run.step(); };
  made.error = [=] { return error_of_short_steps(at->machine); };
  made.loops = [=] { return at->machine.loops().text(); };
  return made;
}

}  // namespace

void add_cases() {
  for (const int threads : {1, 2}) {
    add_case({"training_step", "cpu", "simd", "demo_8x256", threads},
             [=] { return step_problem(threads); });
  }
}

}  // namespace bench
