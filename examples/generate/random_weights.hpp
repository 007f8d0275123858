// SPDX-License-Identifier: Apache-2.0
// A model of random weights, to measure speed and memory without a checkpoint. Weights in a format
// are drawn as a plain matrix and converted, one matrix (of experts, one expert's) at a time, as a
// loader would: the plain model never exists. Uniform with the standard deviation 1 / sqrt(inputs);
// norms 1, biases 0. The numbers depend on the seed and the tensor's path alone.
#pragma once

#include <deepseek/layers/initialize.hpp>
#include <deepseek/quant/make_weight.hpp>

#include <cmath>
#include <vector>

namespace generate {

namespace ds = deepseek;

template <class B>
class weight_source {
 public:
  weight_source(const B& b, std::uint64_t seed) : b_(b), seed_(seed) {}

  // What is stored as it is.
  template <class Tensor>
  void operator()(const ds::tensor_name& at, Tensor& t) {
    using T = typename Tensor::value_type;
    if constexpr (ds::Floating<T>) {
      if (at.role == ds::field_role::state || at.start == ds::first_value::zero) return;
      if (at.start == ds::first_value::one) {
        ds::ops::fill(b_, 1, ds::view<T, ds::host, ds::dyn>(t.data(), {t.size()}));
      } else {
        fill(at.path, 0, t.view().extent(t.view().rank - 1), std::span(t.data(), size_of(t)));
      }
    }
  }
  // What is made from a plain matrix [O, I], E experts.
  template <class F, ds::index_t O, ds::index_t I, ds::index_t E, class W>
  void operator()(const ds::tensor_name& at, ds::formatted<F, O, I, E>, W& w) {
    plain_.resize(static_cast<std::size_t>(O * I));
    for (ds::index_t e = 0; e < E; ++e) {
      fill(at.path, static_cast<std::uint32_t>(e), I, std::span(plain_));
      ds::make_expert_weight(F{}, ds::view<const float, ds::host, O, I>(plain_.data(), {O, I}),
                             ds::observed_range{}, w, e);
    }
  }

 private:
  template <class Tensor>
  static std::size_t size_of(const Tensor& t) {
    return static_cast<std::size_t>(t.size());
  }

  template <class T>
  void fill(const std::string& path, std::uint32_t lane, ds::index_t inputs, std::span<T> out) {
    constexpr ds::index_t piece = 1 << 16;
    const ds::stream_key key{seed_, 0, ds::path_site(path), lane, ds::random_use::initial_values};
    const double width = std::sqrt(12.0 / static_cast<double>(inputs));
    const auto n = static_cast<ds::index_t>(out.size());
    b_.parallel((n + piece - 1) / piece, [&](ds::index_t task) {
      const ds::index_t end = std::min(n, (task + 1) * piece);
      for (ds::index_t i = task * piece; i < end; i += 4) {
        const ds::philox_words words = ds::random_block(key, static_cast<std::uint64_t>(i / 4));
        for (ds::index_t j = i; j < std::min(end, i + 4); ++j) {
          const double share =
              static_cast<double>(words[static_cast<std::uint32_t>(j - i)]) * 0x1p-32;
          out[static_cast<std::size_t>(j)] = static_cast<T>(width * (share - 0.5));
        }
      }
    });
  }

  const B& b_;
  std::uint64_t seed_;
  std::vector<float> plain_;
};

template <class B, class P>
void draw_weights(const B& b, std::uint64_t seed, P& p) {
  ds::visit_plain_at({"", ds::field_role::trained}, weight_source<B>(b, seed), p);
}

}  // namespace generate
