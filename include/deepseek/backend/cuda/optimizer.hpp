// SPDX-License-Identifier: Apache-2.0
// The optimizer updates on the device: the bodies of backend/rows element by element, each tensor
// read and written once. See ops/optimizer.hpp.
#pragma once

#include "deepseek/backend/cuda/map.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/backend/rows/optimizer.hpp"

namespace deepseek {

namespace cuda_optimizer {

template <class A>
struct make_number {
  A operator()(double x) const { return static_cast<A>(x); }
};

// body(g, p, state...) on numbers of type A, each rounded once.
template <class A, class Body>
struct updated {
  Body body;
  template <class G, class P, class S>
  DEEPSEEK_HOST_DEVICE void operator()(index_t, const G& g, P& p, S& s) const {
    A p_now = convert_to<A>(p), s_now = convert_to<A>(s);
    body(convert_to<A>(g), p_now, s_now);
    p = convert_to<P>(p_now);
    s = convert_to<S>(s_now);
  }
  template <class G, class P, class M, class V>
  DEEPSEEK_HOST_DEVICE void operator()(index_t, const G& g, P& p, M& m, V& v) const {
    A p_now = convert_to<A>(p), m_now = convert_to<A>(m), v_now = convert_to<A>(v);
    body(convert_to<A>(g), p_now, m_now, v_now);
    p = convert_to<P>(p_now);
    m = convert_to<M>(m_now);
    v = convert_to<V>(v_now);
  }
  template <class G, class P, class M, class V, class S>
  DEEPSEEK_HOST_DEVICE void operator()(index_t, const G& g, P& p, M& m, V& v, S& s) const {
    A p_now = convert_to<A>(p), m_now = convert_to<A>(m), v_now = convert_to<A>(v);
    A s_now = convert_to<A>(s);
    body(convert_to<A>(g), p_now, m_now, v_now, s_now);
    p = convert_to<P>(p_now);
    m = convert_to<M>(m_now);
    v = convert_to<V>(v_now);
    s = convert_to<S>(s_now);
  }
};

template <template <class> class Body, DeviceBackend B, class Step, class G, class P,
          class... State>
void update(const B& b, const Step& step, const G& g, const P& p, const State&... state) {
  using A = accumulate_t<typename P::value_type>;
  const auto body = Body<A>::of(make_number<A>{}, step);
  run_map(b, updated<A, Body<A>>{body}, reads(g), changes(p), changes(state)...);
}

}  // namespace cuda_optimizer

template <DeviceBackend B, class P, class G, class State>
void adamw_update_impl(const B& b, const P& p, const G& g, const State& state,
                       const adamw_step& step) {
  cuda_optimizer::update<adamw_body>(b, step, g, p, state.m, state.v);
}
template <DeviceBackend B, class P, class G, class Buffer>
void sgd_update_impl(const B& b, const P& p, const G& g, const Buffer& buffer,
                     const sgd_step& step) {
  cuda_optimizer::update<sgd_body>(b, step, g, p, buffer);
}
template <DeviceBackend B, class P, class G, class M>
void lion_update_impl(const B& b, const P& p, const G& g, const M& m, const lion_step& step) {
  cuda_optimizer::update<lion_body>(b, step, g, p, m);
}
template <DeviceBackend B, class P, class G, class State>
void amf_update_impl(const B& b, const P& p, const G& g, const State& state, const amf_step& step) {
  cuda_optimizer::update<amf_body>(b, step, g, p, state.m, state.v, state.buffer);
}

}  // namespace deepseek
