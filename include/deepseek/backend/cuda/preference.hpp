// SPDX-License-Identifier: Apache-2.0
// preference on the device: pairs are checked, then their terms summed; the gradient has a thread
// for each reward, which looks through all pairs in order (rows and pairs are few). See
// ops/preference.hpp.
#pragma once

#include "deepseek/backend/cuda/number_sum.hpp"
#include "deepseek/backend/cuda/require_indices.hpp"
#include "deepseek/backend/cuda/unless_fault.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/preference.hpp"

namespace deepseek {

namespace cuda_preference {

template <class A, class R, class Pairs>
struct pair_values {
  R rewards;
  Pairs pairs;
  preference_spec spec;

  DEEPSEEK_HOST_DEVICE A reward(index_t i, index_t side) const {
    return convert_to<A>(rewards(static_cast<index_t>(pairs(i, side))));
  }
  DEEPSEEK_HOST_DEVICE A pull(index_t i) const {
    return math::sigmoid(static_cast<A>(spec.margin) - (reward(i, 0) - reward(i, 1)));
  }
  DEEPSEEK_HOST_DEVICE A centre(index_t i) const {
    return 2 * static_cast<A>(spec.centering) * (reward(i, 0) + reward(i, 1));
  }
};

template <class R, class Pairs>
struct loss_term {
  using A = accumulate_t<typename R::value_type>;
  pair_values<A, R, Pairs> values;
  fault_place faults;
  DEEPSEEK_HOST_DEVICE double operator()(index_t i) const {
    if (faults.found()) return 0;
    const A both = values.reward(i, 0) + values.reward(i, 1);
    const A apart = values.reward(i, 0) - values.reward(i, 1);
    const A missed = math::softplus(static_cast<A>(values.spec.margin) - apart);
    return static_cast<double>(missed + static_cast<A>(values.spec.centering) * both * both);
  }
};
template <class R, class Pairs>
struct right_term {
  using A = accumulate_t<typename R::value_type>;
  pair_values<A, R, Pairs> values;
  fault_place faults;
  DEEPSEEK_HOST_DEVICE double operator()(index_t i) const {
    return !faults.found() && values.reward(i, 0) - values.reward(i, 1) > 0 ? 1 : 0;
  }
};

template <class R, class Pairs, class Sums>
struct gradient {
  using A = typename Sums::value_type;
  pair_values<A, R, Pairs> values;
  Sums sums;
  A by;
  DEEPSEEK_HOST_DEVICE void operator()(index_t r) const {
    A sum = 0;
    for (index_t i = 0; i < values.pairs.extent(0); ++i) {
      if (values.pairs(i, 0) == r) sum += by * (values.centre(i) - values.pull(i));
      if (values.pairs(i, 1) == r) sum += by * (values.centre(i) + values.pull(i));
    }
    sums(r) = sum;
  }
};

template <class Sums, class DR>
struct rounded {
  Sums sums;
  DR drewards;
  DEEPSEEK_HOST_DEVICE void operator()(index_t r) const {
    drewards(r) = convert_to<typename DR::value_type>(sums(r));
  }
};

}  // namespace cuda_preference

template <DeviceBackend B, class R, class Pairs>
preference_result preference_impl(const B& b, const R& rewards, const Pairs& pairs,
                                  const preference_spec& spec) {
  using A = accumulate_t<typename R::value_type>;
  require_indices(b, pairs, rewards.extent(0), "preference: pairs");
  const cuda_preference::pair_values<A, R, Pairs> values{rewards, pairs, spec};
  const double n = static_cast<double>(pairs.extent(0));
  const double sum =
      read_sum(b, pairs.extent(0), cuda_preference::loss_term<R, Pairs>{values, b.faults()});
  return {
      sum / n,
      read_sum(b, pairs.extent(0), cuda_preference::right_term<R, Pairs>{values, b.faults()}) / n};
}

template <DeviceBackend B, class R, class Pairs, class DR>
void preference_gradient_impl(const B& b, const R& rewards, const Pairs& pairs, const DR& drewards,
                              const preference_spec& spec) {
  using A = accumulate_t<typename DR::value_type>;
  using Sums = view<A, typename B::space, dyn>;
  const index_t n = pairs.extent(0);
  require_indices(b, pairs, rewards.extent(0), "preference: pairs");
  const scope freed(b.workspace());
  const Sums sums = b.workspace().template make<A, dyn>(rewards.extent(0));
  const A by = n > 0 ? static_cast<A>(spec.scale / static_cast<double>(n)) : A(0);
  run_each_element(
      b, rewards.extent(0),
      unless_fault(b, cuda_preference::gradient<R, Pairs, Sums>{{rewards, pairs, spec}, sums, by}));
  run_each_element(b, rewards.extent(0),
                   unless_fault(b, cuda_preference::rounded<Sums, DR>{sums, drewards}));
}

}  // namespace deepseek
