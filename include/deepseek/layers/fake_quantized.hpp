// SPDX-License-Identifier: Apache-2.0
// Quantization-aware training: fake_quantized<Net, F> is Net whose linear layers count as what the
// format F will hold of them (quant/fake.hpp), forward and, straight through, backward.
//   auto fake = ds::fake_quantize<ds::w8a8>(b, m, seen);   // from a plain model, calibrated
//   ... train it like any model ...
//   auto small = ds::quantize<ds::w8a8>(b, fake);          // the codes that were trained
// int8_channels and int4_symmetric need no calibration, and the result has the bits of the fake
// model on cpu; w8a8 the same codes, its sums are exact integers where the fake ones are floats.
// Costs a rounded copy of a layer's weights and inputs while it runs; on a device a format that
// rounds inputs copies one number a layer and call, and waits for it. Source: Esser et al. 2020.
#pragma once

#include "deepseek/core/transfer.hpp"
#include "deepseek/layers/quantize.hpp"
#include "deepseek/ops/add.hpp"
#include "deepseek/ops/fake_quantize.hpp"
#include "deepseek/ops/fill.hpp"

namespace deepseek {

template <class L, class F>
struct fake_quantized : reformatted<L, fake<F>> {};

template <class L, class F>
inline constexpr bool brings_ranges<fake_quantized<L, F>, F> = true;

template <class W>
concept FakeWeight = is_fake_weight<W>;

// A weight [out, in], or [experts, out, in] of a stack.
template <FakeWeight W, class V>
auto shaped_weight(const V& rows) {
  using T = typename V::element_type;
  if constexpr (W::is_stack) {
    return view<T, typename W::space, W::experts, W::out, W::in>(rows.data(),
                                                                 {W::experts, W::out, W::in});
  } else {
    return view<T, typename W::space, W::out, W::in>(rows.data(), {W::out, W::in});
  }
}

// The zero point of the inputs, which the grid of the op is told; from a device it is copied.
template <FakeWeight W>
std::int32_t zero_of_inputs(const W& w) {
  if constexpr (std::is_same_v<typename W::space, host>) {
    return w.x_zero.data()[0];
  } else {
    return in_memory<host>(w.x_zero).data()[0];
  }
}

// Weights and inputs as they count; memory: an arena's scope of the caller.
template <class C, FakeWeight W>
auto fake_weights(const C& c, const W& w) {
  using T = typename decltype(w.values())::value_type;
  const auto rounded = c.scratch.template make<T, dyn, W::in>(W::experts * W::out);
  ops::fake_quantize(c.backend, fake_inputs{w.values(), w.log_steps()}, W::grid, rounded);
  return as_const(shaped_weight<W>(rounded));
}
template <class C, class X, FakeWeight W>
auto fake_rows(const C& c, const X& x, const W& w) {
  if constexpr (fake_form<typename W::format>::rounds_inputs) {
    const auto rounded = c.scratch.template make<typename X::value_type, dyn, W::in>(x.extent(0));
    ops::fake_quantize(c.backend, fake_inputs{x, w.x_log_steps(x.extent(0))},
                       fake_input_grid(W::in, zero_of_inputs(w)), rounded);
    return as_const(rounded);
  } else {
    return x;
  }
}

template <class C, class X, FakeWeight W, class Y, class Bias>
void weight_product(const C& c, const X& x, const W& w, const Y& y, const Bias& bias_view) {
  const scope freed(c.scratch);
  const auto weights = fake_weights(c, w);
  const auto inputs = fake_rows(c, x, w);
  if constexpr (W::is_stack) {
    const auto& offsets = c.template get<segments>();
    ops::grouped_gemm(c.backend, inputs, transposed(weights), offsets, y);
    if constexpr (is_view<Bias>) ops::add_expert_bias(c.backend, bias_view, offsets, y);
  } else {
    ops::gemm(c.backend, inputs, transposed(weights), y, gemm_epilogue<Bias>{bias_view});
  }
}

// dx of the rounded inputs and the gradient of the rounded weights [experts out, in], zero before.
template <FakeWeight W, class C, class X, class V, class DY, class DX, class DW, class DBias>
void fake_product_backward(const C& c, const gemm_inputs<X, V>& in, const DY& dy,
                           const gemm_gradients<DX, DW, DBias>& out) {
  const auto dw = transposed(shaped_weight<W>(out.db));
  if constexpr (W::is_stack) {
    const auto& offsets = c.template get<segments>();
    ops::grouped_gemm_backward(c.backend, grouped_gemm_inputs{in.a, transposed(in.b), offsets}, dy,
                               grouped_gemm_gradients{out.da, dw});
    if constexpr (is_view<DBias>) ops::add_expert_sums(c.backend, dy, offsets, out.dbias);
  } else {
    ops::gemm_backward(c.backend, gemm_inputs{in.a, transposed(in.b)}, dy,
                       gemm_gradients{out.da, dw, out.dbias});
  }
}

// Where the gradient of the inputs goes before it passes through their rounding.
template <bool RoundsInputs, class C, class X, class DX>
auto fake_row_gradients(const C& c, const X& x, const DX& dx) {
  if constexpr (is_view<DX> || !RoundsInputs) {
    return dx;
  } else {
    return c.scratch.template make<typename X::value_type, dyn, dyn>(x.extent(0), x.extent(1));
  }
}

template <class C, class X, FakeWeight W, class DY, class DX, class DBias>
void weight_product_backward(const C& c, const weight_product_inputs<X, W>& in, const DY& dy,
                             const weight_product_gradients<DX, W, DBias>& out) {
  using T = typename X::value_type;
  constexpr bool rounds_inputs = fake_form<typename W::format>::rounds_inputs;
  const scope freed(c.scratch);
  const W& w = in.weight;
  const auto dw = c.scratch.template make<T, dyn, W::in>(W::experts * W::out);
  ops::fill(c.backend, 0.0, dw);
  const auto dx = fake_row_gradients<rounds_inputs>(c, in.x, out.dx);
  fake_product_backward<W>(c, gemm_inputs{fake_rows(c, in.x, w), fake_weights(c, w)}, dy,
                           gemm_gradients{dx, dw, out.dbias});
  ops::fake_quantize_backward(c.backend, fake_inputs{w.values(), w.log_steps()}, W::grid, dw,
                              fake_gradients{dw, out.weight.log_steps()});
  ops::add(c.backend, dw, out.weight.values());
  if constexpr (rounds_inputs) {
    const index_t rows = in.x.extent(0);
    ops::fake_quantize_backward(c.backend, fake_inputs{in.x, w.x_log_steps(rows)},
                                fake_input_grid(W::in, zero_of_inputs(w)), dx,
                                fake_gradients{dx, out.weight.x_log_steps(rows)});
  }
}

template <class Format, class Net, class T, class B>
model<fake_quantized<Net, Format>, T, B> fake_quantize(
    const B& b, const model<Net, T, B>& m,
    const typename model<Net, T, B>::calibration_type& seen) {
  model<fake_quantized<Net, Format>, T, B> out(b);
  convert(m.parameters(), seen.kept(), out.parameters());
  return out;
}
template <class Format, class Net, class T, class B>
model<fake_quantized<Net, Format>, T, B> fake_quantize(const B& b, const model<Net, T, B>& m) {
  static_assert(!fake_form<Format>::rounds_inputs,
                "deepseek::fake_quantize: this format rounds inputs; pass a calibration as third "
                "argument or use int8_channels");
  return fake_quantize<Format>(b, m, m.calibration());
}

}  // namespace deepseek
