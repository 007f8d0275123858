// SPDX-License-Identifier: Apache-2.0
// Outputs that overlap an input: refused by every op that reads what it would overwrite, before a
// byte is written; parts of one buffer side by side are none (core/apart.hpp).
#include "deepseek/backend/cpu/cpu.hpp"

#include <doctest/doctest.h>

#include <numeric>

#include "support/throws.hpp"

namespace ds = deepseek;
namespace ops = deepseek::ops;
using numbers = ds::view<float, ds::host, ds::dyn>;
using matrix = ds::view<float, ds::host, ds::dyn, ds::dyn>;
using batch = ds::view<float, ds::host, ds::dyn, ds::dyn, ds::dyn>;
using indices = ds::view<std::int32_t, ds::host, ds::dyn>;
constexpr auto aliasing = ds::error_code::aliasing;

namespace {

struct fixture {
  ds::cpu b;
  float data[128];
  std::int32_t ids[4] = {3, 2, 1, 0};
  fixture() { std::iota(data, data + 128, 0.F); }
  ~fixture() {  // nothing was written by what was refused
    for (int i = 0; i < 128; ++i) CHECK(data[i] == static_cast<float>(i));
  }
  matrix at(int from, ds::index_t rows = 4) { return {data + from, {rows, 4}}; }
};

}  // namespace

TEST_CASE_FIXTURE(fixture, "products whose output overlaps an input at an offset are refused") {
  for (const int shift : {-15, -1, 0, 1, 15}) {
    const auto a = at(32), w = at(64);
    CHECK_ERROR(aliasing, "gemm: a[4, 4]", "overlaps", ops::gemm(b, a, w, at(32 + shift)));
    CHECK_ERROR(aliasing, "gemm: b[4, 4]", "overlaps", ops::gemm(b, a, w, at(64 + shift)));
    const numbers bias(data + 100 + (shift > 0 ? 15 : 0), {4});
    CHECK_ERROR(aliasing, "gemm: bias[4]", "overlaps",
                ops::gemm(b, a, w, at(100), ds::gemm_epilogue{bias}));
    std::int32_t offsets[2] = {0, 4};
    const batch experts(data + 64, {1, 4, 4});
    CHECK_ERROR(aliasing, "grouped_gemm: x", "overlaps",
                ops::grouped_gemm(b, a, experts, indices(offsets, {2}), at(32 + shift)));
    CHECK_ERROR(aliasing, "grouped_gemm: w", "overlaps",
                ops::grouped_gemm(b, a, experts, indices(offsets, {2}), at(64 + shift)));
  }
}

TEST_CASE_FIXTURE(fixture, "rows that are moved: embedding, copy, place_rows, permute, combine") {
  const indices which(ids, {4});
  const ds::view<std::int32_t, ds::host, ds::dyn, ds::dyn> slots(ids, {4, 1});
  const matrix ones(data + 120, {4, 1});
  std::int32_t begin[1] = {1};
  for (const int shift : {0, 1, 4}) {
    const auto x = at(32), y = at(32 + shift);
    CHECK_ERROR(aliasing, "embedding: table", "overlaps", ops::embedding(b, which, x, y));
    CHECK_ERROR(aliasing, "embedding_backward: dy", "overlaps",
                ops::embedding_backward(b, which, x, y));
    if (shift > 0) CHECK_ERROR(aliasing, "copy: x", "overlaps", ops::copy(b, x, y));
    CHECK_ERROR(aliasing, "place_rows: x", "overlaps",
                ops::place_rows(b, at(32, 2), indices(begin, {1}), y));
    CHECK_ERROR(aliasing, "permute: x", "overlaps", ops::permute(b, x, which, 1, y));
    CHECK_ERROR(aliasing, "permute_backward: dxs", "overlaps",
                ops::permute_backward(b, x, slots, y));
    CHECK_ERROR(aliasing, "combine: ys", "overlaps",
                ops::combine(b, x, ds::combine_by{ones, slots}, y));
    CHECK_ERROR(aliasing, "combine_backward: dy", "overlaps",
                ops::combine_backward(b, ds::combine_inputs{at(0), ones, slots}, x,
                                      ds::combine_gradients{y, ds::none{}}));
  }
}

TEST_CASE_FIXTURE(fixture,
                  "ops that may write over their input: onto it or apart, nothing between") {
  const auto x = at(32), beside = at(36), dy = at(64);
  const numbers w(data, {4}), norms(data + 8, {4});
  CHECK_ERROR(aliasing, "rms_norm: x", ops::rms_norm(b, x, w, beside, 1e-6));
  CHECK_ERROR(aliasing, "rms_norm: x", ops::rms_norm(b, x, w, ds::transposed(x), 1e-6));
  CHECK_ERROR(
      aliasing, "rms_norm_backward: dy",
      ops::rms_norm_backward(b, ds::rms_norm_inputs{dy, w}, x,
                             ds::rms_norm_gradients{beside, numbers(data + 16, {4})}, 1e-6));
  CHECK_ERROR(aliasing, "layer_norm: x",
              ops::layer_norm(b, x, ds::layer_norm_affine{w, w}, beside, 1e-6));
  CHECK_ERROR(aliasing, "softmax: x", ops::softmax(b, x, beside));
  CHECK_ERROR(aliasing, "softmax_backward: y", ops::softmax_backward(b, x, dy, beside));
  CHECK_ERROR(aliasing, "softmax_backward: dy", ops::softmax_backward(b, dy, x, beside));
  CHECK_ERROR(aliasing, "silu: x", ops::silu(b, x, beside));
  CHECK_ERROR(aliasing, "silu_backward: dy", ops::silu_backward(b, dy, x, beside));
  CHECK_ERROR(aliasing, "dropout: x", ops::dropout(b, x, beside, ds::dropout_spec{}));
  CHECK_ERROR(aliasing, "jitter: x", ops::jitter(b, x, beside, 0.1, ds::routing_draw{}));
  CHECK_ERROR(aliasing, "hadamard: x", ops::hadamard(b, x, beside));
  CHECK_ERROR(aliasing, "scale_columns: x", ops::scale_columns(b, x, w, beside));
  CHECK_ERROR(aliasing, "unit_rows: x", ops::unit_rows(b, x, ds::unit_outputs{beside, norms}));
  CHECK_ERROR(aliasing, "rope: x",
              ops::rope(b, batch(data + 32, {2, 2, 4}), indices(ids, {2}),
                        batch(data + 34, {2, 2, 4}), ds::rope_spec{}));
  CHECK_ERROR(aliasing, "sinkhorn: x",
              ops::sinkhorn(b, batch(data + 32, {1, 4, 4}), batch(data + 33, {1, 4, 4}), {}));
  CHECK_ERROR(aliasing, "swiglu: up", ops::swiglu(b, dy, x, beside));
  CHECK_ERROR(
      aliasing, "swiglu_backward: dgate",
      ops::swiglu_backward(b, ds::swiglu_inputs{x, dy}, at(96), ds::swiglu_gradients{x, x}));
  const batch streams(data + 32, {2, 2, 4}), beside_streams(data + 36, {2, 2, 4});
  CHECK_ERROR(
      aliasing, "hyper_write: streams",
      ops::hyper_write(
          b, ds::hyper_write_views{streams, at(0, 2), matrix(data, {2, 2}), batch(data, {2, 2, 2})},
          beside_streams));
}

TEST_CASE("parts of one buffer side by side are no overlap") {
  ds::cpu b;
  float data[96], two[96];
  std::iota(data, data + 96, 0.F);
  std::iota(two, two + 96, 0.F);
  const matrix left(data, {4, 4}, {12, 1}), right(data + 4, {4, 4}, {12, 1}),
      last(data + 8, {4, 4}, {12, 1});
  ops::copy(b, left, right);
  CHECK(right(3, 3) == 39);
  ops::copy(b, right, right);
  CHECK(right(3, 3) == 39);
  ops::rms_norm(b, right, numbers(two, {4}), right, 1e-6);
  ops::gemm(b, left, matrix(two, {4, 4}), last);
  CHECK(last(0, 0) == 0 * 0 + 1 * 4 + 2 * 8 + 3 * 12);
}
