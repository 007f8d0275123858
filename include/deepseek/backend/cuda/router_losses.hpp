// SPDX-License-Identifier: Apache-2.0
// router_z_loss, importance_loss and load_loss on the device, in double: a warp or a block for each
// token, sums over tokens in two passes of fixed order. See ops/router_z_loss.hpp,
// ops/importance_loss.hpp, ops/load_loss.hpp. Each returns its number to the host, so it waits.
#pragma once

#include "deepseek/backend/cuda/column_sums.hpp"
#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/cuda/number_sum.hpp"
#include "deepseek/backend/cuda/require_indices.hpp"
#include "deepseek/backend/cuda/unless_fault.hpp"
#include "deepseek/backend/rows/load_loss.hpp"
#include "deepseek/backend/rows/router_z_loss.hpp"
#include "deepseek/backend/rows/variation.hpp"
#include "deepseek/ops/importance_loss.hpp"

namespace deepseek {

namespace cuda_router_losses {

template <class Space>
using numbers = view<double, Space, dyn>;

// -- router_z_loss
template <class Z, class Squares>
struct squared_logs {
  Z logits;
  Squares squares;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t t) const {
    const double lse = log_sum_exp(team, slice(logits, t));
    if (team.rank() == 0) squares(t) = lse > -math::infinity<double> ? lse * lse : 0;
  }
};
template <class Z, class DZ>
struct z_gradient {
  Z logits;
  DZ dlogits;
  double scale;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t t) const {
    const double lse = log_sum_exp(team, slice(logits, t));
    if (!(lse > -math::infinity<double>)) return;
    for (index_t e = team.rank(); e < logits.extent(1); e += team.size()) {
      add_to(dlogits, t, e, scale * lse * std::exp(convert_to<double>(logits(t, e)) - lse));
    }
  }
};

// -- what importance_loss and load_loss share
template <class Sums, class Out>
struct vary {
  Sums sums;
  Out out;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t) const {
    const variation v(team, sums);
    if (team.rank() == 0) out(0) = v;
  }
};
// The variation of the experts' sums, in device memory.
template <DeviceBackend B>
auto vary_sums(const B& b, const numbers<typename B::space>& sums) {
  using Out = view<variation, typename B::space, dyn>;
  const Out out = b.workspace().template make<variation, dyn>(index_t{1});
  run_each_row(b, 1, sums.extent(0), vary<numbers<typename B::space>, Out>{sums, out});
  return out;
}

// -- importance_loss: what token t gives to expert e.
template <class In>
struct importance_term {
  In in;
  DEEPSEEK_HOST_DEVICE double operator()(index_t t, index_t e) const {
    double sum = 0;
    for (index_t k = 0; k < in.ids.extent(1); ++k) {
      if (in.ids(t, k) == e) sum += convert_to<double>(in.weights(t, k));
    }
    return sum;
  }
};
template <class In, class DW, class Sums, class Varied>
struct importance_gradient {
  In in;
  DW dweights;
  Sums sums;
  Varied varied;
  double alpha;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const index_t t = i / in.ids.extent(1), k = i % in.ids.extent(1), e = in.ids(t, k);
    if (e >= 0) add_to(dweights, t, k, alpha * varied(0).derivative(sums(e)));
  }
};
template <DeviceBackend B, class In>
auto importance_sums(const B& b, const In& in, index_t experts) {
  require_indices(b, in.ids, experts, "importance_loss: ids", index_t{-1});
  const numbers<typename B::space> sums = b.workspace().template make<double, dyn>(experts);
  fill_impl(b, 0, sums);
  add_term_columns(b, in.ids.extent(0), importance_term<In>{in}, sums);
  return sums;
}

// -- load_loss
template <class In, class At>
struct thresholds {
  In in;
  At at;
  index_t active;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t t) const {
    const load_thresholds found = find_thresholds(team, slice(in.noisy, t), active);
    if (team.rank() == 0) at(t) = found;
  }
};
template <class In, class At>
struct load_term {
  In in;
  At at;
  DEEPSEEK_HOST_DEVICE double operator()(index_t t, index_t e) const {
    return chance_of(in, t, e, at(t)).value();
  }
};
template <class Space, class At>
struct expected_load {
  At at;                // of each token
  numbers<Space> load;  // of each expert
};
template <DeviceBackend B, class In>
auto find_load(const B& b, const In& in, index_t active) {
  using At = view<load_thresholds, typename B::space, dyn>;
  const index_t tokens = in.noisy.extent(0), experts = in.noisy.extent(1);
  const At at = b.workspace().template make<load_thresholds, dyn>(tokens);
  const numbers<typename B::space> load = b.workspace().template make<double, dyn>(experts);
  run_each_row(b, tokens, experts, thresholds<In, At>{in, at, active});
  fill_impl(b, 0, load);
  add_term_columns(b, tokens, load_term<In, At>{in, at}, load);
  return expected_load<typename B::space, At>{at, load};
}

template <class In, class Out, class Found, class Varied>
struct load_gradient {
  In in;
  Out out;
  Found found;
  Varied varied;
  double alpha;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t t) const {
    const load_thresholds at = found.at(t);
    double to_kth = 0, to_next = 0;
    for (index_t e = team.rank(); e < in.noisy.extent(1); e += team.size()) {
      const load_chance c = chance_of(in, t, e, at);
      const double d = chance_slope(c, alpha * varied(0).derivative(found.load(e)));
      if (d == 0) continue;
      add_to(out.logits, t, e, d);
      add_to(out.deviation, t, e,
             -d * c.distance * math::sigmoid(convert_to<double>(in.deviation(t, e))));
      (c.threshold == at.kth ? to_kth : to_next) -= d;
    }
    to_kth = team.sum(to_kth);
    to_next = team.sum(to_next);
    team.sync();
    if (team.rank() != 0) return;
    if (to_kth != 0) add_to(out.noisy, t, at.kth, to_kth);
    if (to_next != 0) add_to(out.noisy, t, at.next, to_next);
  }
};

}  // namespace cuda_router_losses

template <DeviceBackend B, class Z>
double router_z_loss_impl(const B& b, const Z& logits, double alpha) {
  using Squares = cuda_router_losses::numbers<typename B::space>;
  const index_t tokens = logits.extent(0);
  const scope freed(b.workspace());
  const Squares squares = b.workspace().template make<double, dyn>(tokens);
  run_each_row(b, tokens, logits.extent(1),
               cuda_router_losses::squared_logs<Z, Squares>{logits, squares});
  return alpha * read_sum(b, tokens, cuda_number_sum::element<Squares>{squares}) /
         static_cast<double>(tokens);
}

template <DeviceBackend B, class Z, class DZ>
void router_z_loss_backward_impl(const B& b, const Z& logits, const DZ& dlogits, double alpha) {
  const double scale = 2 * alpha / static_cast<double>(logits.extent(0));
  run_each_row(b, logits.extent(0), logits.extent(1),
               cuda_router_losses::z_gradient<Z, DZ>{logits, dlogits, scale});
}

template <DeviceBackend B, class W, class I>
double importance_loss_impl(const B& b, const importance_inputs<W, I>& in, index_t experts,
                            double alpha) {
  const scope freed(b.workspace());
  const auto sums = cuda_router_losses::importance_sums(b, in, experts);
  return alpha * b.read(cuda_router_losses::vary_sums(b, sums).data()).value();
}

template <DeviceBackend B, class W, class I, class DW>
void importance_loss_backward_impl(const B& b, const importance_inputs<W, I>& in,
                                   const DW& dweights, index_t experts, double alpha) {
  using In = importance_inputs<W, I>;
  const scope freed(b.workspace());
  const auto sums = cuda_router_losses::importance_sums(b, in, experts);
  const auto varied = cuda_router_losses::vary_sums(b, sums);
  using Sums = std::remove_const_t<decltype(sums)>;
  using Varied = std::remove_const_t<decltype(varied)>;
  run_each_element(b, in.ids.size(),
                   unless_fault(b, cuda_router_losses::importance_gradient<In, DW, Sums, Varied>{
                                       in, dweights, sums, varied, alpha}));
}

template <DeviceBackend B, class In>
double load_loss_impl(const B& b, const In& in, index_t active, double alpha) {
  const scope freed(b.workspace());
  return alpha *
         b.read(cuda_router_losses::vary_sums(b, cuda_router_losses::find_load(b, in, active).load)
                    .data())
             .value();
}

template <DeviceBackend B, class In, class Out>
void load_loss_backward_impl(const B& b, const In& in, const Out& out, index_t active,
                             double alpha) {
  const scope freed(b.workspace());
  const auto found = cuda_router_losses::find_load(b, in, active);
  const auto varied = cuda_router_losses::vary_sums(b, found.load);
  using Found = std::remove_const_t<decltype(found)>;
  using Varied = std::remove_const_t<decltype(varied)>;
  run_each_row(
      b, in.noisy.extent(0), in.noisy.extent(1),
      cuda_router_losses::load_gradient<In, Out, Found, Varied>{in, out, found, varied, alpha});
}

}  // namespace deepseek
