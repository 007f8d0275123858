// SPDX-License-Identifier: Apache-2.0
// optimizer on the reference backend: plain loops; see ops/optimizer.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/backend/rows/optimizer.hpp"
#include "deepseek/backend/rows/row_at.hpp"

namespace deepseek {

namespace detail {

template <class A>
struct make_number {
  A operator()(double x) const { return static_cast<A>(x); }
};

// body(g, p, state...) on every element; each is read, changed and rounded once.
template <class Body, class G, class... Changed>
void update_elements(const Body& body, const G& g, const Changed&... changed) {
  using A = decltype(body.factor);
  for (index_t r = 0; r < row_count(g); ++r) {
    const auto gradient = row_at(g, r);
    const auto update = [&](auto... row) {
      for (index_t i = 0; i < gradient.extent(0); ++i) {
        const auto one = [&](auto... number) {
          body(convert_to<A>(gradient(i)), number...);
          ((row(i) = convert_to<typename Changed::value_type>(number)), ...);
        };
        one(convert_to<A>(row(i))...);
      }
    };
    update(row_at(changed, r)...);
  }
}

}  // namespace detail

template <class P, class G, class State>
void adamw_update_impl(const reference&, const P& p, const G& g, const State& state,
                       const adamw_step& step) {
  using A = accumulate_t<typename P::value_type>;
  const auto body = adamw_body<A>::of(detail::make_number<A>{}, step);
  detail::update_elements(body, g, p, state.m, state.v);
}

template <class P, class G, class Buffer>
void sgd_update_impl(const reference&, const P& p, const G& g, const Buffer& buffer,
                     const sgd_step& step) {
  using A = accumulate_t<typename P::value_type>;
  detail::update_elements(sgd_body<A>::of(detail::make_number<A>{}, step), g, p, buffer);
}

template <class P, class G, class M>
void lion_update_impl(const reference&, const P& p, const G& g, const M& m, const lion_step& step) {
  using A = accumulate_t<typename P::value_type>;
  detail::update_elements(lion_body<A>::of(detail::make_number<A>{}, step), g, p, m);
}

template <class P, class G, class State>
void amf_update_impl(const reference&, const P& p, const G& g, const State& state,
                     const amf_step& step) {
  using A = accumulate_t<typename P::value_type>;
  const auto body = amf_body<A>::of(detail::make_number<A>{}, step);
  detail::update_elements(body, g, p, state.m, state.v, state.buffer);
}

}  // namespace deepseek
