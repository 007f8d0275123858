// SPDX-License-Identifier: Apache-2.0
// What the launches of attention's tensor core kernels share: which types they take, how many rows
// there are, ranges of keys as blocks of their own, what shared memory can be had.
#pragma once

#include "deepseek/backend/cuda/attention/tensor_forward.hpp"
#include "deepseek/backend/cuda/elementwise.hpp"

namespace deepseek::cuda_attention {

template <class T>
concept TensorElement = std::same_as<T, bf16> || std::same_as<T, f16>;

// All elements are of one type that tensor cores multiply.
template <class V, class... More>
concept tensor_types = TensorElement<typename V::value_type> &&
    (std::same_as<typename V::value_type, typename More::value_type>&&...);

template <int Width, int ValueWidth>
struct widths {
  static constexpr int width = Width, value_width = ValueWidth;
};

// Whether the types of queries and values allow these widths: kernels of others are not compiled.
template <class W, class In>
inline constexpr bool can_have = [] {
  constexpr index_t d = std::remove_cvref_t<decltype(In::q)>::static_extents[2];
  constexpr index_t dv = std::remove_cvref_t<decltype(In::v)>::static_extents[2];
  return (d == dyn || d == W::width) && (dv == dyn || dv == W::value_width);
}();
template <class W, class In>
bool has_widths(const In& in) {
  return in.q.extent(2) == W::width && in.v.extent(2) == W::value_width;
}

// Rows of one key-value head of a sequence, on average.
template <class In, class Spec>
index_t rows_of_head(const In& in, const Spec& spec) {
  const index_t sequences = sequence_count(spec);
  return blocks_of(in.q.extent(0), sequences > 0 ? sequences : 1) *
         (in.q.extent(1) / in.k.extent(1));
}

// Ranges of the keys as blocks of their own, where the rows of one sequence are few; keys: that a
// row may see. 1: the keys are not cut.
template <class Spec>
index_t count_ranges(const Spec& spec, index_t keys) {
  return spec.query_offsets.extent(0) > 0 || keys <= range_keys ? 1 : blocks_of(keys, range_keys);
}
template <class In, class Spec>
index_t count_ranges(const In& in, const Spec& spec) {
  return count_ranges(spec, spec.pages.size > 0 ? spec.keys : in.k.extent(0));
}
template <class B, class In, class Out>
auto make_ranges(const B& b, const In& in, const Out& out, index_t count) {
  range_parts<typename B::space> parts;
  if (count == 1) return parts;
  parts.count = count;
  auto& memory = b.workspace();
  const index_t queries = in.q.extent(0), heads = in.q.extent(1);
  parts.o = memory.template make<float, dyn, dyn, dyn, dyn>(count, queries, heads, out.o.extent(2));
  parts.rows = memory.template make<online, dyn, dyn, dyn>(count, queries, heads);
  return parts;
}

// A launch of kernel_of(parts), then, where the keys are cut, of what makes one of the parts.
template <class B, class In, class Out, class KernelOf>
void launch_few_rows(const B& b, const In& in, const Out& out, index_t ranges,
                     const KernelOf& kernel_of) {
  const scope freed(b.workspace());
  const auto parts = make_ranges(b, in, out, ranges);
  b.launch(kernel_of(parts));
  if (parts.count == 1) return;
  using merge = merge_ranges<Out, typename B::space>;
  b.launch(each_short_row<merge>{in.q.extent(0) * in.q.extent(1), merge{out, parts}});
}

// Ranges get blocks of their own where the rows alone would leave the device idle and the sums of
// all ranges stay small (256 MiB).
template <class In, class Spec>
bool splits_keys(const In& in, const Spec& spec, index_t tiles, index_t ranges) {
  return spec.query_offsets.extent(0) == 0 && tiles <= 264 &&
         in.q.extent(0) * in.q.extent(1) * ranges <= index_t{1} << 17;
}

// Shared memory that a block may have; what every GPU since sm_86 gives, where the backend does not
// say.
template <class B>
std::size_t most_shared_bytes(const B& b) {
  if constexpr (requires { b.most_shared_bytes(); }) {
    return b.most_shared_bytes();
  } else {
    return std::size_t{99} << 10U;
  }
}

}  // namespace deepseek::cuda_attention
