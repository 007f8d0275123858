// SPDX-License-Identifier: Apache-2.0
// hyper_maps: the three maps of a hyper-connection of n streams from its projection mu, per token:
//   pre_i = sigmoid(mu_i a0 + b_i) + eps;  post_i = 2 sigmoid(mu_{n+i} a1 + b_{n+i});
//   mix = sinkhorn(mu_{2n + i n + j} a2 + b_{2n + i n + j} as n x n; ops/sinkhorn.hpp)
// mu [tokens, (2 + n) n], base b [(2 + n) n], scale a [3] -> pre, post [tokens, n], mix [tokens, n,
// n]. With post and mix none{} it is the head's map: mu [tokens, n], base [n], scale [1].
// Backward: dmu is written; dbase and dscale are added to, sums over tokens in fixed order.
// Arithmetic in accumulate_t of pre (dmu), rounded once. Errors: shape_mismatch, invalid_argument.
// Bits do not depend on threads. Source: Xie et al. 2025 (manifold-constrained hyper-connections);
// constants, the factor 2 and softmax as in DeepSeek's TileKernels.
#pragma once

#include "deepseek/ops/sinkhorn.hpp"

namespace deepseek {

template <class Mu, class Base, class Scale>
struct hyper_projection {
  Mu mu;        // [tokens, (2 + n) n]
  Base base;    // [(2 + n) n]
  Scale scale;  // [3]
};
template <class Mu, class Base, class Scale>
hyper_projection(Mu&&, Base&&, Scale&&)
    -> hyper_projection<argument_t<Mu>, argument_t<Base>, argument_t<Scale>>;

// The maps, or their gradients.
template <class Pre, class Post = none, class Mix = none>
struct hyper_map_views {
  Pre pre;      // [tokens, n]
  Post post{};  // [tokens, n]
  Mix mix{};    // [tokens, n, n]
};
template <class Pre, class Post, class Mix>
hyper_map_views(Pre&&, Post&&, Mix&&)
    -> hyper_map_views<argument_t<Pre>, argument_t<Post>, argument_t<Mix>>;
template <class Pre>
hyper_map_views(Pre&&) -> hyper_map_views<argument_t<Pre>>;

namespace hyper_checks {

template <class Maps>
inline constexpr bool only_pre =
    std::is_same_v<std::remove_cvref_t<decltype(std::declval<Maps>().mix)>, none>;

template <class In, class Maps>
void require_maps(const In& in, const Maps& maps) {
  static_assert(decltype(in.mu)::rank == 2 && decltype(in.base)::rank == 1 &&
                    decltype(in.scale)::rank == 1 && decltype(maps.pre)::rank == 2,
                "deepseek::hyper_maps: wrong ranks; pass mu[tokens, (2 + n) n], base[(2 + n) n], "
                "scale[3], pre[tokens, n], post[tokens, n], mix[tokens, n, n]");
  const index_t n = maps.pre.extent(1), tokens = maps.pre.extent(0);
  require_extent(in.mu, 0, tokens, "hyper_maps: mu");
  require_extent(in.mu, 1, only_pre<Maps> ? n : (2 + n) * n, "hyper_maps: mu");
  require_extent(in.base, 0, in.mu.extent(1), "hyper_maps: base");
  require_extent(in.scale, 0, only_pre<Maps> ? 1 : 3, "hyper_maps: scale");
  require_data(in.mu, "hyper_maps: mu");
  require_data(in.base, "hyper_maps: base");
  require_data(in.scale, "hyper_maps: scale");
  require_data(maps.pre, "hyper_maps: pre");
  if constexpr (!only_pre<Maps>) {
    require_same_shape(maps.post, maps.pre, "hyper_maps: post");
    require_extent(maps.mix, 0, tokens, "hyper_maps: mix");
    require_extent(maps.mix, 1, n, "hyper_maps: mix");
    require_extent(maps.mix, 2, n, "hyper_maps: mix");
    require_data(maps.post, "hyper_maps: post");
    require_data(maps.mix, "hyper_maps: mix");
  }
}

}  // namespace hyper_checks

struct hyper_maps_op {
  static constexpr std::string_view name = "hyper_maps";

  template <class B, class In, class Out>
  void operator()(const B& b, const In& given, const Out& out, const sinkhorn_spec& spec) const {
    const hyper_projection in{as_const(as_view(given.mu)), as_const(as_view(given.base)),
                              as_const(as_view(given.scale))};
    const hyper_map_views maps{as_view(out.pre), view_or_none(out.post), view_or_none(out.mix)};
    check_spaces(b, in.mu, in.base, in.scale, maps.pre, maps.post, maps.mix);
    hyper_checks::require_maps(in, maps);
    require_sinkhorn(spec, "hyper_maps");
    if (!maps.pre.empty()) hyper_maps_impl(b, in, maps, spec);
  }
};

struct hyper_maps_backward_op {
  static constexpr std::string_view name = "hyper_maps_backward";

  // gradients: of the maps; out: hyper_projection{dmu, dbase, dscale}.
  template <class B, class In, class G, class Out>
  void operator()(const B& b, const In& given, const G& gradients, const Out& out,
                  const sinkhorn_spec& spec) const {
    const hyper_projection in{as_const(as_view(given.mu)), as_const(as_view(given.base)),
                              as_const(as_view(given.scale))};
    const hyper_map_views g{as_const(as_view(gradients.pre)), const_or_none(gradients.post),
                            const_or_none(gradients.mix)};
    const hyper_projection to{as_view(out.mu), as_view(out.base), as_view(out.scale)};
    check_spaces(b, in.mu, in.base, in.scale, g.pre, g.post, g.mix);
    check_spaces(b, to.mu, to.base, to.scale);
    hyper_checks::require_maps(in, g);
    require_same_shape(to.mu, in.mu, "hyper_maps_backward: dmu");
    require_same_shape(to.base, in.base, "hyper_maps_backward: dbase");
    require_same_shape(to.scale, in.scale, "hyper_maps_backward: dscale");
    require_data(to.mu, "hyper_maps_backward: dmu");
    require_data(to.base, "hyper_maps_backward: dbase");
    require_data(to.scale, "hyper_maps_backward: dscale");
    require_sinkhorn(spec, "hyper_maps_backward");
    if (!g.pre.empty()) hyper_maps_backward_impl(b, in, g, to, spec);
  }
};

namespace ops {
inline constexpr hyper_maps_op hyper_maps{};
inline constexpr hyper_maps_backward_op hyper_maps_backward{};
}  // namespace ops

}  // namespace deepseek
