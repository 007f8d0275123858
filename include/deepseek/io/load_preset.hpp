// SPDX-License-Identifier: Apache-2.0
// load_preset<config, T, Format>(backend, directory): the model of a model_config from a folder
// whose config.json says the same; weights in Format (plain: as elements of T).
//   auto m = ds::load_preset<ds::v2_lite, float, ds::int4_groups<32>>(cpu, directory);
// Errors: those of check_model and load_model.
#pragma once

#include "deepseek/io/load_checkpoint.hpp"
#include "deepseek/io/model_check.hpp"
#include "deepseek/models/preset.hpp"

namespace deepseek {

template <class Net, class F>
struct loaded_net {
  using type = quantized<Net, F>;
};
template <class Net>
struct loaded_net<Net, plain> {
  using type = Net;
};

template <model_config C, class T, class F = plain, class B>
auto load_preset(const B& b, const checkpoint_directory& from, const load_options& options = {}) {
  check_model(from, C);
  return load_model<typename loaded_net<typename preset<C>::net, F>::type, T>(b, from, options);
}

}  // namespace deepseek
