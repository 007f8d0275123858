// SPDX-License-Identifier: Apache-2.0
// What hyper-connections do with n streams X [tokens, n, dim], token by token:
//   hyper_read:   x = sum_i pre_i X_i               pre [tokens, n], x [tokens, dim]
//   hyper_write:  Y_j = post_j y + sum_i mix_ij X_i post [tokens, n], mix [tokens, n, n]: the sum
//                 runs over the first index of mix. Y must not overlap X, nor dX dY.
// Backward of read: dpre_i = dx . X_i is written, dX_i += pre_i dx added to; of write: dy = sum_j
// post_j dY_j, dpost_j = dY_j . y, dmix_ij = X_i . dY_j, dX_i = sum_j mix_ij dY_j, all written.
// Types may differ; sums in accumulate_t of the result, rounded once. Errors: shape_mismatch,
// invalid_argument, aliasing. Bits do not depend on threads; a token alone has the same bits.
// Cost: 2 n and 2 n (n + 1) flops an element of dim. Sources: Zhu et al. 2024 (hyper-connections);
// Xie et al. 2025; the transposed mix as in DeepSeek's TileKernels.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

namespace hyper_checks {

template <class Streams, class Row, class Map>
void require_streams(const Streams& x, const Row& row, const Map& map, const char* op) {
  static_assert(Streams::rank == 3 && Row::rank == 2 && Map::rank == 2,
                "deepseek::hyper_streams: wrong ranks; pass streams[tokens, n, dim], rows[tokens, "
                "dim], maps[tokens, n], mix[tokens, n, n]");
  require(row.extent(0) == x.extent(0) && row.extent(1) == x.extent(2) &&
              map.extent(0) == x.extent(0) && map.extent(1) == x.extent(1),
          error_code::shape_mismatch, op, ": streams", shape_of(x), " do not fit row",
          shape_of(row), " and map", shape_of(map),
          "; pass streams[tokens, n, dim], row[tokens, dim], map[tokens, n]");
  require_data(x, op);
  require_data(row, op);
  require_data(map, op);
}
template <class Mix, class Map>
void require_mix(const Mix& mix, const Map& map, const char* op) {
  static_assert(Mix::rank == 3, "deepseek::hyper_streams: wrong rank; pass mix[tokens, n, n]");
  require_extent(mix, 0, map.extent(0), op);
  require_extent(mix, 1, map.extent(1), op);
  require_extent(mix, 2, map.extent(1), op);
  require_data(mix, op);
}

}  // namespace hyper_checks

struct hyper_read_op {
  static constexpr std::string_view name = "hyper_read";

  template <class B, class X, class Pre, class Y>
  void operator()(const B& b, const X& streams_in, const Pre& pre_in, Y&& x_in) const {
    const auto streams = as_const(as_view(streams_in));
    const auto pre = as_const(as_view(pre_in));
    const auto x = as_view(x_in);
    check_spaces(b, streams, pre, x);
    hyper_checks::require_streams(streams, x, pre, "hyper_read");
    if (!x.empty()) hyper_read_impl(b, streams, pre, x);
  }
};

// What hyper_read got, or its gradients: dstreams added to, dpre written.
template <class X, class Pre>
struct hyper_read_views {
  X streams;  // [tokens, n, dim]
  Pre pre;    // [tokens, n]
};
template <class X, class Pre>
hyper_read_views(X&&, Pre&&) -> hyper_read_views<argument_t<X>, argument_t<Pre>>;

struct hyper_read_backward_op {
  static constexpr std::string_view name = "hyper_read_backward";

  template <class B, class In, class DY, class Out>
  void operator()(const B& b, const In& given, const DY& dx_in, const Out& out) const {
    const hyper_read_views in{as_const(as_view(given.streams)), as_const(as_view(given.pre))};
    const auto dx = as_const(as_view(dx_in));
    const hyper_read_views to{as_view(out.streams), as_view(out.pre)};
    check_spaces(b, in.streams, in.pre, dx, to.streams, to.pre);
    hyper_checks::require_streams(in.streams, dx, in.pre, "hyper_read_backward");
    require_same_shape(to.streams, in.streams, "hyper_read_backward: dstreams");
    require_same_shape(to.pre, in.pre, "hyper_read_backward: dpre");
    require_data(to.streams, "hyper_read_backward: dstreams");
    require_data(to.pre, "hyper_read_backward: dpre");
    if (in.pre.extent(0) > 0) hyper_read_backward_impl(b, in, dx, to);
  }
};

// What hyper_write gets, or its gradients (written).
template <class X, class Y, class Post, class Mix>
struct hyper_write_views {
  X streams;  // [tokens, n, dim]
  Y y;        // [tokens, dim]
  Post post;  // [tokens, n]
  Mix mix;    // [tokens, n, n]
};
template <class X, class Y, class Post, class Mix>
hyper_write_views(X&&, Y&&, Post&&, Mix&&)
    -> hyper_write_views<argument_t<X>, argument_t<Y>, argument_t<Post>, argument_t<Mix>>;

struct hyper_write_op {
  static constexpr std::string_view name = "hyper_write";

  template <class B, class In, class Out>
  void operator()(const B& b, const In& given, Out&& out_in) const {
    const hyper_write_views in{as_const(as_view(given.streams)), as_const(as_view(given.y)),
                               as_const(as_view(given.post)), as_const(as_view(given.mix))};
    const auto out = as_view(out_in);
    check_spaces(b, in.streams, in.y, in.post, in.mix, out);
    hyper_checks::require_streams(in.streams, in.y, in.post, "hyper_write");
    hyper_checks::require_mix(in.mix, in.post, "hyper_write: mix");
    require_same_shape(out, in.streams, "hyper_write: out");
    require_data(out, "hyper_write: out");
    require_apart(in.streams, out, "hyper_write: streams");
    if (!out.empty()) hyper_write_impl(b, in, out);
  }
};

struct hyper_write_backward_op {
  static constexpr std::string_view name = "hyper_write_backward";

  template <class B, class In, class DOut, class Out>
  void operator()(const B& b, const In& given, const DOut& dout_in, const Out& out) const {
    const hyper_write_views in{as_const(as_view(given.streams)), as_const(as_view(given.y)),
                               as_const(as_view(given.post)), as_const(as_view(given.mix))};
    const auto dout = as_const(as_view(dout_in));
    const hyper_write_views to{as_view(out.streams), as_view(out.y), as_view(out.post),
                               as_view(out.mix)};
    check_spaces(b, in.streams, in.y, in.post, in.mix, dout);
    check_spaces(b, to.streams, to.y, to.post, to.mix);
    hyper_checks::require_streams(in.streams, in.y, in.post, "hyper_write_backward");
    hyper_checks::require_mix(in.mix, in.post, "hyper_write_backward: mix");
    require_same_shape(dout, in.streams, "hyper_write_backward: dout");
    require_data(dout, "hyper_write_backward: dout");
    require_apart(dout, to.streams, "hyper_write_backward: dout");
    require_same_shape(to.streams, in.streams, "hyper_write_backward: dstreams");
    hyper_checks::require_streams(to.streams, to.y, to.post, "hyper_write_backward: gradients");
    hyper_checks::require_mix(to.mix, to.post, "hyper_write_backward: dmix");
    if (in.post.extent(0) > 0) hyper_write_backward_impl(b, in, dout, to);
  }
};

namespace ops {
inline constexpr hyper_read_op hyper_read{};
inline constexpr hyper_read_backward_op hyper_read_backward{};
inline constexpr hyper_write_op hyper_write{};
inline constexpr hyper_write_backward_op hyper_write_backward{};
}  // namespace ops

}  // namespace deepseek
