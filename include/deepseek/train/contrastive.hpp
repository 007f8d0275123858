// SPDX-License-Identifier: Apache-2.0
// contrastive_loss: two sets of n embeddings [n, dim] whose rows belong together are pulled
// together and all other pairs apart, under a learned temperature:
//   a = x / |x|, c = y / |y|, scores = e^t a c^T, loss = contrastive(scores) (both directions).
// Overwrites dx, dy with scale times the gradient and adds to dlog_scale. t starts at ln(1 / 0.07);
// CLIP keeps e^t at most 100: clamp_log_scale after a step.
// Host. Errors: shape_mismatch and those of the ops. Cost: three products n x n x dim, and n^2
// exponentials. Source: Radford et al. 2021 (CLIP), section 2.3, figure 3.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/ops/contrastive.hpp"
#include "deepseek/ops/gemm.hpp"
#include "deepseek/ops/scale.hpp"
#include "deepseek/ops/unit_rows.hpp"

#include <algorithm>
#include <cmath>

namespace deepseek {

inline const double first_log_scale = std::log(1 / 0.07);
inline constexpr double largest_log_scale = 4.605170185988092;  // ln 100

// [1]: t, trained like any parameter.
template <class T>
void clamp_log_scale(T& log_scale) {
  using V = typename T::value_type;
  *log_scale.data() = std::min(*log_scale.data(), static_cast<V>(largest_log_scale));
}

template <class X, class Y, class Scale>
struct contrastive_inputs {
  X x;              // [n, dim]
  Y y;              // [n, dim]
  Scale log_scale;  // [1]
};
template <class X, class Y, class S>
contrastive_inputs(X&&, Y&&, S&&)
    -> contrastive_inputs<argument_t<X>, argument_t<Y>, argument_t<S>>;

template <class DX, class DY, class DScale>
struct contrastive_gradients {
  DX dx;              // [n, dim], written
  DY dy;              // [n, dim], written
  DScale dlog_scale;  // [1], added to
};
template <class X, class Y, class S>
contrastive_gradients(X&&, Y&&, S&&)
    -> contrastive_gradients<argument_t<X>, argument_t<Y>, argument_t<S>>;

template <class B, class In, class Out>
double contrastive_loss(const B& b, const In& in, const Out& out, double scale = 1) {
  static_assert(std::is_same_v<typename B::space, host>,
                "deepseek::contrastive_loss: the temperature is read on the host; copy the "
                "embeddings there with ds::transfer");
  const auto x = as_const(as_view(in.x)), y = as_const(as_view(in.y));
  using T = typename decltype(x)::value_type;
  const index_t n = x.extent(0), dim = x.extent(1);
  require_same_shape(y, x, "contrastive_loss: y");
  require(as_view(in.log_scale).size() == 1 && as_view(out.dlog_scale).size() == 1,
          error_code::shape_mismatch, "contrastive_loss: log_scale has ",
          as_view(in.log_scale).size(), " elements; pass one number and its gradient");
  require_data(as_view(in.log_scale), "contrastive_loss: log_scale");
  require_data(as_view(out.dlog_scale), "contrastive_loss: dlog_scale");
  const scope freed(b.workspace());
  auto& memory = b.workspace();
  const auto a = memory.template make<T, dyn, dyn>(n, dim);
  const auto c = memory.template make<T, dyn, dyn>(n, dim);
  const auto a_norms = memory.template make<accumulate_t<T>, dyn>(n);
  const auto c_norms = memory.template make<accumulate_t<T>, dyn>(n);
  const auto scores = memory.template make<T, dyn, dyn>(n, n);
  const auto dscores = memory.template make<T, dyn, dyn>(n, n);
  ops::unit_rows(b, x, unit_outputs{a, a_norms});
  ops::unit_rows(b, y, unit_outputs{c, c_norms});
  const double times = std::exp(static_cast<double>(as_view(in.log_scale).data()[0]));
  ops::gemm(b, a, transposed(c), scores);
  ops::scale(b, times, scores);
  const double loss = ops::contrastive(b, scores);
  ops::contrastive_gradient(b, scores, dscores, scale);
  double dt = 0;  // d scores / d t = scores
  for (index_t i = 0; i < n; ++i) {
    for (index_t j = 0; j < n; ++j) {
      dt += static_cast<double>(dscores(i, j)) * static_cast<double>(scores(i, j));
    }
  }
  auto& dlog_scale = as_view(out.dlog_scale).data()[0];
  using D = std::remove_reference_t<decltype(dlog_scale)>;
  dlog_scale = static_cast<D>(static_cast<double>(dlog_scale) + dt);
  ops::scale(b, times, dscores);
  ops::gemm(b, dscores, c, as_view(out.dx));
  ops::gemm(b, transposed(dscores), a, as_view(out.dy));
  ops::unit_rows_backward(b, unit_outputs{a, a_norms}, as_view(out.dx), as_view(out.dx));
  ops::unit_rows_backward(b, unit_outputs{c, c_norms}, as_view(out.dy), as_view(out.dy));
  return loss;
}

}  // namespace deepseek
