// SPDX-License-Identifier: Apache-2.0
// Layers whose weights stand in formats, layers trained for a format, and attention with a gate on
// its heads, on the simulated device in memory that the host cannot touch, beside plain loops.
#include "deepseek/backend/cuda/ops.hpp"
#include "deepseek/backend/reference/reference.hpp"
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/dynamic_head_attention.hpp"
#include "deepseek/layers/fake_quantized.hpp"
#include "deepseek/layers/linear.hpp"
#include "deepseek/layers/quantize.hpp"
#include "deepseek/layers/residual.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/quant/fp8_blocks.hpp"
#include "deepseek/quant/int4_groups.hpp"
#include "deepseek/quant/int8_channels.hpp"
#include "deepseek/quant/mxfp4.hpp"

#include "simulation/device.hpp"
#include "support/report.hpp"

#include <cmath>

#include <doctest/doctest.h>

namespace ds = deepseek;
using gpu = simulation::basic_device<ds::device>;

namespace {

constexpr ds::index_t in = 64, out = 40, tokens = 19;
struct net : ds::chain<ds::linear<in, out, ds::plain, ds::bias::present>> {};
inline constexpr ds::attention_config heads{.dim = 64, .heads = 4};
inline constexpr ds::head_gate_config gate{
    .by = ds::head_gate_by::token, .edge = ds::mask_edge::soft, .temperature = 0.5};
struct gated : ds::chain<ds::called<"in", ds::linear<in, in>>,
                         ds::dynamic_head_attention<heads, ds::causal, gate>> {};
using input = ds::tensor<float, ds::host, ds::dyn, in>;

input wave(ds::index_t n) {
  input x({n, in});
  for (ds::index_t i = 0; i < x.size(); ++i) x.data()[i] = std::sin(static_cast<float>(5 * i + 1));
  return x;
}
// The largest difference, as a part of the largest number.
template <class A, class B>
double apart(const A& got, const B& want) {
  double most = 0, size = 1e-30;
  for (ds::index_t i = 0; i < want.size(); ++i) {
    const auto w = static_cast<double>(want.data()[i]);
    most = std::fmax(most, std::fabs(static_cast<double>(got.data()[i]) - w));
    size = std::fmax(size, std::fabs(w));
  }
  return want.size() == got.size() ? most / size : 1;
}

// The same numbers on the device, for few rows (which stream the codes) and for many.
template <class Net>
void same_output(const ds::model<Net, float, ds::reference>& m, const char* what) {
  const ds::reference host;
  const gpu device;
  const ds::model<Net, float, gpu> on(device, m);
  for (const ds::index_t n : {1, 19}) {
    const input x = wave(n);
    const auto got = ds::in_memory<ds::host>(on(device, ds::in_memory<ds::device>(x)));
    CHECK_MESSAGE(apart(got, m(host, x)) < 1e-5, what, ", ", n, " rows");
  }
}
template <class Net>
void same_gradients(const ds::model<Net, float, ds::reference>& m, const char* what) {
  const ds::reference host;
  const gpu device;
  const ds::model<Net, float, gpu> on(device, m);
  const input x = wave(tokens);
  ds::tensor<float, ds::host, ds::dyn, Net::out> dy({tokens, Net::out});
  for (ds::index_t i = 0; i < dy.size(); ++i) dy.data()[i] = std::cos(static_cast<float>(i));
  const auto there = ds::in_memory<ds::device>(x);
  ds::parameters<Net, float, ds::host> g, back;
  ds::parameters<Net, float, ds::device> g_there;
  auto tape = m.tape(host);
  auto tape_there = on.tape(device);
  (void)m.forward(host, x, tape);
  (void)on.forward(device, there, tape_there);
  m.backward(host, x, tape, dy, g);
  on.backward(device, there, tape_there, ds::in_memory<ds::device>(dy), g_there);
  ds::transfer_all(g_there, back);
  ds::visit([&](const ds::tensor_name& at, const auto& want,
                const auto& got) { CHECK_MESSAGE(apart(got, want) < 2e-5, what, " ", at.path); },
            g, back);
}

template <class Net>
auto make() {
  return ds::model<Net, float, ds::reference>(ds::reference(),
                                              ds::scaled_init{.gain = 1, .seed = 11});
}

}  // namespace

TEST_CASE("formats: linear layers on the device") {
  const ds::reference host;
  const auto m = make<net>();
  auto seen = m.calibration();
  m.observe(host, wave(tokens), seen);
  same_output(ds::quantize<ds::int8_channels>(host, m), "int8_channels");
  same_output(ds::quantize<ds::int4_groups<32>>(host, m), "int4_groups");
  same_output(ds::quantize<ds::mxfp4>(host, m), "mxfp4");
  same_output(ds::quantize<ds::fp8_blocks>(host, m), "fp8_blocks");
  same_output(ds::quantize<ds::w8a8>(host, m, seen), "w8a8");
  same_output(ds::quantize<ds::w8a8_per_token>(host, m), "w8a8_per_token");
}

TEST_CASE("formats: layers trained for a format on the device") {
  const ds::reference host;
  const auto m = make<net>();
  auto seen = m.calibration();
  m.observe(host, wave(tokens), seen);
  const auto weights = ds::fake_quantize<ds::int8_channels>(host, m);
  same_output(weights, "fake int8_channels");
  same_gradients(weights, "fake int8_channels");
  const auto both = ds::fake_quantize<ds::w8a8>(host, m, seen);
  same_output(both, "fake w8a8");
  same_gradients(both, "fake w8a8");
}

TEST_CASE("gated heads on the device") {
  const auto m = make<gated>();
  same_output(m, "gated heads");
  same_gradients(m, "gated heads");
}
