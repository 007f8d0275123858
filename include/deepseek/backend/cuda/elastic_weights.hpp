// SPDX-License-Identifier: Apache-2.0
// elastic_penalty, elastic_gradient and fisher_update on the device; see ops/elastic_weights.hpp.
#pragma once

#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/cuda/number_sum.hpp"
#include "deepseek/ops/elastic_weights.hpp"

namespace deepseek {

namespace cuda_elastic_weights {

template <class In>
struct penalty_term {
  In in;
  DEEPSEEK_HOST_DEVICE double operator()(index_t i) const {
    const double moved =
        convert_to<double>(element_at(in.w, i)) - convert_to<double>(element_at(in.anchor, i));
    return convert_to<double>(element_at(in.fisher, i)) * moved * moved;
  }
};
template <class In, class DW>
struct gradient {
  using T = typename DW::value_type;
  using A = accumulate_t<T>;
  In in;
  DW dw;
  A by;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const A moved = convert_to<A>(element_at(in.w, i)) - convert_to<A>(element_at(in.anchor, i));
    auto& to = element_at(dw, i);
    to = convert_to<T>(convert_to<A>(to) + by * (convert_to<A>(element_at(in.fisher, i)) * moved));
  }
};
template <class G, class F>
struct fisher {
  using T = typename F::value_type;
  using A = accumulate_t<T>;
  G g;
  F information;
  A keep, by;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const A x = convert_to<A>(element_at(g, i));
    auto& to = element_at(information, i);
    to = convert_to<T>(keep * convert_to<A>(to) + by * (x * x));
  }
};

}  // namespace cuda_elastic_weights

template <DeviceBackend B, class In>
double elastic_penalty_impl(const B& b, const In& in, double lambda) {
  return lambda / 2 * read_sum(b, in.w.size(), cuda_elastic_weights::penalty_term<In>{in});
}

template <DeviceBackend B, class In, class DW>
void elastic_gradient_impl(const B& b, const In& in, const DW& dw, const elastic_spec& spec) {
  using A = accumulate_t<typename DW::value_type>;
  run_each_element(
      b, dw.size(),
      cuda_elastic_weights::gradient<In, DW>{in, dw, static_cast<A>(spec.lambda * spec.factor)});
}

template <DeviceBackend B, class G, class F>
void fisher_update_impl(const B& b, const G& g, const F& fisher, const fisher_spec& spec) {
  using A = accumulate_t<typename F::value_type>;
  run_each_element(b, fisher.size(),
                   cuda_elastic_weights::fisher<G, F>{g, fisher, static_cast<A>(spec.decay),
                                                      static_cast<A>(spec.factor)});
}

}  // namespace deepseek
