// SPDX-License-Identifier: Apache-2.0
// compression: what pruning, distillation and elastic weights buy and cost, measured on a small
// model of the demo's kind that learns this project's own text: bits per byte of held-out text, and
// bytes. Prints the tables of docs/compression.md. smoke: --project @source@/docs --steps 2 --more
// 1 --stride 9
#include "program.hpp"

#include "compression/nets.hpp"

#include <cstdio>

namespace {

using namespace compression;

void print(const std::vector<table_row>& rows) {
  for (const auto& r : rows) {
    std::printf("| %s | %.0f | %.3f | %.3f |\n", r.name.c_str(), r.bytes / 1000, r.before, r.after);
  }
  std::fflush(stdout);
}

// The documents whose names end like this.
demo::corpus only(const demo::corpus& from, bool prose) {
  demo::corpus out;
  for (std::size_t i = 0; i < from.names.size(); ++i) {
    if (from.names[i].ends_with(".md") != prose) continue;
    out.names.push_back(from.names[i]);
    out.train.add(from.train[i]);
    out.held.add(from.held[i]);
  }
  return out;
}

void print_tasks(const ds::cpu& b, const demo::corpus& text, const setting& s) {
  const demo::corpus code = only(text, false), prose = only(text, true);
  std::printf("| | code | prose |\n| --- | --- | --- |\n");
  for (const auto& r : tasks({b, code, s}, {b, prose, s})) {
    std::printf("| %s | %.3f | %.3f |\n", r.name.c_str(), r.old_task, r.new_task);
  }
}

void compare(const ds::cpu& b, const std::string& project, const setting& s,
             const std::string& part) {
  const std::filesystem::path folders[] = {project};
  const demo::corpus text = demo::corpus_of_folders(folders);
  demo::require_windows(text, demo::window);
  if (part == "tasks") return print_tasks(b, text, s);
  const material m{b, text, s};
  const model base = trained(m);
  std::printf("| form | kB | bits/byte | trained again |\n| --- | --- | --- | --- |\n");
  if (part == "all" || part == "weights") print(weights(m, base));
  if (part == "all" || part == "units") print(units(m, base));
  if (part == "all" || part == "teaching") print(teaching(m, base));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App arguments("What pruning, distillation and elastic weights buy and cost");
  setting s;
  std::string project = ".", part = "all";
  int threads = 2;
  arguments.add_option("--project", project, "folder whose sources and documents are learned");
  arguments.add_option("--steps", s.steps, "of training")->check(CLI::PositiveNumber);
  arguments.add_option("--more", s.more, "steps of training again")->check(CLI::PositiveNumber);
  arguments.add_option("--stride", s.stride, "measure every so many-th held-out document")
      ->check(CLI::PositiveNumber);
  arguments.add_option("--seed", s.seed, "of first values and batches");
  arguments.add_option("--threads", threads, "of the cpu backend");
  arguments.add_option("--part", part, "what to compare: all of the first three, or one")
      ->check(CLI::IsMember({"all", "weights", "units", "teaching", "tasks"}));
  return program::run(arguments, argc, argv,
                      [&] { compare(ds::cpu{{.threads = threads}}, project, s, part); });
}
