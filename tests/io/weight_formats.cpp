// SPDX-License-Identifier: Apache-2.0
// Weights in every format, alone and stacked, come back from a file byte for byte.
#include "deepseek/io/checkpoint.hpp"

#include "deepseek/quant/fp8_blocks.hpp"
#include "deepseek/quant/int4_groups.hpp"
#include "support/seed.hpp"
#include "support/temp_dir.hpp"

#include <doctest/doctest.h>

#include <cstring>

namespace ds = deepseek;

namespace {

// What a layer does with a weight: names it.
template <class F, class S>
struct holder {
  typename F::template weight<float, S, 40, 70> weight;
  static constexpr auto fields() { return std::tuple{ds::named("weight", &holder::weight)}; }
};

template <class F, class S, class Plain>
void expect_return(const Plain& plain) {
  holder<F, S> before, after;
  ds::make_weight(F{}, plain, {}, before.weight);
  const support::temp_dir folder;
  ds::save_parameters(folder.path() / "weights.safetensors", before);
  ds::load_parameters(folder.path() / "weights.safetensors", after);
  ds::visit(
      [](const ds::tensor_name& at, const auto& a, const auto& b) {
        CHECK_MESSAGE(std::memcmp(a.data(), b.data(),
                                  static_cast<std::size_t>(a.size()) * sizeof(a.data()[0])) == 0,
                      F::name << " " << at.path);
      },
      before, after);
}

}  // namespace

TEST_CASE_TEMPLATE("saved and loaded", F, ds::bf16_weights, ds::fp8_blocks, ds::int4_groups<32>) {
  support::numbers from("weights");
  ds::tensor<float, ds::host, 40, 70> one;
  ds::tensor<float, ds::stacked<3, ds::host>, 40, 70> three;
  for (ds::index_t i = 0; i < one.size(); ++i) one.data()[i] = static_cast<float>(from.normal());
  for (ds::index_t i = 0; i < three.size(); ++i) {
    three.data()[i] = static_cast<float>(from.normal());
  }
  expect_return<F, ds::host>(one);
  expect_return<F, ds::stacked<3, ds::host>>(three);
}
