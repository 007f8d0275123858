// SPDX-License-Identifier: Apache-2.0
// Weights in e4m3 with one scale for each block of 128 x 128, as the checkpoints of V3 hold them.
//   scale[i, j] = max(amax of block (i, j), 1e-4) / 448, q = e4m3(w / scale): divided, not
//   multiplied by the inverse; w ~ q scale: the tensor that files call weight_scale_inv multiplies.
//   power_of_two scales (ue8m0 of V3.1 on): the next power of two that is not smaller.
// q [out, in], scale [ceil(out / 128), ceil(in / 128)], the last blocks as small as what is left.
// fp8_blocks: float activations. fp8_activations: they become e4m3 too, one scale for 128
// neighbours of a row (ops/fp8_gemm.hpp). Everything is computed in float. Sources: DeepSeek-V3
// report (2024), section 3.3; its published inference code.
#pragma once

#include "deepseek/core/float8.hpp"
#include "deepseek/quant/make_weight.hpp"

#include <algorithm>

namespace deepseek {

inline constexpr index_t fp8_block = 128;
constexpr index_t fp8_blocks_in(index_t n) {
  return (n + fp8_block - 1) / fp8_block;
}

enum class fp8_scales { any, power_of_two };

// Of finite numbers whose largest magnitude is amax.
DEEPSEEK_HOST_DEVICE inline float fp8_scale_of(float amax, fp8_scales kind) {
  const float scale = (amax < 1e-4F ? 1e-4F : amax) / f8_e4m3::largest;
  return kind == fp8_scales::any ? scale : static_cast<float>(f8_e8m0(scale));
}
DEEPSEEK_HOST_DEVICE inline f8_e4m3 fp8_code(float x, float scale) {
  return f8_e4m3(x / scale);
}

// One matrix of weights, seen as numbers: what a checkpoint holds under two names.
template <class Space>
struct fp8_matrix {
  using value_type = float;
  view<const f8_e4m3, Space, dyn, dyn> q;
  view<const float, Space, dyn, dyn> scale;

  index_t extent(int i) const { return q.extent(i); }
  float operator()(index_t n, index_t k) const {
    return static_cast<float>(q(n, k)) * scale(n / fp8_block, k / fp8_block);
  }
};

template <class Space>
void require_fp8_scales(const char* object, const fp8_matrix<Space>& w) {
  const index_t n = fp8_blocks_in(w.extent(0)), k = fp8_blocks_in(w.extent(1));
  require(w.scale.extent(0) == n && w.scale.extent(1) == k, error_code::shape_mismatch, object,
          ": the scales are ", shape_of(w.scale), ", expected [", n, ", ", k, "] for weights ",
          shape_of(w.q), "; one for each block of 128 x 128");
}

// The weights of one or several experts for ops.
template <class Space>
struct fp8_operand {
  using space = Space;
  view<const f8_e4m3, Space, dyn, dyn, dyn> q;    // [experts, out, in]
  view<const float, Space, dyn, dyn, dyn> scale;  // [experts, blocks of out, blocks of in]

  index_t experts() const { return q.extent(0); }
  index_t out() const { return q.extent(1); }
  index_t in() const { return q.extent(2); }
  fp8_matrix<Space> expert(index_t e) const { return {slice(q, e), slice(scale, e)}; }
  void check(const char* op) const {
    if (experts() > 0) require_fp8_scales(op, expert(0));
    require_extent(scale, 0, experts(), op);
    require_data(q, op);
    require_data(scale, op);
    require(q.contiguous() && scale.contiguous(), error_code::invalid_argument, op,
            ": the weights are not contiguous; pass what make_weight wrote");
  }
};

enum class fp8_input { floats, codes };

template <fp8_input Input, class S, index_t O, index_t I>
struct fp8_weight {
  static constexpr fp8_input input = Input;
  static constexpr index_t experts = stack_of<S>::count, out = O, in = I;
  using space = typename stack_of<S>::space;
  static constexpr bool is_stack = !std::is_same_v<space, S>;
  tensor<f8_e4m3, S, O, I> q;
  tensor<float, S, fp8_blocks_in(O), fp8_blocks_in(I)> scale;

  fp8_operand<space> operand() const {
    return {{q.data(), {experts, O, I}},
            {scale.data(), {experts, fp8_blocks_in(O), fp8_blocks_in(I)}}};
  }
  static constexpr auto fields() {
    return std::tuple{named("q", &fp8_weight::q), buffer("scale", &fp8_weight::scale)};
  }
};

template <fp8_scales Scales, fp8_input Input>
struct fp8_format {
  static constexpr fp8_scales scales = Scales;
  template <class T, class S, index_t O, index_t I>
  using weight = fp8_weight<Input, S, O, I>;
};
struct fp8_blocks : fp8_format<fp8_scales::any, fp8_input::floats> {
  static constexpr const char* name = "fp8_blocks";
};
struct fp8_blocks_ue8m0 : fp8_format<fp8_scales::power_of_two, fp8_input::floats> {
  static constexpr const char* name = "fp8_blocks_ue8m0";
};
struct fp8_activations : fp8_format<fp8_scales::any, fp8_input::codes> {
  static constexpr const char* name = "fp8_activations";
};
template <class F>
concept Fp8Format = requires {
  { F::scales } -> std::convertible_to<fp8_scales>;
};

// Quantizes one block: rows n0 .. n1 - 1, columns k0 .. k1 - 1; returns its scale.
struct fp8_extent {
  index_t n0, n1, k0, k1;
};
template <class M>
float make_fp8_block(const M& w, const fp8_extent& at, fp8_scales kind,
                     const view<f8_e4m3, host, dyn, dyn>& q) {
  float amax = 0;
  for (index_t n = at.n0; n < at.n1; ++n) {
    for (index_t k = at.k0; k < at.k1; ++k) {
      amax = std::max(amax, std::abs(static_cast<float>(w(n, k))));
    }
  }
  const float scale = fp8_scale_of(amax, kind);
  for (index_t n = at.n0; n < at.n1; ++n) {
    for (index_t k = at.k0; k < at.k1; ++k) q(n, k) = fp8_code(static_cast<float>(w(n, k)), scale);
  }
  return scale;
}

template <class M>
void make_fp8_blocks(const M& w, fp8_scales kind, const view<f8_e4m3, host, dyn, dyn>& q,
                     const view<float, host, dyn, dyn>& scale) {
  for (index_t i = 0; i < scale.extent(0); ++i) {
    for (index_t j = 0; j < scale.extent(1); ++j) {
      const index_t n = i * fp8_block, k = j * fp8_block;
      scale(i, j) = make_fp8_block(
          w, {n, std::min(n + fp8_block, q.extent(0)), k, std::min(k + fp8_block, q.extent(1))},
          kind, q);
    }
  }
}

template <Fp8Format F, class M, class Out>
void make_expert_weight(const F&, const M& w, const observed_range&, Out& out, index_t expert) {
  static_assert(std::is_same_v<typename Out::space, host>,
                "deepseek::make_weight: weights are made on the host; make them there and copy");
  require_weight_shape(F::name, w, {Out::experts, Out::out, Out::in}, expert);
  constexpr index_t rows = fp8_blocks_in(Out::out), columns = fp8_blocks_in(Out::in);
  const view<f8_e4m3, host, dyn, dyn> q(out.q.data() + expert * Out::out * Out::in,
                                        {Out::out, Out::in});
  const view<float, host, dyn, dyn> scale(out.scale.data() + expert * rows * columns,
                                          {rows, columns});
  if constexpr (std::is_same_v<M, fp8_matrix<host>>) {  // already so: taken as it is
    require_fp8_scales(F::name, w);
    for (index_t n = 0; n < Out::out; ++n) {
      for (index_t k = 0; k < Out::in; ++k) q(n, k) = w.q(n, k);
    }
    for (index_t i = 0; i < rows; ++i) {
      for (index_t j = 0; j < columns; ++j) scale(i, j) = w.scale(i, j);
    }
  } else {
    require_finite_matrix(F::name, w, expert);
    make_fp8_blocks(w, F::scales, q, scale);
  }
}

}  // namespace deepseek
