// SPDX-License-Identifier: Apache-2.0
// jitter and noisy_logits on the device: a thread for each block of Philox, which serves four
// neighbouring elements; see ops/jitter.hpp and ops/noisy_logits.hpp. The words are the host's bit
// for bit; normal numbers come from the device's double log, sin and cos.
#pragma once

#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/noisy_logits.hpp"

namespace deepseek {

namespace cuda_router_noise {

// f(element, number) for the four elements of block i, fewer at the end.
template <class F>
struct each_uniform {
  stream_key key;
  index_t n;
  F f;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const philox_words words = random_block(key, static_cast<std::uint64_t>(i));
    for (int j = 0; j < 4 && 4 * i + j < n; ++j) f(4 * i + j, uniform01(words.w[j]));
  }
};
template <class F>
struct each_normal {
  stream_key key;
  index_t n;
  F f;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const philox_words words = random_block(key, static_cast<std::uint64_t>(i));
    for (int j = 0; j < 4 && 4 * i + j < n; j += 2) {
      const normal_pair pair = normal(words.w[j], words.w[j + 1]);
      f(4 * i + j, pair.first);
      if (4 * i + j + 1 < n) f(4 * i + j + 1, pair.second);
    }
  }
};

template <class X, class Y>
struct jittered {
  using T = typename Y::value_type;
  X x;
  Y y;
  double amount;
  DEEPSEEK_HOST_DEVICE void operator()(index_t e, float u) const {
    using A = accumulate_t<T>;
    const double factor = 1 + amount * (2 * static_cast<double>(u) - 1);
    element_at(y, e) = convert_to<T>(convert_to<A>(element_at(x, e)) * static_cast<A>(factor));
  }
};

template <class Z, class R, class H>
struct noisy {
  using T = typename H::value_type;
  noisy_inputs<Z, R> in;
  H h;
  double deviation;
  DEEPSEEK_HOST_DEVICE void operator()(index_t e, float eps) const {
    using A = accumulate_t<T>;
    A d = static_cast<A>(deviation);
    if constexpr (!std::is_same_v<R, none>) {
      d = math::softplus(convert_to<A>(element_at(in.deviation, e)));
    }
    element_at(h, e) =
        convert_to<T>(convert_to<A>(element_at(in.logits, e)) + static_cast<A>(eps) * d);
  }
};
template <class R, class DH, class DR>
struct deviation_gradient {
  using T = typename DR::value_type;
  R r;
  DH dh;
  DR dr;
  DEEPSEEK_HOST_DEVICE void operator()(index_t e, float eps) const {
    using A = accumulate_t<T>;
    element_at(dr, e) = convert_to<T>(convert_to<A>(element_at(dh, e)) * static_cast<A>(eps) *
                                      math::sigmoid(convert_to<A>(element_at(r, e))));
  }
};

}  // namespace cuda_router_noise

template <DeviceBackend B, class X, class Y>
void jitter_impl(const B& b, const X& x, const Y& y, double amount, const routing_draw& draw) {
  using F = cuda_router_noise::jittered<X, Y>;
  run_each_element(
      b, blocks_of(y.size(), 4),
      cuda_router_noise::each_uniform<F>{routing_stream(draw), y.size(), {x, y, amount}});
}

template <DeviceBackend B, class Z, class R, class H>
void noisy_logits_impl(const B& b, const noisy_inputs<Z, R>& in, const H& h,
                       const noise_spec& spec) {
  using F = cuda_router_noise::noisy<Z, R, H>;
  run_each_element(b, blocks_of(h.size(), 4),
                   cuda_router_noise::each_normal<F>{
                       routing_stream(spec.draw), h.size(), {in, h, spec.deviation}});
}

template <DeviceBackend B, class R, class DH, class DR>
void noisy_logits_backward_impl(const B& b, const R& r, const DH& dh, const DR& dr,
                                const noise_spec& spec) {
  using F = cuda_router_noise::deviation_gradient<R, DH, DR>;
  run_each_element(
      b, blocks_of(dr.size(), 4),
      cuda_router_noise::each_normal<F>{routing_stream(spec.draw), dr.size(), {r, dh, dr}});
}

}  // namespace deepseek
