// SPDX-License-Identifier: Apache-2.0
// The training run that the demo and train_lm share: the same seed and text give the same bits,
// whatever the number of threads, and whether or not the run was interrupted and resumed.
#pragma once

#include <deepseek/io.hpp>

#include <memory>

#include "batches.hpp"
#include "language_model.hpp"

namespace demo {

class training {
 public:
  training(const ds::cpu& b, const training_settings& settings)
      : settings_(settings),
        model_(b, ds::scaled_init{.gain = 1, .seed = settings.seed}),
        trainer_(b, model_, optimizer_rule(), learning_rate(settings), trainer_settings(settings)) {
    ds::require(settings.steps >= 1, ds::error_code::invalid_argument, "training: ", settings.steps,
                " steps; write a number >= 1");
  }
  training(const training&) = delete;
  training& operator=(const training&) = delete;

  model& net() { return model_; }
  ds::index_t done() { return trainer_.optimizer().steps(); }
  bool finished() { return done() >= settings_.steps; }

  // One optimizer step on the batch of its number.
  ds::train_result step(const corpus& text) {
    draw_batch(text.train, settings_.seed, static_cast<std::uint32_t>(done()), settings_.windows,
               batch_);
    return *trainer_.micro_step(batch_.input_view(), batch_.target_view(), batch_.sequences());
  }

  // f(name, tensor) for everything that the next step depends on.
  template <class F>
  void visit_everything(F&& f) {
    ds::visit([&](const ds::tensor_name& at, auto& t) { f("model." + at.path, t); },
              model_.parameters());
    trainer_.optimizer().visit_state(
        [&](const std::string& name, auto& t) { f("optimizer." + name, t); });
  }
  void save(const std::filesystem::path& path) {
    ds::checkpoint_writer file;
    file.set("step", std::to_string(done()));
    file.set("settings", settings_text());
    visit_everything([&](const std::string& name, auto& t) { file.add(name, t); });
    file.write(path);
  }
  // The run must have been started with the same settings.
  void resume(const std::filesystem::path& path) {
    ds::checkpoint_reader file(path);
    const std::string found = file.get("settings");
    ds::require(found == settings_text(), ds::error_code::config,
                "training: the checkpoint was made with ", ds::escaped(found), ", this run has ",
                ds::escaped(settings_text()), "; resume with the same settings");
    visit_everything([&](const std::string& name, auto& t) { file.read(name, t); });
    file.require_nothing_left();
    trainer_.optimizer().set_steps(std::stol(file.get("step")));
  }

 private:
  std::string settings_text() const {
    return "steps " + std::to_string(settings_.steps) + " seed " + std::to_string(settings_.seed) +
           " windows " + std::to_string(settings_.windows) + " peak " +
           std::to_string(settings_.peak);
  }

  training_settings settings_;
  model model_;
  ds::trainer<model, ds::cpu, ds::adamw, ds::warmup_cosine> trainer_;
  batch batch_;
};

}  // namespace demo
