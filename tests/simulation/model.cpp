// SPDX-License-Identifier: Apache-2.0
// A model on the simulated device, in memory that the host cannot touch: inference and gradients
// beside the reference backend, and numbers that go there and back.
#include "deepseek/layers/model.hpp"
#include "deepseek/backend/cuda/ops.hpp"
#include "deepseek/backend/reference/reference.hpp"
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/linear.hpp"
#include "deepseek/layers/norm.hpp"
#include "deepseek/layers/residual.hpp"

#include "simulation/device.hpp"
#include "support/report.hpp"

#include <cmath>

#include <doctest/doctest.h>

namespace ds = deepseek;
using gpu = simulation::basic_device<ds::device>;

namespace {

struct net : ds::chain<ds::called<"in", ds::linear<12, 40>>,
                       ds::residual<ds::chain<ds::rms_norm<40>, ds::linear<40, 40>>>,
                       ds::called<"out", ds::linear<40, 7>>> {};

template <class A, class B>
double largest_difference(const A& a, const B& b) {
  double most = 0;
  for (ds::index_t i = 0; i < a.size(); ++i) {
    most = std::fmax(
        most, std::fabs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i])));
  }
  return most;
}

}  // namespace

TEST_CASE("a model on the device gives what plain loops give") {
  const ds::reference host;
  const gpu device(simulation::library::plain_loops);
  ds::model<net, float, ds::reference> m(host, ds::normal_init{.stddev = 0.3f, .seed = 3});
  const ds::model<net, float, gpu> on(device, m);
  ds::tensor<float, ds::host, ds::dyn, 12> x({9, 12});
  ds::tensor<float, ds::host, ds::dyn, 7> dy({9, 7});
  for (ds::index_t i = 0; i < x.size(); ++i) x.data()[i] = std::sin(static_cast<float>(3 * i));
  for (ds::index_t i = 0; i < dy.size(); ++i) dy.data()[i] = std::cos(static_cast<float>(i));
  const auto there = ds::in_memory<ds::device>(x);

  CHECK(largest_difference(ds::in_memory<ds::host>(on(device, there)), m(host, x)) < 1e-5);

  auto tape = m.tape(host);
  auto tape_there = on.tape(device);
  ds::parameters<net, float, ds::host> g, back;
  ds::parameters<net, float, ds::device> g_there;
  (void)m.forward(host, x, tape);
  (void)on.forward(device, there, tape_there);
  m.backward(host, x, tape, dy, g);
  on.backward(device, there, tape_there, ds::in_memory<ds::device>(dy), g_there);
  ds::transfer_all(g_there, back);
  ds::visit([](const ds::tensor_name& at, const auto& want,
               const auto& got) { CHECK_MESSAGE(largest_difference(got, want) < 1e-4, at.path); },
            g, back);

  ds::model<net, float, ds::reference> again(host, on);
  ds::visit([](const ds::tensor_name& at, const auto& want,
               const auto& got) { CHECK_MESSAGE(largest_difference(got, want) == 0, at.path); },
            m.parameters(), again.parameters());
}
