// SPDX-License-Identifier: Apache-2.0
// The table of run_op: a row names an op and the function that runs it on a case. A row's body is
// a struct with `template <class T> static void run(const auto& backend, op_case&, results&)`,
// instantiated for every element type and backend by row_of<Body>("name"). Each family of ops is
// one .cpp, so that they compile side by side.
#pragma once

#include "run_op/op_case.hpp"
#include "run_op/results.hpp"

#include "deepseek/backend/cpu/cpu.hpp"
#include "deepseek/pattern/given_mask.hpp"

#include <optional>
#include <span>

namespace run_op {

struct machine {
  ds::reference plain;
  std::optional<ds::cpu> threads;  // present where the cpu backend was asked for
};

struct op_row {
  std::string_view name;
  void (*run)(const machine&, op_case&, results&);
};

std::span<const op_row> attention_rows();
std::span<const op_row> branch_rows();
std::span<const op_row> compressed_rows();
std::span<const op_row> element_rows();
std::span<const op_row> expert_rows();
std::span<const op_row> format_rows();
std::span<const op_row> hyper_rows();
std::span<const op_row> indexer_rows();
std::span<const op_row> latent_rows();
std::span<const op_row> loss_rows();
std::span<const op_row> norm_rows();
std::span<const op_row> optimizer_rows();
std::span<const op_row> product_rows();
std::span<const op_row> quant_rows();
std::span<const op_row> router_rows();
std::span<const op_row> token_rows();
std::span<const op_row> weight_rows();
std::span<const op_row> window_rows();

template <class Body, class T>
void run_in(const machine& m, op_case& in, results& out) {
  if (m.threads) {
    Body::template run<T>(*m.threads, in, out);
  } else {
    Body::template run<T>(m.plain, in, out);
  }
}

template <class Body>
void run_row(const machine& m, op_case& in, results& out) {
  switch (in.type()) {
    case ds::dtype::f64:
      return run_in<Body, double>(m, in, out);
    case ds::dtype::f32:
      return run_in<Body, float>(m, in, out);
    case ds::dtype::bf16:
      return run_in<Body, ds::bf16>(m, in, out);
    case ds::dtype::f16:
      return run_in<Body, ds::f16>(m, in, out);
    default:
      ds::fail(error_code::unsupported, in.op(),
               ": does not run in int8; supported are f64 f32 bf16 f16 (int8: int8_gemm)");
  }
}

template <class Body>
constexpr op_row row_of(std::string_view name) {
  return {name, &run_row<Body>};
}

// An op that has no form on a device.
template <class Body>
struct host_only {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    if constexpr (ds::RunsKernels<std::remove_cvref_t<decltype(b)>>) {
      ds::fail(error_code::unsupported, in.op(),
               ": has no form on the device; supported backends are reference and cpu");
    } else {
      Body::template run<T>(b, in, out);
    }
  }
};

// Grouped products trust their offsets [experts + 1]; a file is not trusted.
inline array<std::int32_t, 1> read_offsets(op_case& in, index_t rows) {
  auto offsets = in.read_ids<1>("offsets");
  const auto v = offsets.view();
  const index_t last = v.extent(0) - 1;
  bool rising = last >= 0 && v(0) == 0 && v(last) == rows;
  for (index_t e = 0; rising && e < last; ++e) rising = v(e) <= v(e + 1);
  ds::require(rising, error_code::offsets, in.op(), ": offsets", ds::shape_string(v),
              " do not rise from 0 to the ", rows, " rows of x; pass experts + 1 of them");
  return offsets;
}

// [A, B, d] seen as [B, A, d].
template <class Array>
auto swapped(Array& t) {
  const auto v = t.view();
  return ds::view<typename decltype(v)::element_type, ds::host, ds::dyn, ds::dyn, ds::dyn>(
      v.data(), {v.extent(1), v.extent(0), v.extent(2)}, {v.stride(1), v.stride(0), v.stride(2)});
}

// Attention of `queries` by `keys` under a mask [queries, keys], scaled as the case says.
inline ds::attention_spec<ds::given_mask> masked(op_case& in, const array<std::uint8_t, 2>& mask,
                                                 index_t queries, index_t keys) {
  const auto m = mask.view();
  ds::require(m.extent(0) == queries && m.extent(1) == keys, error_code::shape_mismatch, in.op(),
              ": mask", ds::shape_string(m), " does not match ", queries, " queries and ", keys,
              " keys; pass mask[queries, keys]");
  const double scale = in.number("scale", 0);
  ds::require(scale != 0 || !in.has("scale"), error_code::invalid_argument, in.op(),
              ": scale is 0; leave it out for 1 / sqrt(d)");
  return {.pattern = ds::given_mask(m), .scale = scale, .start = 0};
}

// A zeroed array of T with the extents of another.
template <class T, class Like>
auto like(const Like& other) {
  array<T, static_cast<std::size_t>(Like::rank)> out;
  typename decltype(out)::extents_array extents = {};
  for (int i = 0; i < Like::rank; ++i) extents[i] = other.extent(i);
  return decltype(out)(extents);
}
template <class Like>
auto like(const Like& other) {
  return like<typename Like::value_type>(other);
}

}  // namespace run_op
