// SPDX-License-Identifier: Apache-2.0
// The runner of one model type: a preset's net with its linear layers in a format, on the cpu.
#pragma once

#include <deepseek/deepseek.hpp>
#include <deepseek/io.hpp>
#include <deepseek/serve.hpp>

#include "random_weights.hpp"
#include "runner.hpp"

namespace generate {

// The formats by their names on the command line.
template <class Format>
struct in_format {
  template <class Net>
  struct net : ds::quantized<Net, Format> {};
};
namespace formats {
using f32 = in_format<ds::packed<ds::cpu>>;
using bf16 = in_format<ds::bf16_weights>;
using int8 = in_format<ds::w8a8_per_token>;
using int4 = in_format<ds::int4_activations<32>>;
using fp8 = in_format<ds::fp8_blocks>;
}  // namespace formats

template <ds::model_config Config, class Form>
class runner_of final : public runner {
 public:
  using plain = typename ds::preset<Config>::net;
  using net = typename Form::template net<plain>;

  explicit runner_of(int threads) : cpu_({.threads = threads}), model_(cpu_) {}

  void load(const ds::checkpoint_directory& from) override {
    ds::fill_parameters(from, model_.parameters(), {.elements = ds::conversion::rounded});
  }
  void draw(std::uint64_t seed) override { draw_weights(cpu_, seed, model_.parameters()); }

  ds::generation run(std::span<const std::int32_t> prompt, const ds::generate_options& options,
                     const token_sink& sink) override {
    const ds::view<const std::int32_t, ds::host, ds::dyn> ids(
        prompt.data(), {static_cast<ds::index_t>(prompt.size())});
    return ds::generate(cpu_, model_, ids, options, sink);
  }

  ds::index_t weight_bytes() const override { return ds::parameter_bytes(model_.parameters()); }
  ds::index_t parameters() const override { return ds::parameter_count<plain>(); }
  ds::index_t active_parameters() const override { return ds::active_parameter_count<plain>(); }
  ds::index_t cache_bytes_per_token() const override {
    return ds::cache_bytes_per_token<plain, float>();
  }

 private:
  ds::cpu cpu_;
  ds::model<net, float, ds::cpu> model_;
};

}  // namespace generate
