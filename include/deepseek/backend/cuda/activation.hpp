// SPDX-License-Identifier: Apache-2.0
// silu, gelu, relu, sigmoid and swiglu on the device, element by element (map.hpp); see
// ops/activation.hpp, ops/swiglu.hpp.
#pragma once

#include "deepseek/backend/cuda/map.hpp"
#include "deepseek/backend/rows/activation.hpp"
#include "deepseek/ops/swiglu.hpp"

namespace deepseek {

namespace cuda_activation {

template <class Kind>
struct forward {
  template <class X, class Y>
  DEEPSEEK_HOST_DEVICE void operator()(index_t, const X& x, Y& y) const {
    y = static_cast<Y>(activation_value(Kind{}, static_cast<accumulate_t<Y>>(x)));
  }
};
template <class Kind>
struct backward {
  template <class X, class DY, class DX>
  DEEPSEEK_HOST_DEVICE void operator()(index_t, const X& x, const DY& dy, DX& dx) const {
    using A = accumulate_t<DX>;
    dx = static_cast<DX>(activation_slope(Kind{}, static_cast<A>(x)) * static_cast<A>(dy));
  }
};

struct swiglu_forward {
  double limit;
  template <class Gate, class Up, class Y>
  DEEPSEEK_HOST_DEVICE void operator()(index_t, const Gate& gate, const Up& up, Y& y) const {
    using A = accumulate_t<Y>;
    y = static_cast<Y>(swiglu_value(static_cast<A>(gate), static_cast<A>(up), limit));
  }
};
struct swiglu_backward {
  double limit;
  template <class Gate, class Up, class DY, class DGate, class DUp>
  DEEPSEEK_HOST_DEVICE void operator()(index_t, const Gate& gate, const Up& up, const DY& dy,
                                       DGate& dgate, DUp& dup) const {
    using A = std::common_type_t<accumulate_t<DGate>, accumulate_t<DUp>>;
    const auto d =
        swiglu_gradient_at(static_cast<A>(gate), static_cast<A>(up), static_cast<A>(dy), limit);
    dgate = static_cast<DGate>(d.gate);
    dup = static_cast<DUp>(d.up);
  }
};

}  // namespace cuda_activation

template <DeviceBackend B, class Kind, class X, class Y>
void activation_impl(const B& b, Kind, const X& x, const Y& y) {
  run_map(b, cuda_activation::forward<Kind>{}, reads(x), writes(y));
}
template <DeviceBackend B, class Kind, class X, class DY, class DX>
void activation_backward_impl(const B& b, Kind, const X& x, const DY& dy, const DX& dx) {
  run_map(b, cuda_activation::backward<Kind>{}, reads(x), reads(dy), writes(dx));
}
template <DeviceBackend B, class In, class Y>
void swiglu_impl(const B& b, const In& in, const Y& y, double limit) {
  run_map(b, cuda_activation::swiglu_forward{limit}, reads(in.gate), reads(in.up), writes(y));
}
template <DeviceBackend B, class In, class DY, class Out>
void swiglu_backward_impl(const B& b, const In& in, const DY& dy, const Out& out, double limit) {
  run_map(b, cuda_activation::swiglu_backward{limit}, reads(in.gate), reads(in.up), reads(dy),
          writes(out.dgate), writes(out.dup));
}

}  // namespace deepseek
