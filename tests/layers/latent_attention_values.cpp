// SPDX-License-Identifier: Apache-2.0
// latent_attention against its definition, both forms: the order of the weights' rows, the latent
// normed and the shared key part not, the softmax scale over nope + rope with YaRN's factor, which
// holds at the first position too.
#include "deepseek/layers/latent_attention.hpp"

#include "deepseek/pattern/band.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/golden.hpp"
#include "oracle/latent_attention.hpp"
#include "oracle/rope_scaling.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

constexpr ds::rope_scaling yarn{.kind = ds::rope_scaling_kind::yarn,
                                .factor = 40,
                                .original_length = 4096,
                                .mscale = 0.707,
                                .mscale_all_dim = 0.707};
inline constexpr ds::mla_config compressed{
    .dim = 10, .heads = 3, .q_rank = 7, .kv_rank = 6, .nope_dim = 5, .rope_dim = 4, .v_dim = 3};
inline constexpr ds::mla_config direct{.dim = 10,
                                       .heads = 3,
                                       .kv_rank = 6,
                                       .nope_dim = 5,
                                       .rope_dim = 4,
                                       .v_dim = 3,
                                       .rope = ds::rope_layout::half,
                                       .theta = 500,
                                       .scaling = yarn,
                                       .eps = 1e-3};
inline constexpr ds::mla_config without_rope{
    .dim = 10, .heads = 2, .kv_rank = 6, .nope_dim = 5, .v_dim = 3, .scale = 0.9};

template <class Tensor>
std::vector<double> all_of(const Tensor& t) {
  return support::to_double(t.data(), static_cast<std::size_t>(t.size()));
}

template <ds::mla_config C, class P>
oracle::mla_weights weights_of(const P& p) {
  oracle::mla_weights w;
  if constexpr (C.q_rank == 0) {
    w.wq = all_of(p.wq.weight);
  } else {
    w.wq_a = all_of(p.wq_a.weight);
    w.q_norm = all_of(p.q_norm.weight);
    w.wq_b = all_of(p.wq_b.weight);
  }
  w.wkv_a = all_of(p.wkv_a.weight);
  w.kv_norm = all_of(p.kv_norm.weight);
  w.wkv_b = all_of(p.wkv_b.weight);
  w.wo = all_of(p.wo.weight);
  return w;
}

template <ds::mla_config C>
oracle::mla_shape shape_of() {
  const auto u = [](ds::index_t i) { return static_cast<std::size_t>(i); };
  oracle::mla_shape s{u(C.dim), u(C.q_rank), {}, {}, C.eps};
  s.heads = {0, 0, u(C.heads), u(C.kv_rank), u(C.nope_dim), u(C.rope_dim), u(C.v_dim), C.scale};
  s.rotation.base = C.theta;
  if (C.rope == ds::rope_layout::half) s.rotation.layout = oracle::pairing::half;
  double g = 1;
  if (C.scaling.kind == ds::rope_scaling_kind::yarn) {
    s.rotation.frequencies = oracle::yarn_table(C.theta, u(C.rope_dim), {40, 32, 1, 4096});
    g = 0.1 * 0.707 * std::log(40.0) + 1;
  }
  if (C.scale == 0) s.heads.scale = g * g / std::sqrt(static_cast<double>(C.nope_dim + C.rope_dim));
  return s;
}

template <ds::mla_config C, class B>
void check(const B& b) {
  layer_test::trial<ds::latent_attention<C, ds::causal>, double> t;
  // Norm weights away from one.
  for (ds::index_t i = 0; i < C.kv_rank; ++i) t.p.kv_norm.weight.data()[i] = 0.5 + 0.2 * double(i);
  rows_of<double, 10> x(9);
  const auto r = oracle::mla(x.values(), weights_of<C>(t.p), shape_of<C>(), oracle::causal(9, 9));
  for (const auto form : {ds::latent_form::naive, ds::latent_form::absorbed}) {
    const auto y = t.forward(b, x.view(), {.latent = form});
    double error = 0, size = 0;
    for (std::size_t i = 0; i < r.size(); ++i) {
      error += (y[i] - r[i]) * (y[i] - r[i]);
      size += r[i] * r[i];
    }
    CHECK(std::sqrt(error / size) < 1e-12);
  }
}

// Weights that keep scores near one: neither a choice of one key nor a mean of all.
template <class Net>
layer_test::trial<Net, double> even_trial() {
  layer_test::trial<Net, double> t;
  ds::initialize(ds::scaled_init{.gain = 1, .seed = 5}, t.p);
  return t;
}

template <class Net>
std::vector<double> absorbed_minus_naive(ds::index_t n) {
  const ds::cpu b;
  const auto t = even_trial<Net>();
  rows_of<double, Net::out> x(n);
  auto y = t.forward(b, x.view(), {.latent = ds::latent_form::naive});
  const auto z = t.forward(b, x.view(), {.latent = ds::latent_form::absorbed});
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = (y[i] - z[i]) / (1 + std::fabs(y[i]));
  return y;
}

}  // namespace

TEST_CASE_TEMPLATE("latent_attention layer: the definition, both forms", B, ds::reference,
                   ds::cpu) {
  const B b{};
  check<compressed>(b);
  check<direct>(b);
  check<without_rope>(b);
}

TEST_CASE("latent_attention layer: absorbed equals naive at 1e-12, V2-Lite's head sizes") {
  static constexpr ds::mla_config lite{.dim = 64,
                                       .heads = 2,
                                       .kv_rank = 512,
                                       .nope_dim = 128,
                                       .rope_dim = 64,
                                       .v_dim = 128,
                                       .scaling = yarn};
  for (double e : absorbed_minus_naive<ds::latent_attention<lite, ds::causal>>(70)) {
    CHECK(std::fabs(e) < 1e-12);
  }
  for (double e : absorbed_minus_naive<ds::latent_attention<without_rope, ds::sliding<4>>>(70)) {
    CHECK(std::fabs(e) < 1e-12);
  }
}

namespace {
constexpr ds::mla_config with(double mscale, double scale) {
  ds::mla_config c{
      .dim = 24, .heads = 1, .kv_rank = 512, .nope_dim = 128, .rope_dim = 64, .v_dim = 8};
  if (mscale > 0) {
    c.scaling = yarn;
    c.scaling.mscale = c.scaling.mscale_all_dim = mscale;
  }
  c.scale = scale;
  return c;
}
template <ds::mla_config C>
std::vector<double> last_row(ds::latent_form form) {
  const auto t = even_trial<ds::latent_attention<C, ds::causal>>();
  rows_of<double, 24> x(5);
  const auto y = t.forward(ds::cpu{}, x.view(), {.latent = form});
  return {y.end() - 24, y.end()};
}
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(error / size);
}
}  // namespace

TEST_CASE("latent_attention layer: the softmax scale is 192^-1/2 g^2, never 576^-1/2") {
  namespace golden = oracle::golden::yarn;
  for (const auto form : {ds::latent_form::naive, ds::latent_form::absorbed}) {
    const auto v2 = last_row<with(0.707, 0)>(form), v3 = last_row<with(1, 0)>(form);
    CHECK(distance(v2, last_row<with(0.707, golden::v2_scale)>(form)) < 1e-8);
    CHECK(distance(v3, last_row<with(1, golden::v3_scale)>(form)) < 1e-8);
    CHECK(distance(last_row<with(0, 0)>(form), last_row<with(0, golden::plain_scale)>(form)) <
          1e-8);
    CHECK(distance(v3, v2) > 1e-3);
    CHECK(distance(v3, last_row<with(1, golden::plain_scale)>(form)) > 1e-3);
    CHECK(distance(v3, last_row<with(1, 0.0416666667)>(form)) > 1e-3);
  }
}
