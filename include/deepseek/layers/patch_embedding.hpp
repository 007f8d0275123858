// SPDX-License-Identifier: Apache-2.0
// patch_embedding<config>: images as rows. x [images, channels, height, width] is cut into patches
// without overlap, row by row; each becomes W patch + b + position (window_embedding.hpp).
// y [images (height / patch) (width / patch), dim]; a patch is flattened channel by channel, row by
// row, like a convolution's weight. Errors: shape_mismatch (an image of another size).
// Source: Dosovitskiy et al. 2021, section 3.1; no class token: heads pool (task_heads.hpp).
#pragma once

#include "deepseek/layers/window_embedding.hpp"

namespace deepseek {

struct patch_config {
  index_t channels = 1;           // > 0
  index_t height = 0, width = 0;  // of an image, multiples of patch
  index_t patch = 1;              // side of a patch, > 0
  index_t dim = 0;                // model width, > 0
  bool operator==(const patch_config&) const = default;

  constexpr index_t patches() const { return (height / patch) * (width / patch); }
  constexpr window_config windows() const {
    return {channels, {patch, patch, patch, patch}, patches(), dim};
  }
};

template <patch_config C>
struct patch_embedding : window_embedding<C.windows()> {
  static_assert(C.patch > 0 && C.height % C.patch == 0 && C.width % C.patch == 0,
                "deepseek::patch_embedding: patch does not divide height and width (pixels would "
                "be left out); write a divisor of both or pad the images");
  using windows = window_embedding<C.windows()>;
  static constexpr const char* label = "image";

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, K& k) {
    static_assert(X::rank == 4,
                  "deepseek::patch_embedding: wrong rank; pass x[images, channels, height, width]");
    require_extent(x, 2, C.height, "patch_embedding: x");
    require_extent(x, 3, C.width, "patch_embedding: x");
    windows::forward(c, p, x, y, k);
  }
};

}  // namespace deepseek
