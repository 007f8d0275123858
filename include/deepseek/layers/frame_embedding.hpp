// SPDX-License-Identifier: Apache-2.0
// frame_embedding<config>: audio as rows. x [clips, time, features]: samples (features 1) or
// features of frames such as log-mel ones. Frame r of a clip is the steps r step .. r step + length
// - 1; what does not fill a frame at the end is left out. y = W frame + b + position
// (window_embedding.hpp), y [clips frames, dim], a frame flattened step by step. Frames overlap
// where step < length. Clips of different lengths: pad them and leave the frames of the padding out
// of the order of rows (by_kind.hpp). Errors: shape_mismatch (features; a clip shorter than a
// frame), index_range (more frames than positions).
// Sources: Gong et al. 2021 (strided patches of spectrograms); Baevski et al. 2020 (of samples).
#pragma once

#include "deepseek/layers/window_embedding.hpp"

namespace deepseek {

struct frame_config {
  index_t features = 1;  // of one step of time: 1 for samples, the mel bands else
  index_t length = 400;  // steps of a frame, > 0; 25 ms at 16 kHz
  index_t step = 160;    // from frame to frame, > 0; 10 ms at 16 kHz
  index_t frames = 0;    // most frames of a clip, > 0
  index_t dim = 0;       // model width, > 0
  bool operator==(const frame_config&) const = default;

  constexpr window_config windows() const {
    return {1, {length, features, step, features}, frames, dim};
  }
};

template <frame_config C>
struct frame_embedding : window_embedding<C.windows()> {
  static_assert(
      C.features > 0 && C.length > 0 && C.step > 0,
      "deepseek::frame_embedding: features, length or step is not positive; write .length "
      "= 400, .step = 160");
  using windows = window_embedding<C.windows()>;
  static constexpr const char* label = "audio";

  template <class X>
  static index_t input_rows(const X& x) {
    return windows::input_rows(as_images(x));
  }
  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, K& k) {
    require_extent(x, 2, C.features, "frame_embedding: x");
    windows::forward(c, p, as_images(x), y, k);
  }
  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k,
                       G& g) {
    if constexpr (std::is_same_v<DX, none>) {
      windows::backward(c, p, as_images(x), dy, dx, k, g);
    } else {
      windows::backward(c, p, as_images(x), dy, as_images(dx), k, g);
    }
  }

 private:
  // [clips, time, features] as images of one channel.
  template <class T, class S, index_t N, index_t L, index_t M>
  static view<T, S, N, 1, L, M> as_images(const view<T, S, N, L, M>& x) {
    return {x.data(),
            {x.extent(0), 1, x.extent(1), x.extent(2)},
            {x.stride(0), x.stride(0), x.stride(1), x.stride(2)}};
  }
};

}  // namespace deepseek
