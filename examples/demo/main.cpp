// SPDX-License-Identifier: Apache-2.0
// Trains a small language model of DeepSeek-V3's kind on the bytes of real text, by default on this
// project's own sources and documents, on the CPU or a GPU. Then, on the CPU, shrinks it to int8,
// measures both, with and without speculative decoding, and lets it write. smoke: --steps 3 --text
// @source@/README.md
#include <cstdio>
#include <thread>

#include "../programs/program.hpp"
#include "byte_models.hpp"
#include "full.hpp"
#include "loss_curve.hpp"
#include "on_cuda.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "small.hpp"
#include "training.hpp"
#include "xz.hpp"

namespace {

using namespace demo;

struct arguments {
  std::string text, project = ".", save, load, curve = "demo_loss.svg";
  std::string prompt = "template <class ", backend = "cpu";
  int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  training_settings training;

  void declare(CLI::App& app) {
    app.add_option("--text", text, "learn this file instead of the project's own text");
    app.add_option("--project", project, "folder whose sources and documents are learned");
    app.add_option("--steps", training.steps, "optimizer steps");
    app.add_option("--seed", training.seed, "of first values and batches");
    app.add_option("--backend", backend, "where to train: cpu or cuda")
        ->check(CLI::IsMember({"cpu", "cuda"}));
    app.add_option("--threads", threads, "threads; results do not depend on it");
    app.add_option("--save", save, "write the trained model to this file (safetensors)");
    app.add_option("--load", load, "load a model instead of training");
    app.add_option("--curve", curve, "where the picture of the loss goes (SVG)");
    app.add_option("--prompt", prompt, "what the sample begins with");
  }
};

corpus read_corpus(const arguments& a) {
  const std::filesystem::path folders[] = {a.project};
  corpus text = a.text.empty() ? corpus_of_folders(folders) : corpus_of_file(a.text);
  require_windows(text, window);
  return text;
}

// Trains to the end, drawing a bar; notes the loss for the picture.
void train(const ds::cpu& b, const arguments& a, const corpus& text, training& run,
           loss_curve& curve, figures& out) {
  constexpr int validations = 8;
  progress bar(a.training.steps);
  const auto start = std::chrono::steady_clock::now();
  double looking = 0;  // seconds of validation, not of training
  while (!run.finished()) {
    const ds::train_result r = run.step(text);
    out.train_tokens += r.tokens;
    curve.training.push_back({static_cast<double>(r.step), r.loss / std::log(2.0)});
    if (r.step * validations / a.training.steps != (r.step - 1) * validations / a.training.steps) {
      const auto pause = std::chrono::steady_clock::now();
      curve.validation.push_back(
          {static_cast<double>(r.step), held_bits_per_byte(b, run.net(), text, 8)});
      looking += seconds_since(pause);
    }
    bar.update(r.step, out.train_tokens, r.loss);
  }
  out.train_seconds = seconds_since(start) - looking;
}

// The same on a GPU; the held-out text is looked at when it is done.
void train_there(const arguments& a, const corpus& text, training& run, loss_curve& curve,
                 figures& out) {
  progress bar(a.training.steps);
  const auto start = std::chrono::steady_clock::now();
  train_on_cuda(a.training, text.train, run.net().parameters(), [&](const ds::train_result& r) {
    out.train_tokens += r.tokens;
    curve.training.push_back({static_cast<double>(r.step), r.loss / std::log(2.0)});
    bar.update(r.step, out.train_tokens, r.loss);
  });
  out.train_seconds = seconds_since(start);
}

void demonstrate(const arguments& a) {
  const corpus text = read_corpus(a);
  const ds::cpu b{{.threads = a.threads}};
  training run(b, a.training);
  figures out;
  out.parameters = ds::parameter_count(run.net().parameters());
  out.active_parameters = active_parameters(run.net());
  print_model(run.net(), text);
  std::printf("machine   %s, %d threads\n\n", std::string(ds::simd::instruction_set()).c_str(),
              a.threads);
  std::fflush(stdout);

  out.bpb_before = held_bits_per_byte(b, run.net(), text);
  out.bpb_order0 = byte_model(text.train, 0).bits_per_byte(text.held);
  out.bpb_order2 = byte_model(text.train, 2).bits_per_byte(text.held);
  out.bpb_xz = xz_bits_per_byte(text);
  if (a.load.empty()) {
    loss_curve curve;
    if (a.backend == "cuda") {
      train_there(a, text, run, curve, out);
    } else {
      train(b, a, text, run, curve, out);
    }
    curve.baselines = {
        {"order 0", out.bpb_order0}, {"order 2", out.bpb_order2}, {"xz", out.bpb_xz}};
    write_loss_curve(a.curve, curve);
    std::printf("loss curve: %s\n\nshare of the tokens that each expert got\n", a.curve.c_str());
    print_expert_load(run.net());
  } else {
    ds::load_parameters(a.load, run.net().parameters());
  }
  if (!a.save.empty()) ds::save_parameters(a.save, run.net().parameters());

  out.bpb = held_bits_per_byte(b, run.net(), text);
  out.weight_bytes = ds::parameter_bytes(run.net().parameters());
  out.fp32 = full_speed(b, run.net(), text);
  out.drafts = full_speculation(b, run.net(), a.prompt);
  const small_figures small = measure_small(b, run.net(), text, {a.prompt, 400, a.training.seed});
  out.bpb_int8 = small.bpb;
  out.weight_bytes_int8 = small.bytes;
  out.int8 = small.how_fast;
  out.drafts_int8 = small.drafts;
  print_figures(out);
  std::printf("\nthe int8 model writes, after \"%s\":\n%s%s\n\n", a.prompt.c_str(),
              a.prompt.c_str(), small.sample.c_str());
  std::printf("%s\n", json_line(out).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Trains a small mixture-of-experts language model and shows what became of it."};
  arguments a;
  a.declare(app);
  return program::run(app, argc, argv, [&] { demonstrate(a); });
}
