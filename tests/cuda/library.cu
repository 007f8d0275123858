// SPDX-License-Identifier: Apache-2.0
// cuBLASLt's products of 8-bit codes on a device: int8 exact; e4m3 with every kind of scales where
// the library offers it, beside sums in double; quant_gemm and fp8_gemm through it beside our own
// kernels.
#include "deepseek/cuda.cuh"

#include "cuda/has_device.cuh"
#include "support/report.hpp"

#include <cmath>
#include <vector>

#include <doctest/doctest.h>

namespace ds = deepseek;
using cuda_test::has_device;

namespace {

using ds::index_t;
using ds::library_scales;

// Numbers -k .. k that follow no rhythm.
int number(index_t i, int k) {
  return static_cast<int>((static_cast<std::uint64_t>(i) * 2654435761U >> 13U) %
                          static_cast<unsigned>(2 * k + 1)) -
         k;
}

template <class T>
class both_sides {
 public:
  explicit both_sides(index_t n) : here_({n}) {}
  T& operator[](index_t i) { return here_.data()[i]; }
  const T* there() {
    if (there_.empty()) there_.push_back(ds::in_memory<ds::device>(here_));
    return there_.front().data();
  }
  void fetch() { here_ = ds::in_memory<ds::host>(there_.front()); }

 private:
  ds::tensor<T, ds::host, ds::dyn> here_;
  std::vector<ds::tensor<T, ds::device, ds::dyn>> there_;
};

constexpr index_t m = 80, n = 160, k = 400;

template <class T, class C>
struct operands {
  both_sides<T> a{m * k}, b{n * k};
  both_sides<C> c{m * n};
  ds::library_product product() {
    ds::library_product p;
    p.m = m;
    p.n = n;
    p.k = k;
    p.a = ds::rows_along_k(a.there(), k);
    p.b = ds::columns_along_k(b.there(), k);
    p.c = ds::rows_along_k(c.there(), n);
    p.type = ds::dtype_of<T>;
    p.result = ds::dtype_of<C>;
    return p;
  }
};

void check_scales(const ds::cuda& gpu, library_scales of_a, library_scales of_b) {
  operands<ds::f8_e4m3, float> o;
  for (index_t i = 0; i < m * k; ++i)
    o.a[i] = ds::f8_e4m3(0.25F * static_cast<float>(number(i, 9)));
  for (index_t i = 0; i < n * k; ++i) o.b[i] = ds::f8_e4m3(0.5F * static_cast<float>(number(i, 7)));
  const index_t counts[2] = {ds::scale_count(of_a, m, k), ds::scale_count(of_b, n, k)};
  both_sides<float> a_scale(counts[0]), b_scale(counts[1]);
  for (index_t i = 0; i < counts[0]; ++i) a_scale[i] = 1 + 0.125F * static_cast<float>(i % 7);
  for (index_t i = 0; i < counts[1]; ++i) b_scale[i] = 1 + 0.25F * static_cast<float>(i % 5);
  auto p = o.product();
  p.a.scales = of_a;
  p.b.scales = of_b;
  p.a.scale = a_scale.there();
  p.b.scale = b_scale.there();
  if (!gpu.library_offers(p)) {
    support::skip("the library offers no product with these scales on this device");
    CHECK(!gpu.library_product(p));
    return;
  }
  CHECK(gpu.library_product(p));
  gpu.synchronize();
  o.c.fetch();
  double worst = 0;
  for (index_t i = 0; i < m * n; ++i) {
    double sum = 0, size = 0;
    for (index_t j = 0; j < k; ++j) {
      const double x = static_cast<double>(static_cast<float>(o.a[i / n * k + j])) *
                       a_scale[ds::scale_place(of_a, m, k, i / n, j / 128)];
      const double w = static_cast<double>(static_cast<float>(o.b[i % n * k + j])) *
                       b_scale[ds::scale_place(of_b, n, k, i % n, j / 128)];
      sum += x * w;
      size += std::fabs(x * w);
    }
    worst = std::fmax(worst, std::fabs(static_cast<double>(o.c[i]) - sum) / size);
  }
  CHECK_MESSAGE(worst < 0x1p-10, "scales ", static_cast<int>(of_a), " and ", static_cast<int>(of_b),
                ": ", worst);
}

}  // namespace

TEST_CASE("library: int8 is exact") {
  if (!has_device()) return;
  const ds::cuda gpu;
  operands<std::int8_t, std::int32_t> o;
  for (index_t i = 0; i < m * k; ++i) o.a[i] = static_cast<std::int8_t>(number(i, 127));
  for (index_t i = 0; i < n * k; ++i) o.b[i] = static_cast<std::int8_t>(number(i + 5, 127));
  const auto p = o.product();
  CHECK(gpu.library_offers(p));
  CHECK(gpu.library_product(p));
  gpu.synchronize();
  o.c.fetch();
  bool same = true;
  for (index_t i = 0; i < m * n; ++i) {
    std::int32_t sum = 0;
    for (index_t j = 0; j < k; ++j) sum += o.a[i / n * k + j] * o.b[i % n * k + j];
    same = same && o.c[i] == sum;
  }
  CHECK(same);
}

TEST_CASE("library: e4m3 with one scale, with a scale for each line, 1 x 128 and 128 x 128") {
  if (!has_device()) return;
  const ds::cuda gpu({.fp8 = ds::fp8_products::tensor_cores});
  check_scales(gpu, library_scales::tensor, library_scales::tensor);
  check_scales(gpu, library_scales::outer, library_scales::outer);
  check_scales(gpu, library_scales::line_128, library_scales::line_128);
  check_scales(gpu, library_scales::line_128, library_scales::block_128);
}

TEST_CASE("library: products of e4m3 codes are not taken unless the context asks for them") {
  if (!has_device()) return;
  const ds::cuda gpu;
  operands<ds::f8_e4m3, float> o;
  for (index_t i = 0; i < m * k; ++i) o.a[i] = ds::f8_e4m3(1.0F);
  for (index_t i = 0; i < n * k; ++i) o.b[i] = ds::f8_e4m3(1.0F);
  CHECK(!gpu.library_offers(o.product()));
  CHECK(!gpu.library_product(o.product()));
}

TEST_CASE("library: quant_gemm of 1024 rows has the bits of rows that our kernels take") {
  if (!has_device()) return;
  const ds::cuda gpu;
  constexpr index_t rows = 1024, out = 256, in = 512, few = 512;
  both_sides<float> x(rows * in), y(rows * out), w_scale(out);
  const ds::int8_layout at{out, in};
  both_sides<std::int8_t> q(at.size());
  both_sides<std::int32_t> sum(out);
  for (index_t i = 0; i < rows * in; ++i) x[i] = static_cast<float>(number(i, 1000)) / 333;
  for (index_t o = 0; o < out; ++o) {
    w_scale[o] = 0.01F;
    for (index_t i = 0; i < in; ++i) {
      q[at.at(o, i)] = static_cast<std::int8_t>(number(o * in + i, 127));
      sum[o] += q[at.at(o, i)];
    }
  }
  const ds::int8_operand<ds::device> w{{q.there(), {1, at.size()}},
                                       {w_scale.there(), {1, out}},
                                       {sum.there(), {1, out}},
                                       in,
                                       ds::activation_range::per_token};
  using matrix = ds::view<float, ds::device, ds::dyn, ds::dyn>;
  const ds::view<const float, ds::device, ds::dyn, ds::dyn> from(x.there(), {rows, in});
  const matrix to(const_cast<float*>(y.there()), {rows, out});
  ds::ops::quant_gemm(gpu, from, w, to);
  y.fetch();
  std::vector<float> whole;
  for (index_t i = 0; i < rows * out; ++i) whole.push_back(y[i]);
  for (index_t first = 0; first < rows; first += few) {
    ds::ops::quant_gemm(gpu, ds::rows(from, first, few), w, ds::rows(to, first, few));
  }
  gpu.synchronize();
  y.fetch();
  bool same = true;
  for (index_t i = 0; i < rows * out; ++i)
    same = same && whole[static_cast<std::size_t>(i)] == y[i];
  CHECK(same);
}

TEST_CASE("library: fp8_gemm through it stays near our kernel's sums in float") {
  if (!has_device()) return;
  constexpr index_t rows = 77, out = 272, in = 656;
  both_sides<float> x(rows * in), y(rows * out);
  both_sides<ds::f8_e4m3> q(out * in);
  both_sides<float> scale(ds::fp8_blocks_in(out) * ds::fp8_blocks_in(in));
  for (index_t i = 0; i < rows * in; ++i) x[i] = static_cast<float>(number(i, 1000)) / 333;
  for (index_t i = 0; i < out * in; ++i) q[i] = ds::f8_e4m3(static_cast<float>(number(i, 200)));
  for (index_t i = 0; i < 18; ++i) scale[i] = 0.01F * static_cast<float>(1 + i % 5);
  const ds::fp8_operand<ds::device> w{
      {q.there(), {1, out, in}},
      {scale.there(), {1, ds::fp8_blocks_in(out), ds::fp8_blocks_in(in)}}};
  const ds::view<const float, ds::device, ds::dyn, ds::dyn> from(x.there(), {rows, in});
  const ds::view<float, ds::device, ds::dyn, ds::dyn> to(const_cast<float*>(y.there()),
                                                         {rows, out});
  const auto run = [&](ds::fp8_products how) {
    const ds::cuda gpu({.fp8 = how});
    ds::ops::fp8_gemm(gpu, from, w, to);
    gpu.synchronize();
    y.fetch();
    std::vector<float> all;
    for (index_t i = 0; i < rows * out; ++i) all.push_back(y[i]);
    return all;
  };
  const auto want = run(ds::fp8_products::f32), got = run(ds::fp8_products::tensor_cores);
  float size = 0, worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    size = std::fmax(size, std::fabs(want[i]));
    worst = std::fmax(worst, std::fabs(got[i] - want[i]));
  }
  CHECK_MESSAGE(worst < 0x1p-9F * size, worst, " of ", size);
}
