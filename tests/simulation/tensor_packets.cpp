// SPDX-License-Identifier: Apache-2.0
// Tensor-core products of experts and of stored weights: the packets that lanes load are the
// fragments of the instructions (every step of k once, in both factors alike; every output once);
// codes in 16 bits are exact; both kernels, any number of warps along k, and a row alone give the
// same bits; the weight gradient against plain sums; what cannot run there says so.
#include "simulation/as_cpu.hpp"

#include "support/seed.hpp"

#include <array>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

namespace ds = deepseek;
namespace tensor = ds::cuda_tensor;
using ds::index_t;

namespace {

// A lane's element i of word w is column c of its instruction's factor: the step of k that step_of
// says must be the one that stands there in the packet.
constexpr bool packets_are_fragments() {
  for (int lane = 0; lane < 32; ++lane) {
    for (int s = 0; s < 2; ++s) {
      for (int half = 0; half < 2; ++half) {
        for (int i = 0; i < 2; ++i) {
          const int there = lane % 4 * 8 + 2 * (2 * s + half) + i;
          const auto a = ds::mma::a_place<ds::bf16>(lane, 2 * half, i);
          const auto b = ds::mma::b_place<ds::bf16>(lane, half, i);
          if (tensor::step_of(s, a.column) != there || tensor::step_of(s, b.row) != there) {
            return false;
          }
        }
      }
    }
  }
  return true;
}
constexpr bool every_step_once() {
  std::array<int, 32> met{};
  for (int s = 0; s < 2; ++s) {
    for (int c = 0; c < 16; ++c) ++met[static_cast<std::size_t>(tensor::step_of(s, c))];
  }
  for (const int times : met) {
    if (times != 1) return false;
  }
  return true;
}
constexpr bool every_output_once(int tiles) {
  std::array<int, 64> met{};
  for (int i = 0; i < tiles; ++i) {
    for (int r = 0; r < 16; ++r) ++met[static_cast<std::size_t>(tensor::output_of(tiles, i, r))];
  }
  for (int n = 0; n < 16 * tiles; ++n) {
    if (met[static_cast<std::size_t>(n)] != 1) return false;
  }
  return true;
}
// Lanes 8 i .. 8 i + 7 of a load of 16 bytes meet all banks, in every word of the fragments.
constexpr bool all_banks(int units) {
  for (int s = 0; s < 8; ++s) {
    for (int first = 0; first < 32; first += 8) {
      unsigned met = 0;
      for (int lane = first; lane < first + 8; ++lane) {
        met |= 1U << tensor::turned_slot(8 * (lane % 4) + s, 8 + lane / 4, units) % 8;
      }
      if (met != 0xffU) return false;
    }
  }
  return true;
}
static_assert(all_banks(16));
static_assert(packets_are_fragments() && every_step_once());
static_assert(every_output_once(2) && every_output_once(4));

template <class T>
float half_of(std::uint32_t pair, int i) {
  return T::from_bits(static_cast<std::uint16_t>(pair >> (16 * i)));
}

template <class T>
std::vector<T> drawn(index_t n, support::numbers& from) {
  std::vector<T> v;
  for (index_t i = 0; i < n; ++i) v.push_back(static_cast<T>(from.normal()));
  return v;
}

using offsets_view = ds::view<const std::int32_t, ds::host, ds::dyn>;
template <class T>
using matrix = ds::view<T, ds::host, ds::dyn, ds::dyn>;
template <class T>
using stack = ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn>;

offsets_view offsets_of(const std::vector<std::int32_t>& o) {
  return {o.data(), {static_cast<index_t>(o.size())}};
}

// Every kernel for one problem, with the same bits; those bits.
template <class Form, class T>
std::vector<float> by_every_kernel(const Form& w, const matrix<const T>& x,
                                   const std::vector<std::int32_t>& offsets) {
  const ds::cpu b;
  std::vector<std::vector<float>> got;
  const auto into_next = [&](const auto& launch) {
    got.emplace_back(static_cast<std::size_t>(x.extent(0) * w.out));
    const matrix<float> y(got.back().data(), {x.extent(0), w.out});
    ds::cuda_coded::with_problem<ds::cpu>(x, w, offsets_of(offsets), y, ds::none{}, {}, launch);
  };
  for (const int deep : {1, 2, 4}) {
    into_next([&]<class P>(const P& p) { b.launch(tensor::few_rows<P, 1>{p, deep}); });
    into_next([&]<class P>(const P& p) { b.launch(tensor::few_rows<P, 4>{p, deep}); });
  }
  into_next([&]<class P>(const P& p) {
    constexpr int parts = tensor::many_parts<tensor::fragments<T, Form>>;
    b.launch(tensor::many_rows<P, 4, 2, parts>{p});
  });
  into_next([&]<class P>(const P& p) { CHECK(tensor::run_product(b, p)); });
  for (const auto& other : got) CHECK(other == got.front());
  return got.front();
}

// Of small whole numbers every sum is exact, so the bits are those of the plain loops.
template <class T>
void check_plain(const std::vector<std::int32_t>& offsets, index_t in, index_t out) {
  const auto experts = static_cast<index_t>(offsets.size()) - 1;
  const index_t rows = offsets.back();
  support::numbers from("plain");
  const auto whole = [&](index_t n) {
    std::vector<T> v;
    for (index_t i = 0; i < n; ++i)
      v.push_back(static_cast<T>(static_cast<int>(from.below(9)) - 4));
    return v;
  };
  const auto x = whole(rows * in), w = whole(experts * in * out);
  const matrix<const T> at(x.data(), {rows, in});
  const stack<const T> stored(w.data(), {experts, out, in}), turned(w.data(), {experts, in, out});
  std::vector<float> want(static_cast<std::size_t>(rows * out));
  const auto compare = [&](const stack<const T>& weights, const std::vector<float>& got) {
    ds::ops::grouped_gemm(ds::reference{}, at, weights, offsets_of(offsets),
                          matrix<float>(want.data(), {rows, out}));
    CHECK(got == want);
  };
  const auto as_rows = ds::transposed(stored);
  REQUIRE(
      (ds::cuda_coded::is_plain_along(as_rows, 1) && ds::cuda_coded::is_plain_along(turned, 2)));
  compare(as_rows, by_every_kernel(ds::cuda_coded::plain_rows_of(as_rows), at, offsets));
  compare(turned, by_every_kernel(ds::cuda_coded::plain_columns_of(turned), at, offsets));
}

// dw += x_e^T dy_e of small whole numbers, dw stored along either side.
template <class T, class D>
void check_gradient(const std::vector<std::int32_t>& offsets, index_t m, index_t n) {
  const auto experts = static_cast<index_t>(offsets.size()) - 1;
  const index_t rows = offsets.back();
  support::numbers from("gradient");
  const auto whole = [&](index_t count) {
    std::vector<T> v;
    for (index_t i = 0; i < count; ++i)
      v.push_back(static_cast<T>(static_cast<int>(from.below(3)) - 1));
    return v;
  };
  const auto x = whole(rows * m), dy = whole(rows * n);
  const matrix<const T> left(x.data(), {rows, m}), right(dy.data(), {rows, n});
  const auto size = static_cast<std::size_t>(experts * m * n);
  for (const bool along_n : {true, false}) {
    std::vector<D> got(size, D(1)), want(size, D(1));
    const auto of = [&](std::vector<D>& v) {
      return along_n ? stack<D>(v.data(), {experts, m, n})
                     : ds::transposed(stack<D>(v.data(), {experts, n, m}));
    };
    CHECK(tensor::run_weight_gradient(ds::cpu{}, left, right, offsets_of(offsets), of(got)));
    ds::grouped_gemm_weight_gradient_impl(ds::reference{}, left, right, offsets_of(offsets),
                                          of(want));
    CHECK(std::memcmp(got.data(), want.data(), size * sizeof(D)) == 0);
  }
}

// Every code of a form in 16 bits is the number that the form itself decodes.
template <class T>
void check_codes() {
  using int4 = tensor::fragments<T, ds::cuda_coded::int4_form<float>>;
  using mxfp4 = tensor::fragments<T, ds::cuda_coded::mxfp4_form>;
  using int8 = tensor::fragments<T, ds::cuda_coded::int8_form>;
  using fp8 = tensor::fragments<T, ds::cuda_coded::fp8_form>;
  constexpr float sizes[] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
  int wrong = 0;
  for (std::uint32_t a = 0; a < 16; ++a) {
    for (int at = 0; at < 4; ++at) {
      const std::uint32_t b = (a * 7 + 3) % 16;
      ds::packet p{};
      p.word[1] = a << (4 * at) | b << (4 * at + 16);
      for (const int zero : {0, 8, 15, 16, 255}) {
        typename int4::group g{};
        g.minus_zero[1] = ds::mma::twice<T>(-static_cast<float>(zero));
        const std::uint32_t got = int4::pair(p, g, 1, at);
        wrong += half_of<T>(got, 0) != static_cast<float>(static_cast<int>(a) - zero);
        wrong += half_of<T>(got, 1) != static_cast<float>(static_cast<int>(b) - zero);
      }
      const std::uint32_t four = mxfp4::pair(p, 1, at);
      wrong += half_of<T>(four, 0) != (a < 8 ? sizes[a] : -sizes[a - 8]);
      wrong += half_of<T>(four, 1) != (b < 8 ? sizes[b] : -sizes[b - 8]);
    }
  }
  for (std::uint32_t a = 0; a < 256; ++a) {
    const std::uint32_t b = 255 - a, word = a << 16 | b << 24;
    const std::uint32_t bytes = int8::pair(word, 1), eights = fp8::pair(word, 1);
    for (int i = 0; i < 2; ++i) {
      const std::uint32_t code = i == 0 ? a : b;
      wrong += half_of<T>(bytes, i) != static_cast<float>(static_cast<std::int8_t>(code));
      const float want = ds::cuda_coded::float_of_e4m3(code), got = half_of<T>(eights, i);
      wrong += !(got == want || (std::isnan(got) && std::isnan(want)));
    }
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE_TEMPLATE("tensor cores: every code is exact in 16 bits", T, ds::bf16, ds::f16) {
  check_codes<T>();
}

TEST_CASE("tensor cores: every kernel has the bits of the plain loops on whole numbers") {
  check_plain<ds::bf16>({0, 3, 3, 40, 41}, 264, 72);
  check_plain<ds::f16>({0, 150}, 136, 8);
  check_plain<ds::bf16>({0, 1}, 640, 200);
}

TEST_CASE("tensor cores: gradients of experts' weights") {
  check_gradient<ds::bf16, float>({0, 3, 3, 70, 71}, 136, 40);
  check_gradient<ds::f16, ds::f16>({0, 33}, 8, 264);
  check_gradient<ds::bf16, ds::bf16>({0, 0, 100}, 64, 64);
}

TEST_CASE("tensor cores: one order of sums; codes with scales; what is refused") {
  support::numbers from("orders");
  constexpr index_t rows = 37, in = 416, out = 100;
  const std::vector<std::int32_t> offsets{0, 1, 1, 12, rows};
  const auto x = drawn<ds::bf16>(rows * in + 1, from);
  const auto w = drawn<ds::bf16>(4 * in * out, from);
  const matrix<const ds::bf16> at(x.data(), {rows, in});
  const auto plain = ds::transposed(stack<const ds::bf16>(w.data(), {4, out, in}));
  by_every_kernel(ds::cuda_coded::plain_rows_of(plain), at, offsets);

  std::vector<std::uint8_t> bytes;
  for (index_t i = 0; i < 4 * in * out; ++i)
    bytes.push_back(static_cast<std::uint8_t>(from.below(127)));
  std::vector<float> scale(4 * out, 0.5F);
  for (float& s : scale) s = static_cast<float>(from.uniform());
  const ds::int8_channels_operand<ds::host> eights{
      {reinterpret_cast<const std::int8_t*>(bytes.data()), {4, out, in}}, {scale.data(), {4, out}}};
  by_every_kernel(ds::cuda_coded::form_of(eights), at, offsets);
  const ds::fp8_operand<ds::host> floats{
      {reinterpret_cast<const ds::f8_e4m3*>(bytes.data()), {4, out, in}},
      {scale.data(), {4, 1, 4}}};
  by_every_kernel(ds::cuda_coded::form_of(floats), at, offsets);
  const ds::int4_layout layout{out, in, 32};
  std::vector<std::int32_t> words(static_cast<std::size_t>(4 * layout.words()));
  for (auto& word : words) word = static_cast<std::int32_t>(from.below(std::size_t{1} << 31));
  const auto scales = drawn<float>(4 * layout.groups(), from);
  const ds::int4_operand<ds::host, float> fours{{words.data(), {4, layout.words()}},
                                                {scales.data(), {4, layout.groups()}},
                                                {nullptr, {4, layout.groups()}},
                                                layout};
  by_every_kernel(ds::cuda_coded::form_of(fours), at, offsets);

  std::vector<float> y(static_cast<std::size_t>(rows * out), 7.0F);
  const matrix<float> to(y.data(), {rows, out});
  const auto refused = [&](const auto& rows_of, const auto& form) {
    return !ds::cuda_coded::tensor_product(ds::cpu{}, rows_of, form, offsets_of(offsets), to);
  };
  const auto form = ds::cuda_coded::plain_rows_of(plain);
  CHECK(refused(matrix<const ds::bf16>(x.data() + 1, {rows, in}), form));  // not at 16 bytes
  CHECK(refused(matrix<const ds::f16>(nullptr, {rows, in}), form));        // mixed types
  CHECK(y == std::vector<float>(y.size(), 7.0F));
}
