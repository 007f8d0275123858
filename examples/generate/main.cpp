// SPDX-License-Identifier: Apache-2.0
// generate DIR "prompt": loads a checkpoint folder in the Hugging Face layout (config.json,
// safetensors, tokenizer.json), writes what the model says as it says it, and, at the end, tokens
// per second and memory. --quantize int8|int4|fp8 converts the weights while they are read.
// --random PRESET: no folder, a model of random weights, to measure speed and memory.
// smoke: --random tiny_v3 --prompt-tokens 5 --tokens 3 --quantize int4
#include <sys/resource.h>

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <optional>
#include <thread>

#include <deepseek/io/chat.hpp>
#include <deepseek/io/tokenizer.hpp>

#include "../programs/program.hpp"
#include "choose.hpp"

namespace {

namespace ds = deepseek;
using namespace generate;

struct arguments {
  std::string folder, prompt, random, format = "bf16", chat;
  int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  ds::index_t prompt_tokens = 64;
  ds::generate_options options{.tokens = 256, .sampling = {.temperature = 0}};

  void declare(CLI::App& app) {
    app.add_option("folder", folder, "folder of the checkpoint");
    app.add_option("prompt", prompt, "what the text begins with; with --chat, what is asked");
    app.add_option("--quantize", format, "format of the weights")
        ->check(CLI::IsMember({"f32", "bf16", "int8", "int4", "fp8"}));
    app.add_option("--chat", chat, "ask as the model was trained to be asked")
        ->check(CLI::IsMember({"llm", "coder", "v3", "r1"}));
    app.add_option("--tokens", options.tokens, "new tokens at most");
    app.add_option("--context", options.capacity, "positions of the cache; 0: as needed");
    app.add_option("--temperature", options.sampling.temperature, "0: the most likely token");
    app.add_option("--top-k", options.sampling.top_k, "0: all");
    app.add_option("--top-p", options.sampling.top_p, "in (0, 1]");
    app.add_option("--seed", options.sampling.seed, "of the sampling, and of --random");
    app.add_option("--threads", threads, "threads; the text does not depend on it");
    app.add_option("--random", random, "a preset with random weights instead of a folder");
    app.add_option("--prompt-tokens", prompt_tokens, "length of the prompt of --random");
  }
};

ds::chat_format chat_format_of(const std::string& name) {
  if (name == "llm") return ds::chat_format::deepseek_llm;
  if (name == "coder") return ds::chat_format::deepseek_coder;
  return name == "v3" ? ds::chat_format::deepseek_v3 : ds::chat_format::deepseek_r1;
}

double seconds_of(const auto& work) {
  double seconds = 0;
  ds::timed(seconds, work);
  return seconds;
}

double mebibytes(ds::index_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

double per_second(ds::index_t tokens, double seconds) {
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

// To standard error: standard output is the text.
void print_figures(const runner& model, const ds::generation& done, double load_seconds) {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  std::fprintf(
      stderr,
      "\nweights   %.1f MiB, made in %.1f s; %.2f of %.2f billion parameters meet a token\n"
      "cache     %lld bytes a token\n"
      "memory    %.1f MiB at most\n"
      "prefill   %lld tokens, %.2f tokens/s\n"
      "decode    %lld tokens, %.2f tokens/s\n",
      mebibytes(model.weight_bytes()), load_seconds,
      static_cast<double>(model.active_parameters()) * 1e-9,
      static_cast<double>(model.parameters()) * 1e-9,
      static_cast<long long>(model.cache_bytes_per_token()),
      static_cast<double>(used.ru_maxrss) / 1024, static_cast<long long>(done.prompt_tokens),
      per_second(done.prompt_tokens, done.prefill_seconds), static_cast<long long>(done.new_tokens),
      per_second(done.new_tokens - 1, done.decode_seconds));
}

// The prompt's ids; a plain prompt begins with the model's first token, if it has one.
std::vector<std::int32_t> prompt_ids(const arguments& a, const ds::tokenizer& tokenizer,
                                     const ds::model_config& config) {
  if (!a.chat.empty()) {
    return ds::prompt_ids(tokenizer,
                          ds::chat(chat_format_of(a.chat), {{ds::chat_role::user, a.prompt}}));
  }
  std::vector<std::int32_t> ids{static_cast<std::int32_t>(config.bos)};
  const auto text = tokenizer.encode(a.prompt);
  ids.insert(ids.end(), text.begin(), text.end());
  return ids;
}

void run_folder(const arguments& a) {
  const std::filesystem::path folder = a.folder;
  const ds::checkpoint_directory from(folder);
  ds::require(from.config().has_value(), ds::error_code::io, "generate: ", from.name(),
              " has no config.json; pass the folder of a checkpoint");
  const auto models = built_in_models();
  const auto& form = find_model(models, preset_of(models, *from.config(), from.name()), a.format);
  const auto tokenizer = ds::tokenizer::load(folder / "tokenizer.json");
  tokenizer.check_rows(form.config->vocabulary);
  const auto ids = prompt_ids(a, tokenizer, *form.config);

  const auto model = form.make(a.threads);
  const double load_seconds = seconds_of([&] { model->load(from); });
  ds::token_stream text(tokenizer, ds::special_tokens::drop);
  if (a.chat.empty()) std::cout << a.prompt << std::flush;
  const auto done = model->run(ids, a.options, [&](std::int32_t id) {
    if (id == form.config->eos) return false;
    // Models have more rows than tokens: those of the padding stand for no text.
    if (id < tokenizer.size()) std::cout << text.push(id) << std::flush;
    return std::cout.good();
  });
  std::cout << text.finish() << std::endl;
  print_figures(*model, done, load_seconds);
}

void run_random(const arguments& a) {
  ds::require(a.prompt_tokens > 0, ds::error_code::invalid_argument, "generate: a prompt of ",
              a.prompt_tokens, " tokens; write a number > 0");
  const auto models = built_in_models();
  const auto& form = find_model(models, a.random, a.format);
  const auto model = form.make(a.threads);
  const double load_seconds = seconds_of([&] { model->draw(a.options.sampling.seed); });
  std::vector<std::int32_t> ids;
  for (ds::index_t i = 0; i < a.prompt_tokens; ++i) {
    ids.push_back(static_cast<std::int32_t>((i * 7919 + 1) % form.config->vocabulary));
  }
  const auto done = model->run(ids, a.options, [](std::int32_t) { return true; });
  print_figures(*model, done, load_seconds);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Loads a checkpoint folder and writes on from a prompt."};
  arguments a;
  a.declare(app);
  return program::run(app, argc, argv, [&] {
    if (!a.random.empty()) return run_random(a);
    ds::require(!a.folder.empty(), ds::error_code::invalid_argument,
                "generate: no folder; pass that of a checkpoint, or --random PRESET");
    run_folder(a);
  });
}
