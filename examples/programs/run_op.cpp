// SPDX-License-Identifier: Apache-2.0
// run_op CASE.safetensors OUT.safetensors: runs one op of the library on the tensors of a file and
// writes its results. __metadata__ of the case says which: op, attrs (a JSON object as text), dtype
// (f64 f32 bf16 f16 int8). All sizes are run-time values. The table is in docs/run_op.md, the rows
// are in run_op/*.cpp. The same sources compiled as CUDA, with RUN_OP_ON_DEVICE, are run_op_cuda:
// `ds::cpu` is the GPU there, over memory that both see, and run_op hands `--backend cuda` to it.
#include "program.hpp"
#include "run_op/op_rows.hpp"

#include <filesystem>

#include <unistd.h>

namespace {

using namespace run_op;

struct request {
  std::string input, output, backend = "cpu";
  int threads = 1;
};

const op_row& row_named(const std::string& name) {
  std::string known;
  for (const auto& rows :
       {attention_rows(), branch_rows(), compressed_rows(), element_rows(), expert_rows(),
        format_rows(), hyper_rows(), indexer_rows(), latent_rows(), loss_rows(), norm_rows(),
        optimizer_rows(), product_rows(), quant_rows(), router_rows(), token_rows(), weight_rows(),
        window_rows()}) {
    for (const op_row& row : rows) {
      if (row.name == name) return row;
      (known += known.empty() ? "" : " ") += row.name;
    }
  }
  ds::fail(error_code::invalid_argument, "run_op: there is no op ", ds::escaped(name),
           "; write one of ", known);
}

#if defined(RUN_OP_ON_DEVICE)
constexpr const char* other_backend = "cuda";
void hand_over(const request&, char**) {}
#else
constexpr const char* other_backend = "cpu";
// Becomes run_op_cuda, which a build with CUDA puts beside this program.
void hand_over(const request& wanted, char** argv) {
  if (wanted.backend != "cuda") return;
  const auto program = std::filesystem::canonical("/proc/self/exe").parent_path() / "run_op_cuda";
  ds::require(std::filesystem::exists(program), error_code::unsupported,
              "run_op: built without CUDA; supported backends are reference and cpu");
  execv(program.c_str(), argv);
  ds::fail(error_code::io, "run_op: ", program.string(), " cannot be started");
}
#endif

machine make_machine(const request& wanted) {
  ds::require(wanted.backend == "reference" || wanted.backend == other_backend,
              error_code::unsupported, "run_op: this program has the backends reference and ",
              other_backend, ", not ", wanted.backend);
  machine m;
  if (wanted.backend == other_backend) {
    m.threads.emplace(ds::cpu_config{.threads = wanted.threads});
  }
  return m;
}

void run(const request& wanted) {
  const machine m = make_machine(wanted);
  op_case given(wanted.input);
  const op_row& row = row_named(given.op());
  results out;
  row.run(m, given, out);
  given.require_all_used();
  out.write(wanted.output);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App arguments("Runs one op on the tensors of a safetensors file");
  request wanted;
  arguments.add_option("case", wanted.input, "safetensors file: op, attrs, dtype, tensors")
      ->required();
  arguments.add_option("out", wanted.output, "safetensors file to write")->required();
  arguments.add_option("--backend", wanted.backend, "reference, cpu or cuda")
      ->check(CLI::IsMember({"reference", "cpu", "cuda"}))
      ->capture_default_str();
  arguments.add_option("--threads", wanted.threads, "of the cpu backend")->capture_default_str();
  return program::run(arguments, argc, argv, [&] {
    hand_over(wanted, argv);
    run(wanted);
  });
}
