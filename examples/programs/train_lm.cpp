// SPDX-License-Identifier: Apache-2.0
// train_lm --text FILE --steps N [--seed S] [--threads T] [--save DIR --every K] [--resume DIR]
// [--hash]: trains the demo's language model. With --hash the last line is
// `hash <sha256>` over every parameter and optimizer state: equal for any number of threads, and
// for a run that was stopped and resumed. The three newest checkpoints are kept.
// smoke: --text @source@/README.md --steps 2 --hash
#include <openssl/evp.h>

#include <cstdio>
#include <thread>

#include "../demo/progress.hpp"
#include "../demo/training.hpp"
#include "program.hpp"

namespace {

using namespace demo;

struct arguments {
  std::string text, save, resume;
  ds::index_t every = 1000;
  bool hash = false;
  int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  training_settings training;

  void declare(CLI::App& app) {
    app.add_option("--text", text, "file to learn")->required();
    app.add_option("--steps", training.steps, "optimizer steps")->required();
    app.add_option("--seed", training.seed, "of first values and batches");
    app.add_option("--threads", threads, "threads; results do not depend on it");
    app.add_option("--save", save, "folder for checkpoints");
    app.add_option("--every", every, "steps between checkpoints");
    app.add_option("--resume", resume, "folder whose newest checkpoint is continued");
    app.add_flag("--hash", hash, "print a hash of every parameter and optimizer state");
  }
};

// Checkpoints of a folder, oldest first: step-00000100.safetensors, ...
std::vector<std::filesystem::path> checkpoints_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found;
  std::error_code problem;
  for (const auto& entry : std::filesystem::directory_iterator(folder, problem)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && name.ends_with(".safetensors")) found.push_back(entry.path());
  }
  ds::require(!problem, ds::error_code::io, "folder ", ds::escaped(folder.string()),
              ": cannot be listed (", problem.message(), "); check the path");
  std::ranges::sort(found);
  return found;
}

void save(training& run, const std::filesystem::path& folder) {
  constexpr std::size_t kept = 3;
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  ds::require(!problem, ds::error_code::io, "folder ", ds::escaped(folder.string()),
              ": cannot be made (", problem.message(), "); choose another");
  char name[40];
  std::snprintf(name, sizeof name, "step-%08lld.safetensors", static_cast<long long>(run.done()));
  run.save(folder / name);
  const auto all = checkpoints_in(folder);
  for (std::size_t i = 0; i + kept < all.size(); ++i) std::filesystem::remove(all[i], problem);
}

// The newest checkpoint that can be read; a damaged one is named and passed over.
void resume(training& run, const std::filesystem::path& folder) {
  const auto all = checkpoints_in(folder);
  for (auto path = all.rbegin(); path != all.rend(); ++path) {
    try {
      return run.resume(*path);
    } catch (const ds::error& problem) {
      if (problem.code() == ds::error_code::config) throw;
      std::fprintf(stderr, "passed over: %s\n", problem.what());
    }
  }
  ds::fail(ds::error_code::checkpoint_corrupt, "folder ", ds::escaped(folder.string()),
           ": no checkpoint of ", all.size(), " can be read; start without --resume");
}

std::string hash_of(training& run) {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  bool good = EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1;
  run.visit_everything([&](const std::string& name, auto& t) {
    using T = typename std::remove_cvref_t<decltype(t)>::value_type;
    good = good && EVP_DigestUpdate(context, name.data(), name.size()) == 1 &&
           EVP_DigestUpdate(context, t.data(), static_cast<std::size_t>(t.size()) * sizeof(T)) == 1;
  });
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  good = good && EVP_DigestFinal_ex(context, digest, &length) == 1;
  EVP_MD_CTX_free(context);
  ds::require(good, ds::error_code::unsupported, "hash: OpenSSL has no SHA-256 here");
  std::string hex;
  for (unsigned i = 0; i < length; ++i) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", digest[i]);
    hex += two;
  }
  return hex;
}

void train(const arguments& a) {
  ds::require(a.every >= 1, ds::error_code::invalid_argument, "--every is ", a.every,
              "; write a number >= 1");
  const corpus text = corpus_of_file(a.text);
  require_windows(text, window);
  const ds::cpu b{{.threads = a.threads}};
  training run(b, a.training);
  if (!a.resume.empty()) resume(run, a.resume);
  progress bar(a.training.steps);
  ds::index_t seen = 0;
  while (!run.finished()) {
    const ds::train_result r = run.step(text);
    bar.update(r.step, seen += r.tokens, r.loss);
    if (!a.save.empty() && (run.done() % a.every == 0 || run.finished())) save(run, a.save);
  }
  if (a.hash) std::printf("hash %s\n", hash_of(run).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Trains the demo's language model on a text file."};
  arguments a;
  a.declare(app);
  return program::run(app, argc, argv, [&] { train(a); });
}
