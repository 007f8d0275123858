// SPDX-License-Identifier: Apache-2.0
// The numbers of a config that is a template argument, read at run time. clang 14 reads members of
// such an object at the wrong place where an enum of 4 bytes stands before a double beside a nested
// struct: what a config holds there has 8 bytes.
#include "deepseek/deepseek.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

template <ds::rope_scaling C>
void check_scaling(double factor) {
  CHECK(C.factor == factor);
  CHECK(C.low == 1);
  CHECK(C.beta_fast == 32);
  CHECK(C.mscale == 0);
}
template <ds::mla_config C>
void check_latent() {
  CHECK(C.v_dim == 8);
  CHECK(C.theta == 5e5);
  CHECK(C.eps == 1e-5);
  CHECK(C.scale == 0.25);
  CHECK(C.form == ds::latent_form::absorbed);
  check_scaling<C.scaling>(4);
}
template <ds::dsa_config C>
void check_sparse() {
  CHECK(C.loss_weight == 0.5);
  CHECK(C.latents == ds::row_precision::fp8);
  check_latent<C.attention>();
}
template <ds::attention_config C>
void check_attention() {
  CHECK(C.theta == 5e5);
  check_scaling<C.scaling>(4);
}
template <ds::compressed_attention_config C>
void check_compressed() {
  CHECK(C.theta == 5e5);
  CHECK(C.eps == 1e-5);
  check_scaling<C.scaling>(4);
}
template <ds::moe_config C>
void check_moe() {
  CHECK(C.balance == 0.5);
  CHECK(C.importance == 0.25);
  CHECK(C.z_loss == 0.125);
  CHECK(C.capacity.factor == 1.5);
  CHECK(C.devices.count == 1);
}
template <ds::gate_config C>
void check_gate() {
  CHECK(C.scale == 2.5);
  CHECK(C.bias_step == 0.5);
}
template <ds::norm_config C>
void check_norm() {
  CHECK(C.eps == 1e-5);
}
template <ds::dropout_config C>
void check_dropout() {
  CHECK(C.rate == 0.25);
}

constexpr ds::rope_scaling linear{.kind = ds::rope_scaling_kind::linear, .factor = 4};
constexpr ds::mla_config latent{.dim = 16,
                                .heads = 2,
                                .kv_rank = 8,
                                .nope_dim = 8,
                                .rope_dim = 4,
                                .v_dim = 8,
                                .theta = 5e5,
                                .scaling = linear,
                                .eps = 1e-5,
                                .scale = 0.25,
                                .form = ds::latent_form::absorbed};

}  // namespace

TEST_CASE("configs as template arguments keep their numbers") {
  check_latent<latent>();
  check_sparse<ds::dsa_config{
      .attention = latent, .loss_weight = 0.5, .latents = ds::row_precision::fp8}>();
  check_attention<ds::attention_config{.dim = 8, .heads = 2, .theta = 5e5, .scaling = linear}>();
  check_compressed<ds::compressed_attention_config{
      .dim = 8, .theta = 5e5, .scaling = linear, .eps = 1e-5}>();
  check_moe<ds::moe_config{.dim = 8,
                           .balance = 0.5,
                           .importance = 0.25,
                           .z_loss = 0.125,
                           .capacity = {.factor = 1.5}}>();
  check_gate<ds::gate_config{.scale = 2.5, .bias_step = 0.5}>();
  check_norm<ds::norm_config{.eps = 1e-5}>();
  check_dropout<ds::dropout_config{.rate = 0.25}>();
}
