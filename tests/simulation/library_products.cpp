// SPDX-License-Identifier: Apache-2.0
// quant_gemm and fp8_gemm through the vendor's library, in its place plain loops over what the
// product says: weights written once more, scales where the library reads them, rows in parts. int8
// has the bits of our kernels; fp8 the values of the reference. What is refused leaves y untouched.
#include "deepseek/backend/cpu/cpu.hpp"
#include "deepseek/ops/fp8_gemm.hpp"

#include "ops/quant_gemm_case.hpp"
#include "support/throws.hpp"

#include <functional>

#include <doctest/doctest.h>

using namespace quant_test;

namespace {

using ds::index_t;
using ds::library_scales;

// Counts the products that the library took; `offered` false: it offers none.
struct counting : ds::cpu {
  static inline index_t taken = 0;
  bool offered = true;
  explicit counting(bool offers = true)
      : ds::cpu({}, simulation::library::plain_loops), offered(offers) {}
  bool library_offers(const ds::library_product& p) const {
    return offered && ds::cpu::library_offers(p);
  }
  bool library_product(const ds::library_product& p) const {
    ++taken;
    return library_offers(p) && ds::cpu::library_product(p);
  }
};
index_t taken_by(const std::function<void()>& f) {
  const index_t before = counting::taken;
  f();
  return counting::taken - before;
}

// Every place is taken once, and all lie inside.
bool fills(library_scales how, index_t lines, index_t depth) {
  std::vector<int> seen(size(ds::scale_count(how, lines, depth)));
  const index_t along = how == library_scales::block_128 ? ds::scaled_blocks(lines) : lines;
  const index_t blocks = how == library_scales::outer ? 1 : ds::scaled_blocks(depth);
  for (index_t i = 0; i < along; ++i) {
    for (index_t j = 0; j < blocks; ++j) {
      const index_t line = how == library_scales::block_128 ? i * ds::scaled_block : i;
      const index_t at = ds::scale_place(how, lines, depth, line, j);
      if (at < 0 || at >= static_cast<index_t>(seen.size()) || seen[size(at)]++ != 0) return false;
    }
  }
  return true;
}

struct fp8_case {
  index_t m, n, k;
  bool biased = false;
  index_t gap = 0;  // columns of y's memory behind the last
};

struct fp8_problem {
  std::vector<ds::f8_e4m3> q;
  std::vector<float> scale;
  ds::tensor<float, ds::host, ds::dyn, ds::dyn> x;
  std::vector<float> bias;
  index_t n, k;

  explicit fp8_problem(const fp8_case& c)
      : q(size(c.n * c.k)),
        scale(size(ds::fp8_blocks_in(c.n) * ds::fp8_blocks_in(c.k))),
        x({c.m, c.k}),
        bias(size(c.n)),
        n(c.n),
        k(c.k) {
    support::numbers from(support::text("m", c.m, "n", c.n, "k", c.k));
    for (auto& e : q) e = ds::f8_e4m3(static_cast<float>(from.normal()) * 40);
    for (auto& e : scale) e = 0.01F * (1 + static_cast<float>(std::fabs(from.normal())));
    for (index_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(from.normal());
    for (auto& e : bias) e = static_cast<float>(from.normal());
  }
  ds::fp8_operand<ds::host> operand() const {
    return {{q.data(), {1, n, k}}, {scale.data(), {1, ds::fp8_blocks_in(n), ds::fp8_blocks_in(k)}}};
  }
};

template <class T, class B>
std::vector<float> fp8_rows_of(const B& b, const fp8_case& c, const fp8_problem& p) {
  const index_t row = c.n + c.gap;
  std::vector<T> memory(size(c.m * row), static_cast<T>(-77));
  const ds::view<T, ds::host, ds::dyn, ds::dyn> y(memory.data(), {c.m, c.n}, {row, 1});
  const ds::view<const float, ds::host, ds::dyn> bias(p.bias.data(), {c.n});
  if (c.biased) {
    ds::ops::fp8_gemm(b, p.x, p.operand(), y, bias);
  } else {
    ds::ops::fp8_gemm(b, p.x, p.operand(), y);
  }
  std::vector<float> all;
  for (const T e : memory) all.push_back(static_cast<float>(e));
  return all;
}

// The largest difference, over the size of the numbers in a row of y.
double worst(const std::vector<float>& got, const std::vector<float>& want) {
  double most = 0, size = 0;
  for (const float e : want) size = std::fmax(size, std::fabs(static_cast<double>(e)));
  for (std::size_t i = 0; i < got.size(); ++i) {
    most = std::fmax(most, std::fabs(static_cast<double>(got[i] - want[i])));
  }
  return most / size;
}

}  // namespace

TEST_CASE("scales for the library: every place once; what the layouts are") {
  for (const auto how :
       {library_scales::outer, library_scales::line_128, library_scales::block_128}) {
    for (const index_t lines : {4, 128, 132, 400}) {
      for (const index_t depth : {16, 128, 144, 640}) CHECK(fills(how, lines, depth));
    }
  }
  CHECK(ds::scale_place(library_scales::tensor, 8, 300, 5, 2) == 0);
  CHECK(ds::scale_place(library_scales::outer, 8, 300, 5, 2) == 5);
  CHECK(ds::scale_place(library_scales::line_128, 8, 300, 5, 2) == 21);
  CHECK(ds::scale_place(library_scales::block_128, 300, 640, 299, 3) == 19);  // 5 blocks take 8
  CHECK(ds::scale_count(library_scales::block_128, 300, 640) == 24);
}

TEST_CASE("rows in parts: all rows, scales one part after the other") {
  for (const index_t rows : {1, 33, 512, 513, 1026, 2047}) {
    const ds::row_parts parts{rows, 512};
    index_t all = 0;
    std::vector<int> seen(size(parts.stored() * ds::scaled_blocks(300)));
    for (index_t part = 0; part < parts.count(); ++part) {
      all += parts.rows_of(part);
      CHECK(parts.scales_before(part, 300) % 4 == 0);  // a multiple of 16 bytes
    }
    CHECK(all == rows);
    bool once = true;
    for (index_t row = 0; row < parts.stored(); ++row) {
      const index_t part = row / parts.each, own = ds::whole_fours(parts.rows_of(part));
      for (index_t j = 0; j < 3; ++j) {
        const index_t at = parts.scale_at(300, row, j);
        once = once && seen[size(at)]++ == 0;
        once = once && at == parts.scales_before(part, 300) +
                                 ds::scale_place(library_scales::line_128, own, 300,
                                                 row - part * parts.each, j);
      }
    }
    CHECK(once);
  }
  CHECK(ds::parts_of(10000, 4096, 4).each == 2048);
  CHECK(ds::parts_of(10000, 129280, 4).each == 512);
}

TEST_CASE("quant_gemm through the library: every element equals the oracle's integers") {
  const counting b;
  for (const shape s : {shape{1024, 16, 16}, {1030, 48, 64}, {1027, 80, 272}}) {
    for (int i = 0; i < 6; ++i) {
      const setting c{s,
                      static_cast<ds::activation_range>(i % 3),
                      static_cast<layout>(i % 3),
                      static_cast<layout>((i + 1) % 3),
                      static_cast<biased>(i % 2),
                      support::values::normal};
      const std::string name = c.text("f32");
      std::string problem;
      CHECK(taken_by([&] { problem = problem_of<float>(b, c, name); }) == 1);
      support::expect_true("quant_gemm", "library " + name, problem.empty(), problem);
    }
  }
}

TEST_CASE("quant_gemm: what the library does not get") {
  const counting b, offering_nothing(false);
  const auto taken = [](const counting& on, const shape& s) {
    return taken_by([&] {
      const setting c{s, ds::activation_range::per_token};
      const std::string problem = problem_of<float>(on, c, c.text("f32"));
      CHECK_MESSAGE(problem.empty(), problem);
    });
  };
  CHECK(taken(b, {1024, 16, 16}) == 1);
  CHECK(taken(b, {1023, 16, 16}) == 0);
  CHECK(taken(b, {1024, 24, 16}) == 0);
  CHECK(taken(b, {1024, 16, 20}) == 0);
  CHECK(taken(offering_nothing, {1024, 16, 16}) == 0);
}

TEST_CASE("quant_gemm through the library: rows in parts have the bits of our kernel") {
  const counting by_library, by_kernel(false);
  constexpr index_t m = 1030, n = 16384, k = 16;
  constexpr ds::int8_layout panel{32, k};
  support::numbers from("parts");
  const weights w(n, k, from);
  ds::tensor<float, ds::host, ds::dyn, ds::dyn> x({m, k}), y({m, n}), want({m, panel.n});
  for (index_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(from.normal());
  const auto operand = w.operand(ds::activation_range::per_token);
  CHECK(taken_by([&] { ds::ops::quant_gemm(by_library, x, operand, y); }) == 3);
  // The first panel of the weights alone, a product that the library does not get.
  const ds::int8_operand<ds::host> few{{w.q.data(), {1, panel.size()}},
                                       {w.scale.data(), {1, panel.n}},
                                       {w.sum.data(), {1, panel.n}},
                                       k,
                                       ds::activation_range::per_token};
  CHECK(taken_by([&] { ds::ops::quant_gemm(by_kernel, x, few, want); }) == 0);
  bool same = true;
  for (index_t row = 0; row < m; ++row) {
    same = same && std::memcmp(y.data() + row * n, want.data() + row * panel.n,
                               size(panel.n) * sizeof(float)) == 0;
  }
  CHECK(same);
}

TEST_CASE("fp8_gemm through the library: the values of the reference") {
  const counting b;
  const ds::reference host;
  for (const fp8_case& c : {fp8_case{33, 16, 16},
                            {34, 48, 144, true},
                            {36, 144, 512, false, 3},
                            {63, 272, 656, true, 16},
                            {515, 32, 128}}) {
    const fp8_problem p(c);
    const auto want = fp8_rows_of<float>(host, c, p);
    const auto want16 = fp8_rows_of<ds::bf16>(host, c, p);
    std::vector<float> got, got16;
    CHECK(taken_by([&] { got = fp8_rows_of<float>(b, c, p); }) == 1);
    CHECK(taken_by([&] { got16 = fp8_rows_of<ds::bf16>(b, c, p); }) == 1);
    const std::string name = support::text("m", c.m, "n", c.n, "k", c.k, "bias", c.biased);
    CHECK_MESSAGE(worst(got, want) < 1e-5, name, " ", worst(got, want));
    CHECK_MESSAGE(worst(got16, want16) < 0x1p-8, name, " ", worst(got16, want16));
  }
}

TEST_CASE("fp8_gemm through the library: rows in parts") {
  const counting b;
  const fp8_case c{601, 16384, 144}, few{601, 16, 144};
  fp8_problem p(c), narrow(few);
  narrow.x = p.x;
  std::copy_n(p.q.begin(), narrow.q.size(), narrow.q.begin());
  std::copy_n(p.scale.begin(), narrow.scale.size(), narrow.scale.begin());
  std::vector<float> got, first;
  CHECK(taken_by([&] { got = fp8_rows_of<float>(b, c, p); }) == 2);
  for (index_t row = 0; row < c.m; ++row) {
    for (index_t n = 0; n < few.n; ++n) first.push_back(got[size(row * c.n + n)]);
  }
  CHECK(worst(first, fp8_rows_of<float>(ds::reference{}, few, narrow)) < 1e-5);
}

TEST_CASE("fp8_gemm: what the library does not get; a row with NaN leaves y untouched") {
  const counting b, offering_nothing(false);
  const auto taken = [](const counting& on, const fp8_case& c) {
    return taken_by([&] { fp8_rows_of<float>(on, c, fp8_problem(c)); });
  };
  CHECK(taken(b, {33, 16, 16}) == 1);
  CHECK(taken(b, {32, 16, 16}) == 0);
  CHECK(taken(b, {33, 24, 16}) == 0);
  CHECK(taken(b, {33, 16, 24}) == 0);
  CHECK(taken(offering_nothing, {33, 16, 16}) == 0);
  const fp8_case c{40, 16, 144};
  CHECK(taken_by([&] { fp8_rows_of<double>(b, c, fp8_problem(c)); }) == 0);  // sums in double

  fp8_problem bad(c);
  bad.x.view()(39, 143) = std::nanf("");
  ds::tensor<float, ds::host, 40, 16> y;
  y.view()(0, 0) = 7;
  CHECK_ERROR(ds::error_code::nonfinite, "x[39, 143]",
              ds::ops::fp8_gemm(b, bad.x, bad.operand(), y));
  CHECK(y.view()(0, 0) == 7);
}
