// SPDX-License-Identifier: Apache-2.0
// products on the cpu (ops/products.hpp): those whose joint_kernels are of one type share one
// parallel region, and rows of the same x are prepared once. joint_kernels<X, W, Y>, by elements of
// x and y and the operand of the weights, stand beside the kernels of each op:
//   problem: what the kernel takes; takes(x, w, y): whether it takes these strides; takes_bias<V>
//   make_rows(b, x, w): rows of x as the kernel reads them, in the workspace
//   shares_rows(w, other): whether rows made for one serve the other
//   problem_of(rows, first, w, y): rows of y from `first` on by one expert's weights
//   set_bias(b, problem, bias), run(pool, problems)
#pragma once

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/reference/gemm.hpp"
#include "deepseek/ops/products.hpp"

#include <optional>
#include <span>

namespace deepseek {

template <class X, class W, class Y>
struct joint_kernels {};

template <class P>
using joint_kernels_of = joint_kernels<std::remove_const_t<typename decltype(P::x)::value_type>,
                                       decltype(P::w), typename decltype(P::y)::value_type>;
template <class P>
concept Joinable = requires {
  typename joint_kernels_of<P>::problem;
}
&&(!P::biased || joint_kernels_of<P>::template takes_bias<decltype(P::bias)>);

// Rows that belong to an expert.
template <class P>
auto used_rows(const P& p) {
  if constexpr (P::grouped) {
    return as_dynamic(rows(p.x, 0, p.offsets(p.offsets.extent(0) - 1)));
  } else {
    return as_dynamic(p.x);
  }
}

template <class K, class X, class W>
struct prepared_rows {
  X x;
  W w;
  decltype(K::make_rows(std::declval<const cpu&>(), std::declval<X>(), std::declval<W>())) made;

  bool serve(const X& other, const W& weights) const {
    return other.data() == x.data() && other.extent(0) == x.extent(0) &&
           other.extent(1) == x.extent(1) && other.stride(0) == x.stride(0) &&
           other.stride(1) == x.stride(1) && K::shares_rows(w, weights);
  }
};

// The problems of p behind those in `out`; `last`: rows prepared for the product before.
template <class K, class P, class Rows, class Problems>
void add_problems(const cpu& b, const P& p, std::optional<Rows>& last, const Problems& out,
                  index_t& count) {
  const auto x = used_rows(p);
  if (!last || !last->serve(x, p.w)) last = Rows{x, p.w, K::make_rows(b, x, p.w)};
  const auto add = [&](index_t e, index_t first, index_t n) {
    out(count) = K::problem_of(last->made, first, p.w.expert(e), rows(p.y, first, n));
    if constexpr (P::biased) K::set_bias(b, out(count), p.bias);
    ++count;
  };
  if constexpr (P::grouped) {
    for_each_expert(p.offsets, add);
  } else if (x.extent(0) > 0) {
    add(0, 0, x.extent(0));
  }
}

template <class K, class First, class... P>
void multiply_together(const cpu& b, const First& first, const P&... p) {
  const scope freed(b.workspace());
  using x_view = decltype(used_rows(first));
  std::optional<prepared_rows<K, x_view, decltype(First::w)>> last;
  const index_t most = (first.w.experts() + ... + p.w.experts());
  const auto problems = b.workspace().template make<typename K::problem, dyn>(most);
  index_t count = 0;
  add_problems<K>(b, first, last, problems, count);
  (add_problems<K>(b, p, last, problems, count), ...);
  K::run(b.pool(),
         std::span<const typename K::problem>(problems.data(), static_cast<std::size_t>(count)));
}

template <Joinable P>
void multiply_alone(const cpu& b, const P& p) {
  multiply_together<joint_kernels_of<P>>(b, p);
}

template <class P>
bool is_taken(const P& p) {
  if constexpr (P::biased) {
    if (p.bias.extent(0) > 1 && p.bias.stride(0) != 1) return false;
  }
  return joint_kernels_of<P>::takes(p.x, p.w, p.y);
}

template <Joinable First, Joinable... P>
requires(std::is_same_v<joint_kernels_of<First>, joint_kernels_of<P>>&&...) void products_impl(
    const cpu& b, const First& first, const P&... p) {
  if (is_taken(first) && (is_taken(p) && ...)) {
    return multiply_together<joint_kernels_of<First>>(b, first, p...);
  }
  multiply_one(b, first);
  (multiply_one(b, p), ...);
}

}  // namespace deepseek
