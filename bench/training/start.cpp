// SPDX-License-Identifier: Apache-2.0
// training_start FILE: writes what another library needs to make the same training steps
// (safetensors): the parameters before the first one, "batches" [batches, inputs and targets,
// tokens], and "losses" [steps, 3] of ours: loss, loss of the drafts, norm of the gradient.
#include "training_run.hpp"

#include <deepseek/io/checkpoint.hpp>

#include <cstdio>

namespace {

using namespace bench;
using run = training_run<ds::cpu>;

auto text_of(const run& from) {
  const index_t tokens = from.batch(0).input_view().extent(0);
  ds::tensor<std::int32_t, ds::host, ds::dyn, ds::dyn, ds::dyn> text({run::batches, 2, tokens});
  std::int32_t* to = text.data();
  for (index_t i = 0; i < run::batches; ++i) {
    to = std::copy(from.batch(i).inputs.begin(), from.batch(i).inputs.end(), to);
    to = std::copy(from.batch(i).targets.begin(), from.batch(i).targets.end(), to);
  }
  return text;
}

auto losses_of(run& trained, index_t steps) {
  ds::tensor<double, ds::host, ds::dyn, ds::dyn> all({steps, 3});
  for (double* to = all.data(); steps > 0; --steps) {
    const ds::train_result r = trained.step();
    for (const double value : {r.loss, r.draft_loss, r.norm}) *to++ = value;
  }
  return all;
}

void write(const char* path) {
  const ds::cpu b{{.threads = 2}};
  const run start(b, demo::window);
  run trained(b, demo::window);
  const auto text = text_of(start);
  const auto losses = losses_of(trained, 3 * run::batches);
  ds::checkpoint_writer file;
  file.add_parameters("model", start.parameters());
  file.add("batches", text);
  file.add("losses", losses);
  file.write(path);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return std::fputs("usage: training_start FILE\n", stderr), 2;
  try {
    write(argv[1]);
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "training_start: %s\n", error.what()), 1;
  }
}
