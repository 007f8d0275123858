// SPDX-License-Identifier: Apache-2.0
// model_table: trains a small language model on the bytes of the project's text once for each
// attention kind, puts the first of them into every weight format and pruning form, and writes what
// each costs and gives as a Markdown page. The rows stand in CMakeLists.txt.
#include <cstdio>
#include <fstream>
#include <thread>

#include "measure.hpp"
#include "programs/program.hpp"

namespace model_table {

std::vector<attention_row>& attention_rows() {
  static std::vector<attention_row> rows;
  return rows;
}
std::vector<format_row>& format_rows() {
  static std::vector<format_row> rows;
  return rows;
}

namespace {

struct arguments {
  std::string project = ".", out = "docs/table.md";
  int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  ds::index_t steps = 150;
  std::size_t stride = 10;
};

std::string line(const std::string& name, const figures& f, bool trained) {
  char text[256];
  std::snprintf(text, sizeof text, "| %s | %.3f | %lld | %.0f | %.0f |", name.c_str(),
                f.bits_per_byte, static_cast<long long>(f.bytes), f.prefill, f.decode);
  std::string out = text;
  if (trained) {
    std::snprintf(text, sizeof text, " %.0f |", f.training);
    out += text;
  }
  std::printf("%s\n", out.c_str());
  std::fflush(stdout);
  return out + "\n";
}

const char* const plain_head =
    " | bits per byte | weight bytes | prefill tokens/s | decode tokens/s |";

template <class Rows>
void in_order(Rows& rows) {
  std::sort(rows.begin(), rows.end(),
            [](const auto& a, const auto& b) { return a.index < b.index; });
}

std::string page(const arguments& a, const run& r) {
  std::string out =
      "# What each attention, format and pruning costs\n\nMade by `make table`: a model of two "
      "layers of width 96 with 8 experts, 2 of them active, trained for " +
      std::to_string(a.steps) +
      " steps of 2048 bytes on this project's text; bits per byte of text that training never saw. "
      "Same seed, batches and steps in every row, so differences below 0.02 say little. Tokens per "
      "second: best of five rounds, " +
      std::to_string(a.threads) + " threads, " + std::string(ds::simd::instruction_set()) +
      ", a context of 256; sparse patterns pay off at longer ones.\n\n## Attention, fp32\n\n" +
      "| attention" + plain_head + " training tokens/s |\n| --- | --- | --- | --- | --- | --- |\n";
  figures f;
  const auto base = trained_base(r, f);
  out += line("all keys before", f, true);
  for (const auto& row : attention_rows()) out += line(row.name, row.measure(r), true);

  out += "\n## Weight formats of the first\n\n";
  out += std::string("| format") + plain_head + "\n| --- | --- | --- | --- | --- |\n";
  out += line("fp32", f, false);
  for (const auto& row : format_rows()) out += line(row.name, row.measure(r, *base), false);

  out +=
      "\n## Pruning forms of the first, without training after\n\nZeros are stored like other "
      "weights here, so bytes and speed stay.\n\n";
  out += std::string("| pruned") + plain_head + "\n| --- | --- | --- | --- | --- |\n";
  for (const auto& row : pruning_rows()) {
    base_model pruned(r.backend);
    pruned.parameters() = base->parameters();
    row.prune(r, r.backend, pruned);
    out += line(row.name, measured_base(r, pruned), false);
  }
  return out;
}

void make(const arguments& a) {
  const std::filesystem::path folders[] = {a.project};
  const demo::corpus text = demo::corpus_of_folders(folders);
  demo::require_windows(text, demo::window);
  const ds::cpu b{{.threads = a.threads}};
  in_order(attention_rows());
  in_order(format_rows());
  const std::string table = page(a, {b, text, a.steps, a.stride});
  std::ofstream file(a.out);
  file << table;
  file.close();
  ds::require(file.good(), ds::error_code::io, "model_table: ", ds::escaped(a.out),
              " cannot be written; check the path and the permissions");
}

}  // namespace
}  // namespace model_table

int main(int argc, char** argv) {
  CLI::App app("Trains small models and writes a table of their figures");
  model_table::arguments a;
  app.add_option("--project", a.project, "folder whose sources and documents are learned");
  app.add_option("--out", a.out, "the page to write");
  app.add_option("--steps", a.steps, "optimizer steps of each model")->check(CLI::PositiveNumber);
  app.add_option("--threads", a.threads, "threads; figures but speed do not depend on it");
  app.add_option("--stride", a.stride, "measure every so many held-out documents")
      ->check(CLI::PositiveNumber);
  return program::run(app, argc, argv, [&] { model_table::make(a); });
}
