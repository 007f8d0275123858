// SPDX-License-Identifier: Apache-2.0
// side_by_side(run_of(c, p, x, y, kept), ...): linear layers that do not wait for each other, their
// forward in one call of ops::products where all weights are stored in one kind of format, else one
// after another. Same bits, same things kept.
#pragma once

#include "deepseek/layers/linear.hpp"
#include "deepseek/layers/weight_formats.hpp"
#include "deepseek/ops/products.hpp"

namespace deepseek {

// Of a weight in a stored format, as ops::products takes it.
template <class Run>
constexpr product_kind kind_of_run() {
  using weight = std::remove_cvref_t<decltype(std::declval<Run>().p.weight)>;
  if constexpr (requires(const weight& w) { w.operand(); }) {
    if constexpr (requires { weight::input; }) {
      if (weight::input == fp8_input::codes) return product_kind::none;
    }
    return kind_of_product<std::remove_cvref_t<decltype(std::declval<weight>().operand())>>();
  } else {
    return product_kind::none;
  }
}

template <class Run>
auto product_of_run(const Run& run) {
  using P = std::remove_cvref_t<decltype(run.p)>;
  Run::layer::template check_width<decltype(run.x)>();
  if constexpr (P::is_stack) {
    return product_of(run.x, run.p.weight.operand(), run.y, none{}, run.c.template get<segments>());
  } else if constexpr (requires { run.p.bias; }) {
    return product_of(run.x, run.p.weight.operand(), run.y, run.p.bias.view());
  } else {
    return product_of(run.x, run.p.weight.operand(), run.y);
  }
}

// What follows a product that was made beside others.
template <class Run>
void end_run(const Run& run) {
  using P = std::remove_cvref_t<decltype(run.p)>;
  if constexpr (P::is_stack && requires { run.p.bias; }) {
    ops::add_expert_bias(run.c.backend, run.p.bias.view(), run.c.template get<segments>(), run.y);
  }
  Run::layer::keep_input(run.c, run.p, run.x, run.k);
}

template <class First, class... Run>
void side_by_side(const First& first, const Run&... run) {
  constexpr product_kind kind = kind_of_run<First>();
  if constexpr (sizeof...(Run) > 0 && kind != product_kind::none &&
                ((kind_of_run<Run>() == kind) && ...)) {
    ops::products(first.c.backend, product_of_run(first), product_of_run(run)...);
    end_run(first);
    (end_run(run), ...);
  } else {
    run_forward(first);
    (run_forward(run), ...);
  }
}

}  // namespace deepseek
