// SPDX-License-Identifier: Apache-2.0
// optimizer on the cpu: the bodies of backend/rows on registers, one pass, on all threads.
#pragma once

#include "deepseek/backend/cpu/elementwise.hpp"
#include "deepseek/backend/reference/optimizer.hpp"

namespace deepseek {

namespace simd {

template <class T>
DEEPSEEK_INLINE pack<T> square_root(pack<T> x) {
  T lanes[pack<T>::width];
  x.store(lanes);
  for (T& lane : lanes) lane = std::sqrt(lane);
  return pack<T>::load(lanes);
}
template <class T>
DEEPSEEK_INLINE pack<T> sign_of(pack<T> x) {
  const auto one = pack<T>::broadcast(T(1)), zero = pack<T>::zero();
  return select_less(zero, x, one, select_less(x, zero, -one, x));
}

}  // namespace simd

namespace detail {

template <class T>
struct make_pack {
  simd::pack<T> operator()(double x) const { return simd::pack<T>::broadcast(static_cast<T>(x)); }
};

// body(g, p, state...) on registers; missing lanes of the last one are zeros that are not stored.
template <class Body, class T, class... Changed>
void update_run(const Body& body, index_t n, const T* g, Changed*... changed) {
  using pack = simd::pack<T>;
  for (index_t i = 0; i < n; i += pack::width) {
    const auto one = [&](auto... value) {
      body(pack::load_up_to(g + i, n - i), value...);
      (value.store_up_to(changed + i, n - i), ...);
    };
    one(pack::load_up_to(changed + i, n - i)...);
  }
}

template <class Body, class G, class... Changed>
void update_spans(const cpu& b, const Body& body, const G& g, const Changed&... changed) {
  for_each_span(
      b, [&](index_t n, const auto* from, auto*... to) { update_run(body, n, from, to...); }, g,
      changed...);
}

}  // namespace detail

template <class P, class G, class State>
void adamw_update_impl(
    const cpu& b, const P& p, const G& g, const State& state,
    const adamw_step& step) requires Packable<P, G, decltype(state.m), decltype(state.v)> {
  using T = typename P::value_type;
  if (!unit_rows(p, g, state.m, state.v)) {
    return adamw_update_impl(static_cast<const reference&>(b), p, g, state, step);
  }
  const auto body = adamw_body<simd::pack<T>>::of(detail::make_pack<T>{}, step);
  detail::update_spans(b, body, g, p, state.m, state.v);
}

template <class P, class G, class Buffer>
void sgd_update_impl(const cpu& b, const P& p, const G& g, const Buffer& buffer,
                     const sgd_step& step) requires Packable<P, G, Buffer> {
  using T = typename P::value_type;
  if (!unit_rows(p, g, buffer)) {
    return sgd_update_impl(static_cast<const reference&>(b), p, g, buffer, step);
  }
  const auto body = sgd_body<simd::pack<T>>::of(detail::make_pack<T>{}, step);
  detail::update_spans(b, body, g, p, buffer);
}

template <class P, class G, class M>
void lion_update_impl(const cpu& b, const P& p, const G& g, const M& m,
                      const lion_step& step) requires Packable<P, G, M> {
  using T = typename P::value_type;
  if (!unit_rows(p, g, m)) {
    return lion_update_impl(static_cast<const reference&>(b), p, g, m, step);
  }
  const auto body = lion_body<simd::pack<T>>::of(detail::make_pack<T>{}, step);
  detail::update_spans(b, body, g, p, m);
}

template <class P, class G, class State>
void amf_update_impl(const cpu& b, const P& p, const G& g, const State& state,
                     const amf_step& step) requires
    Packable<P, G, decltype(state.m), decltype(state.v), decltype(state.buffer)> {
  using T = typename P::value_type;
  if (!unit_rows(p, g, state.m, state.v, state.buffer)) {
    return amf_update_impl(static_cast<const reference&>(b), p, g, state, step);
  }
  const auto body = amf_body<simd::pack<T>>::of(detail::make_pack<T>{}, step);
  detail::update_spans(b, body, g, p, state.m, state.v, state.buffer);
}

}  // namespace deepseek
