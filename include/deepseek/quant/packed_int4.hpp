// SPDX-License-Identifier: Apache-2.0
// The 4-bit layouts of published files, as matrices [out, in] for make_expert_weight: int4_groups
// takes their codes as they are where it can (is_taken_as_is), else they are numbers like others.
//   gptq_matrix: qweight [in / 8, out], 8 neighbours along the input in a word, the first lowest;
//     qzeros [groups, out / 8], likewise along the output, holding z - 1 (gptq_zeros::minus_one;
//     the later form, gptq_v2, holds z: gptq_zeros::plain); scales [groups, out]; g_idx [in]: the
//     group of each input (files in the order of activations), or none: k / (in / groups).
//   awq_matrix: qweight [in, out / 8], qzeros [groups, out / 8], nibble i of a word is output
//     0 2 4 6 1 3 5 7 of 8; zeros plain; scales [groups, out].
// w = (q - z) s in float. Use int4_groups<G, f16>: the files' scales are f16, and G that divides
// theirs gives the same numbers. A g_idx out of order has no contiguous groups: such a matrix is
// rounded again. Errors: shape_mismatch, index_range (g_idx), nonfinite (scales, when it is made).
// Sources: Frantar et al. 2023 (GPTQ); Lin et al. 2024 (AWQ); the layouts as their tools write
// them.
#pragma once

#include "deepseek/quant/int4_groups.hpp"

namespace deepseek {

template <class Space>
using packed_words = view<const std::int32_t, Space, dyn, dyn>;

inline std::int32_t nibble_of(std::int32_t word, index_t i) {
  return static_cast<std::int32_t>(
      (static_cast<std::uint32_t>(word) >> (4U * static_cast<unsigned>(i))) & 15U);
}

enum class gptq_zeros { minus_one, plain };

template <class Space>
struct gptq_matrix {
  using value_type = float;
  packed_words<Space> qweight, qzeros;
  view<const f16, Space, dyn, dyn> scales;
  view<const std::int32_t, Space, dyn> g_idx = {};
  gptq_zeros zeros = gptq_zeros::minus_one;

  index_t extent(int i) const { return i == 0 ? scales.extent(1) : 8 * qweight.extent(0); }
  index_t group_of(index_t k) const {
    return g_idx.extent(0) > 0 ? g_idx(k) : k / (extent(1) / scales.extent(0));
  }
  std::int32_t code(index_t n, index_t k) const { return nibble_of(qweight(k / 8, n), k % 8); }
  int4_group group(index_t n, index_t k) const {
    const index_t g = group_of(k);
    const std::int32_t z = nibble_of(qzeros(g, n / 8), n % 8) + (zeros == gptq_zeros::minus_one);
    return {static_cast<float>(scales(g, n)), static_cast<std::uint8_t>(z)};
  }
  float operator()(index_t n, index_t k) const { return group(n, k).value(code(n, k)); }

  void check(const char* object) const {
    const index_t groups = scales.extent(0), n = extent(0), k = extent(1);
    require_extent(qweight, 1, n, object);
    require_extent(qzeros, 0, groups, object);
    require_extent(qzeros, 1, (n + 7) / 8, object);
    if (g_idx.extent(0) == 0) {
      require(groups > 0 && k % groups == 0, error_code::shape_mismatch, object, ": ", groups,
              " groups of scales do not divide ", k, " inputs; pass g_idx");
      return;
    }
    require_extent(g_idx, 0, k, object);
    for (index_t i = 0; i < k; ++i) {
      require(g_idx(i) >= 0 && g_idx(i) < groups, error_code::index_range, object, ": g_idx[", i,
              "] is ", g_idx(i), " of ", groups, " groups; the file is not of this layout");
    }
  }
};

template <class Space>
struct awq_matrix {
  using value_type = float;
  packed_words<Space> qweight, qzeros;
  view<const f16, Space, dyn, dyn> scales;

  index_t extent(int i) const { return i == 0 ? scales.extent(1) : qweight.extent(0); }
  // Where output n of 8 lies in a word.
  static constexpr index_t place(index_t n) { return n % 2 == 0 ? n / 2 : 4 + n / 2; }
  std::int32_t code(index_t n, index_t k) const {
    return nibble_of(qweight(k, n / 8), place(n % 8));
  }
  int4_group group(index_t n, index_t k) const {
    const index_t g = k / (extent(1) / scales.extent(0));
    return {static_cast<float>(scales(g, n)),
            static_cast<std::uint8_t>(nibble_of(qzeros(g, n / 8), place(n % 8)))};
  }
  float operator()(index_t n, index_t k) const { return group(n, k).value(code(n, k)); }

  void check(const char* object) const {
    const index_t groups = scales.extent(0), n = extent(0), k = extent(1);
    require_extent(qweight, 1, (n + 7) / 8, object);
    require_extent(qzeros, 0, groups, object);
    require_extent(qzeros, 1, (n + 7) / 8, object);
    require(groups > 0 && k % groups == 0, error_code::shape_mismatch, object, ": ", groups,
            " groups of scales do not divide ", k, " inputs; the file is not of this layout");
  }
};

}  // namespace deepseek
