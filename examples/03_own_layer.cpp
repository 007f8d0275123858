// expects: ^largest relative error [0-9.]+e-(0[89]|1[0-9])$
// SPDX-License-Identifier: Apache-2.0
// Your own trainable layer: parameters, forward and backward. It stands in a chain like any other,
// and its gradient is checked against differences.
#include <deepseek/deepseek.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace ds = deepseek;

// gate_by_scale<D>: y = x * sigmoid(w), w [D] learned: how much of each channel passes.
template <ds::index_t D>
struct gate_by_scale {
  static constexpr ds::index_t out = D;
  static constexpr const char* label = "gate";

  template <class T, class S>
  struct parameters {
    using layer = gate_by_scale;  // by which a composite finds the way back from the parameters
    ds::tensor<T, S, D> weight;
    static constexpr auto fields() { return std::tuple{ds::named("weight", &parameters::weight)}; }
  };

  // Writes y. The caller owns x and y; there is nothing else to keep for backward.
  template <class C, class P, class X, class Y, class K>
  static void forward(const C&, const P& p, const X& x, const Y& y, K&) {
    for (ds::index_t n = 0; n < x.extent(0); ++n) {
      for (ds::index_t d = 0; d < D; ++d) y(n, d) = x(n, d) * sigmoid(p.weight.view()(d));
    }
  }
  // Writes dx, adds to the gradients g.
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C&, const P& p, const X& x, const DY& dy, const DX& dx, K&, G& g) {
    for (ds::index_t n = 0; n < x.extent(0); ++n) {
      for (ds::index_t d = 0; d < D; ++d) {
        const auto s = sigmoid(p.weight.view()(d));
        g.weight.view()(d) += dy(n, d) * x(n, d) * s * (1 - s);
        dx(n, d) = dy(n, d) * s;
      }
    }
  }

 private:
  template <class T>
  static T sigmoid(T x) {
    return 1 / (1 + std::exp(-x));
  }
};

struct net : ds::chain<ds::embedding<5, 4>, gate_by_scale<4>, ds::rms_norm<4>, ds::linear<4, 3>> {};

int main() {
  const ds::cpu cpu;
  ds::model<net, double, ds::cpu> m(cpu, ds::normal_init{.stddev = 0.7, .seed = 3});
  const std::int32_t ids[] = {0, 3, 1, 4}, wanted[] = {2, 0, 1, 2};
  const ds::view<const std::int32_t, ds::host, ds::dyn> tokens(ids, {4}), targets(wanted, {4});
  const auto loss = [&] {
    ds::tensor<double, ds::host, ds::dyn> each({4});
    return ds::ops::cross_entropy(cpu, m(cpu, tokens), targets, each).mean;
  };

  auto tape = m.tape(cpu);
  ds::parameters<net, double, ds::host> gradients;
  const auto y = m.forward(cpu, tokens, tape);
  ds::ops::cross_entropy_gradient(cpu, y, targets, y);
  m.backward(cpu, tokens, tape, y, gradients);

  double largest = 0;
  ds::visit(
      [&](const ds::tensor_name&, auto& w, const auto& g) {
        for (ds::index_t i = 0; i < w.size(); ++i) {
          const double at = w.data()[i], h = 1e-3;
          const auto moved = [&](double by) { return w.data()[i] = at + by, loss(); };
          const double slope =
              (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h);
          w.data()[i] = at;
          largest = std::max(largest, std::abs(slope - g.data()[i]) / (1 + std::abs(slope)));
        }
      },
      m.parameters(), gradients);
  std::printf("largest relative error %.1e\n", largest);
}
