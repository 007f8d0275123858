// SPDX-License-Identifier: Apache-2.0
// Hyper-connections: n residual streams of width D side by side, X [tokens, n D], X_i = columns i D
// and on. hyper_connection<D, Body, config, Name>: mu = W rms(X) (no weight), the maps pre, post
// and mix of ops/hyper_maps.hpp, x = sum_i pre_i X_i, y = Body(x), X'_j = post_j y + sum_i mix_ij
// X_i. hyper_block<Attention, FeedForward, config>: both, in the place of transformer_block.
// hyper_streams<D, config> before the first block copies its input n times; hyper_head<D, config>
// after the last gives sum_i pre_i X_i. Names: hc_attn_fn, hc_attn_base, hc_attn_scale, hc_ffn_...,
// hc_head_...; all three are kept in accumulate_t. Row-wise but for what Body does.
// Sources: Zhu et al. 2024 (hyper-connections); Xie et al. 2025 (manifold-constrained); DeepSeek's
// TileKernels (transposed mix, softmax, the factor 2).
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/norm.hpp"
#include "deepseek/layers/residual.hpp"
#include "deepseek/ops/copy.hpp"
#include "deepseek/ops/fill.hpp"
#include "deepseek/ops/gemm.hpp"
#include "deepseek/ops/hyper_maps.hpp"
#include "deepseek/ops/hyper_streams.hpp"

namespace deepseek {

struct hyper_config {
  index_t streams = 4;      // n >= 1
  index_t iterations = 20;  // of sinkhorn, >= 1
  double eps = 1e-6;        // > 0, of the norm, of pre and of sinkhorn
  bool operator==(const hyper_config&) const = default;
};

// Two texts, one after the other.
template <std::size_t A, std::size_t B>
constexpr text<A + B - 1> joined(const text<A>& a, const text<B>& b) {
  char all[A + B - 1] = {};
  for (std::size_t i = 0; i + 1 < A; ++i) all[i] = a.characters[i];
  for (std::size_t i = 0; i < B; ++i) all[A - 1 + i] = b.characters[i];
  return text<A + B - 1>(all);
}

// The projection of n D numbers to W maps' arguments, with its base and the scales of the maps.
template <index_t W, index_t Wide, index_t Scales, text Name>
struct hyper_weights {
  static constexpr index_t out = W;
  static constexpr const char* label = "";
  // One by one: texts of other lengths are other types.
  static constexpr auto fn_name = joined(Name, text("_fn"));
  static constexpr auto base_name = joined(Name, text("_base"));
  static constexpr auto scale_name = joined(Name, text("_scale"));

  template <class T, class S>
  struct parameters {
    using layer = hyper_weights;
    tensor<accumulate_t<T>, S, W, Wide> fn;
    tensor<accumulate_t<T>, S, W> base;
    tensor<accumulate_t<T>, S, Scales> scale;
    static constexpr auto fields() {
      return std::tuple{named(fn_name.characters, &parameters::fn),
                        named(base_name.characters, &parameters::base),
                        named(scale_name.characters, &parameters::scale)};
    }
  };
  // mu = W rms(x).
  template <class Call, class P, class X, class Mu>
  static void project(const Call& c, const P& p, const X& x, const Mu& mu, double eps) {
    const scope freed(c.scratch);
    auto normed = c.scratch.template make<typename Mu::value_type, dyn, Wide>(x.extent(0));
    ops::rms_norm(c.backend, x, none{}, normed, eps);
    ops::gemm(c.backend, normed, transposed(p.fn.view()), mu);
  }
  // Adds to dx and to the gradient of W.
  template <class Call, class P, class G, class X, class DMu, class DX>
  static void project_backward(const Call& c, const P& p, G& g, const X& x, const DMu& dmu,
                               const DX& dx, double eps) {
    using A = typename DMu::value_type;
    const scope freed(c.scratch);
    auto normed = c.scratch.template make<A, dyn, Wide>(x.extent(0));
    auto d = c.scratch.template make<A, dyn, Wide>(x.extent(0));
    ops::rms_norm(c.backend, x, none{}, normed, eps);
    ops::gemm_backward(c.backend, gemm_inputs{normed, transposed(p.fn.view())}, dmu,
                       gemm_gradients{d, transposed(g.fn.view())});
    ops::rms_norm_backward(c.backend, rms_norm_inputs{x, none{}}, d, rms_norm_gradients{d, none{}},
                           eps);
    ops::add(c.backend, d, dx);
  }
};

constexpr sinkhorn_spec mix_spec(const hyper_config& c) {
  return {c.iterations, c.eps};
}

template <hyper_config C>
constexpr void check_hyper_config() {
  static_assert(C.streams > 0,
                "deepseek::hyper_connection: streams is not positive; write .streams = 4");
  static_assert(C.iterations > 0,
                "deepseek::hyper_connection: iterations is not positive; write .iterations = 20");
  static_assert(C.eps > 0, "deepseek::hyper_connection: eps is not positive; write .eps = 1e-6");
}

template <class Body, hyper_config C, text Name>
struct hyper_connection {
  static constexpr index_t n = C.streams, D = Body::out, wide = n * D, maps = (2 + n) * n;
  static constexpr index_t out = wide;
  static constexpr const char* label = "";
  template <class F>
  using with_format = hyper_connection<reformatted<Body, F>, C, Name>;
  using weights = hyper_weights<maps, wide, 3, Name>;

  template <class Of>
  struct parts {
    using layer = hyper_connection;
    each<Of, weights> hyper;
    each<Of, Body> body;
    static constexpr auto fields() {
      return std::tuple{named("", &parts::hyper), named("", &parts::body)};
    }
  };
  template <class T, class S>
  struct saved {
    view<accumulate_t<T>, S, dyn, maps> mu;
    view<accumulate_t<T>, S, dyn, n> pre, post;
    view<accumulate_t<T>, S, dyn, n, n> mix;
    view<T, S, dyn, D> x, y;  // the body's input and output
  };

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, K& k) {
    check_hyper_config<C>();
    static_assert(width_fits<X, wide>,
                  "deepseek::hyper_connection: the input is not streams x dim wide; put "
                  "hyper_streams<dim, config> before the first block");
    const scope freed(c.scratch);
    const auto s = make<typename Y::value_type>(c.template arena_for<K>(), x.extent(0));
    const auto streams = as_heads<n, D>(x);
    weights::project(c, p.hyper, x, s.mu, C.eps);
    ops::hyper_maps(c.backend, hyper_projection{s.mu, p.hyper.base, p.hyper.scale},
                    hyper_map_views{s.pre, s.post, s.mix}, mix_spec(C));
    ops::hyper_read(c.backend, streams, s.pre, s.x);
    run_forward<Body>(c.in(0), p.body, as_const(s.x), s.y, k.body);
    ops::hyper_write(c.backend, hyper_write_views{streams, s.y, s.post, s.mix}, as_heads<n, D>(y));
    if constexpr (keeps_tape<K>) k.own = s;
  }

  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k,
                       G& g) {
    const scope freed(c.scratch);
    const auto& s = k.own;
    const auto d = make<typename DY::value_type>(c.scratch, x.extent(0));
    const auto streams = as_heads<n, D>(x);
    const auto dstreams = as_heads<n, D>(dx);
    ops::hyper_write_backward(c.backend, hyper_write_views{streams, s.y, s.post, s.mix},
                              as_heads<n, D>(dy), hyper_write_views{dstreams, d.y, d.post, d.mix});
    run_backward<Body>(c.in(0), p.body, as_const(s.x), as_const(d.y), d.x, k.body, g.body);
    ops::hyper_read_backward(c.backend, hyper_read_views{streams, s.pre}, d.x,
                             hyper_read_views{dstreams, d.pre});
    ops::hyper_maps_backward(c.backend, hyper_projection{s.mu, p.hyper.base, p.hyper.scale},
                             hyper_map_views{d.pre, d.post, d.mix},
                             hyper_projection{d.mu, g.hyper.base, g.hyper.scale}, mix_spec(C));
    weights::project_backward(c, p.hyper, g.hyper, x, d.mu, dx, C.eps);
  }

 private:
  template <class T, class S>
  static saved<T, S> make(arena<S>& a, index_t tokens) {
    using A = accumulate_t<T>;
    return {a.template make<A, dyn, maps>(tokens), a.template make<A, dyn, n>(tokens),
            a.template make<A, dyn, n>(tokens),    a.template make<A, dyn, n, n>(tokens),
            a.template make<T, dyn, D>(tokens),    a.template make<T, dyn, D>(tokens)};
  }
};

template <class Attention, class FeedForward, hyper_config C = hyper_config{},
          class Norm = rms_norm<Attention::out>>
struct hyper_block
    : chain<hyper_connection<chain<called<"attn_norm", Norm>, Attention>, C, "hc_attn">,
            hyper_connection<chain<called<"ffn_norm", Norm>, FeedForward>, C, "hc_ffn">> {
  static_assert(Attention::out == FeedForward::out,
                "deepseek::hyper_block: attention and feed-forward have different widths; give "
                "both the same dim");
  template <class F>
  using with_format = hyper_block<reformatted<Attention, F>, reformatted<FeedForward, F>, C, Norm>;
};

// n copies of the input side by side.
template <index_t D, hyper_config C = hyper_config{}>
struct hyper_streams {
  static constexpr index_t out = C.streams * D;
  static constexpr const char* label = "hc_streams";

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P&, const X& x, const Y& y, K&) {
    check_hyper_config<C>();
    static_assert(width_fits<X, D>,
                  "deepseek::hyper_streams: the input's width is not the layer's; write "
                  "hyper_streams<dim> with the width of the layer before it");
    for (index_t i = 0; i < C.streams; ++i) ops::copy(c.backend, x, stream(y, i));
  }
  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P&, const X&, const DY& dy, const DX& dx, K&, G&) {
    ops::copy(c.backend, stream(dy, 0), dx);
    for (index_t i = 1; i < C.streams; ++i) ops::add(c.backend, stream(dy, i), dx);
  }

 private:
  template <class T, class S, index_t N, index_t W>
  static view<T, S, N, D> stream(const view<T, S, N, W>& v, index_t i) {
    return {v.data() + i * D * v.stride(1), {v.extent(0), D}, {v.stride(0), v.stride(1)}};
  }
};

// One row of D from n streams: sum_i pre_i X_i, pre_i = sigmoid(mu_i a + b_i) + eps.
template <index_t D, hyper_config C = hyper_config{}>
struct hyper_head {
  static constexpr index_t n = C.streams, wide = n * D, out = D;
  static constexpr const char* label = "";
  using weights = hyper_weights<n, wide, 1, "hc_head">;

  template <class Of>
  struct parts {
    using layer = hyper_head;
    each<Of, weights> hyper;
    static constexpr auto fields() { return std::tuple{named("", &parts::hyper)}; }
  };
  template <class T, class S>
  struct saved {
    view<accumulate_t<T>, S, dyn, n> mu, pre;
  };

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, K& k) {
    check_hyper_config<C>();
    static_assert(width_fits<X, wide>,
                  "deepseek::hyper_head: the input is not streams x dim wide; put it after the "
                  "last hyper_block of the same config");
    using A = accumulate_t<typename Y::value_type>;
    const scope freed(c.scratch);
    auto& memory = c.template arena_for<K>();
    auto mu = memory.template make<A, dyn, n>(x.extent(0));
    auto pre = memory.template make<A, dyn, n>(x.extent(0));
    weights::project(c, p.hyper, x, mu, C.eps);
    ops::hyper_maps(c.backend, hyper_projection{mu, p.hyper.base, p.hyper.scale},
                    hyper_map_views{pre}, mix_spec(C));
    ops::hyper_read(c.backend, as_heads<n, D>(x), pre, y);
    if constexpr (keeps_tape<K>) k.own = {mu, pre};
  }
  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k,
                       G& g) {
    using A = accumulate_t<typename DY::value_type>;
    const scope freed(c.scratch);
    auto dmu = c.scratch.template make<A, dyn, n>(x.extent(0));
    auto dpre = c.scratch.template make<A, dyn, n>(x.extent(0));
    ops::fill(c.backend, 0, dx);
    ops::hyper_read_backward(c.backend, hyper_read_views{as_heads<n, D>(x), k.own.pre}, dy,
                             hyper_read_views{as_heads<n, D>(dx), dpre});
    ops::hyper_maps_backward(c.backend, hyper_projection{k.own.mu, p.hyper.base, p.hyper.scale},
                             hyper_map_views{dpre},
                             hyper_projection{dmu, g.hyper.base, g.hyper.scale}, mix_spec(C));
    weights::project_backward(c, p.hyper, g.hyper, x, dmu, dx, C.eps);
  }
};

}  // namespace deepseek
