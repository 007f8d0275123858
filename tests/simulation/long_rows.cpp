// SPDX-License-Identifier: Apache-2.0
// Row kernels where a row takes a warp, 256 threads, 512 threads, or is read again: beside the
// reference, and with the same bits whether it begins at a multiple of 16 bytes or not.
#include "deepseek/backend/cuda/cross_entropy.hpp"
#include "deepseek/backend/cuda/layer_norm.hpp"
#include "deepseek/backend/cuda/rms_norm.hpp"
#include "deepseek/backend/cuda/softmax.hpp"
#include "deepseek/backend/reference/cross_entropy.hpp"
#include "deepseek/backend/reference/layer_norm.hpp"
#include "deepseek/backend/reference/rms_norm.hpp"
#include "deepseek/backend/reference/softmax.hpp"

#include "simulation/device.hpp"
#include "support/report.hpp"

#include <cmath>

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

using matrix = ds::view<float, ds::host, ds::dyn, ds::dyn>;
using row = ds::view<float, ds::host, ds::dyn>;
using numbers = std::vector<float>;

// rows x n numbers, the first `shift` elements after a multiple of 64 bytes.
class placed {
 public:
  placed(ds::index_t rows, ds::index_t n, ds::index_t shift) : memory_({rows * n + shift}) {
    at_ = matrix(memory_.data() + shift, {rows, n});
  }
  matrix view() const { return at_; }
  row first() const { return ds::slice(at_, 0); }
  numbers values() const { return numbers(at_.data(), at_.data() + at_.size()); }

 private:
  ds::tensor<float, ds::host, ds::dyn> memory_;
  matrix at_;
};

constexpr ds::index_t rows = 2;

// Every result of the ops, one after the other.
template <class B>
numbers all_of(const B& b, ds::index_t n, ds::index_t shift) {
  placed x(rows, n, shift), w(1, n, shift), y(rows, n, shift), dx(rows, n, shift), dw(1, n, shift);
  for (ds::index_t i = 0; i < rows * n; ++i) {
    x.view().data()[i] = std::sin(static_cast<float>(7 * i)) * 3 + (i % 1001 == 0 ? 5.0F : 0.0F);
  }
  for (ds::index_t i = 0; i < n; ++i) w.first()(i) = std::cos(static_cast<float>(i));
  numbers all;
  const auto keep = [&](const placed& p) {
    for (const float v : p.values()) all.push_back(v);
  };
  ds::ops::softmax(b, x.view(), y.view());
  keep(y);
  ds::ops::softmax_backward(b, y.view(), x.view(), dx.view());
  keep(dx);
  ds::ops::rms_norm(b, x.view(), w.first(), y.view(), 1e-6);
  keep(y);
  ds::ops::rms_norm_backward(b, ds::rms_norm_inputs{x.view(), w.first()}, y.view(),
                             ds::rms_norm_gradients{dx.view(), dw.first()}, 1e-6);
  keep(dx);
  ds::ops::layer_norm(b, x.view(), ds::layer_norm_affine{w.first(), w.first()}, y.view(), 1e-6);
  keep(y);
  std::int32_t targets[rows] = {3, static_cast<std::int32_t>(n - 1)};
  float losses[rows];
  const ds::view<std::int32_t, ds::host, ds::dyn> at(targets, {rows});
  ds::ops::cross_entropy(b, x.view(), at, row(losses, {rows}));
  all.insert(all.end(), losses, losses + rows);
  ds::ops::cross_entropy_gradient(b, x.view(), at, dx.view());
  keep(dx);
  return all;
}

}  // namespace

TEST_CASE("rows of every length: the host's values, the same bits at any address") {
  const simulation::host_device device;
  const ds::reference host;
  for (const ds::index_t n : {1000, 1024, 4096, 8192, 9000, 16384, 16388}) {
    const numbers got = all_of(device, n, 0), want = all_of(host, n, 0);
    double worst = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double size = 1 + std::fabs(static_cast<double>(want[i]));
      worst = std::fmax(worst, std::fabs(static_cast<double>(got[i] - want[i])) / size);
    }
    CHECK_MESSAGE(worst < 2e-5, "n = ", n, ": ", worst);
    CHECK_MESSAGE(got == all_of(device, n, 1), "n = ", n, ": other bits at another address");
  }
}
