# SPDX-License-Identifier: Apache-2.0
# What people type. Thin: each target says in a few lines what CMake is asked to do.
#   BUILD=folder  JOBS=n  CUDA=1  PREFIX=folder  DESTDIR=folder  ARGS="arguments of the demo"
#   BENCH_MIN_TIME=s  BENCH_REPETITIONS=n  (bench/README.md)
BUILD ?= build
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PREFIX ?= /usr/local
PACKAGES ?= cmake/packages.sh
TESTS_PER_PROGRAM ?= 6
CONFIGURE = cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DDEEPSEEK_CUDA=$(if $(filter 1 ON,$(CUDA)),ON,OFF) \
  $(if $(shell command -v ccache),-DCMAKE_CXX_COMPILER_LAUNCHER=ccache) $(CMAKE_FLAGS) --log-level=NOTICE
COMPILE = cmake --build $(BUILD) --parallel $(JOBS) --target

.PHONY: help demo test programs examples table bench bench-report bench-peers peers-report cuda gpu-test gpu-programs gpu-bench install format docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo          train, quantize and sample a small language model, 4 to 9 minutes"
	@echo "make test          build and run all tests and guards"
	@echo "make programs      build/bin/{run_op,train_lm,inspect,tokenize,generate}; CUDA=1 for CUDA too"
	@echo "make examples      the numbered examples, the demo and the programs"
	@echo "make table         train small models, write docs/table.md: attention kinds, formats, pruning"
	@echo "make bench         build and run the benches, then write the report"
	@echo "make bench-report  write the report from the last run"
	@echo "make bench-peers   ours beside OpenBLAS, oneDNN, Eigen and others, half an hour and more"
	@echo "make cuda          compile the CUDA kernels, judge their registers, link, in $(BUILD)-cuda"
	@echo "make gpu-test      on a machine with a GPU: all device tests, compute-sanitizer, a report"
	@echo "make gpu-programs  what gpu-test runs, built without a GPU, as an archive to carry"
	@echo "make gpu-bench     there: our kernels beside PyTorch's, one page"
	@echo "make install       the headers and the CMake package, to PREFIX ($(PREFIX))"
	@echo "make format        clang-format on all sources"
	@echo "make docs          check links and paths in the documents"
	@echo "make clean         remove $(BUILD)"
	@echo "demo and test install missing packages with apt-get (as root or through sudo)"

demo:
	@$(PACKAGES) demo
	@$(CONFIGURE)
	@$(COMPILE) demo
	@$(BUILD)/bin/demo $(ARGS)

# Every step is tried; the last line on standard output is the JSON line of the summary. Tests share
# programs, for that compiles faster from nothing; TESTS_PER_PROGRAM=1 is for work on one of them.
test:
	@$(PACKAGES) test
	@$(CONFIGURE) -DDEEPSEEK_TESTS_PER_PROGRAM=$(TESTS_PER_PROGRAM)
	@$(COMPILE) tests
	@rm -rf $(BUILD)/reports && mkdir -p $(BUILD)/reports
	@status=0; reports=$$(cd $(BUILD)/reports && pwd); \
	ctest --test-dir $(BUILD) --parallel $(JOBS) --output-on-failure --no-tests=error \
	  --output-junit $$reports/ctest.xml || status=1; \
	python3 tests/guards/summary.py $$reports include/deepseek/ops || status=1; \
	exit $$status

programs:
	@$(PACKAGES) programs
	@$(CONFIGURE)
	@$(COMPILE) programs

examples:
	@$(PACKAGES) test
	@$(CONFIGURE)
	@$(COMPILE) examples

table:
	@$(PACKAGES) programs
	@$(CONFIGURE)
	@$(COMPILE) model_table
	@$(BUILD)/bin/model_table $(ARGS)

bench:
	@$(PACKAGES) bench
	@$(CONFIGURE) -DDEEPSEEK_BENCH=ON
	@$(COMPILE) benches
	@set -e; mkdir -p $(BUILD)/bench/results; \
	for source in bench/*.cpp; do \
	  name=$$(basename $$source .cpp); echo "bench: $$name"; \
	  $(BUILD)/bench/$$name --benchmark_out=$(BUILD)/bench/results/$$name.json \
	    --benchmark_out_format=json $(ARGS); \
	done
	@$(MAKE) --no-print-directory bench-report

bench-report:
	@python3 bench/report.py $(BUILD)/bench/results

# Other peers: CMAKE_FLAGS="-DDEEPSEEK_PEER_GGML=prefix ..." (bench/README.md). ARGS: of run.py.
bench-peers:
	@$(PACKAGES) peers
	@$(CONFIGURE) -DDEEPSEEK_BENCH=ON
	@$(COMPILE) bench_peers
	@status=0; python3 bench/peers/run.py $(BUILD)/bench/peers $(BUILD)/bench/peers/samples.json $(ARGS) \
	  || status=1; \
	$(MAKE) --no-print-directory peers-report || status=1; exit $$status

peers-report:
	@python3 bench/peers/report.py $(BUILD)/bench/peers/samples.json $(BUILD)/bench

# Needs nvcc, no GPU: what would need one is skipped and counted.
cuda:
	@cmake --preset cuda -B $(BUILD)-cuda --log-level=NOTICE $(CMAKE_FLAGS)
	@cmake --build $(BUILD)-cuda --parallel $(JOBS) --target tests_cuda
	@ctest --test-dir $(BUILD)-cuda --output-on-failure --no-tests=error -L cuda

# Needs nvcc, CMake, ninja and a GPU. CARRY: a folder made by cmake/carry.sh, where Eigen and doctest
# are not installed. LIMIT: seconds of all together; what tells most comes first.
gpu-test:
	@python3 tests/cuda/on_gpu.py . $(BUILD)-gpu $(BUILD)-gpu/results $(if $(CARRY),--prefix $(CARRY)) \
	  $(if $(LIMIT),--limit $(LIMIT)) $(ARGS)

# What gpu-test runs, built where no GPU is: unpack the archive beside the project there, then
# make gpu-test ARGS=--built. No instructions of this machine, no C++ library of its own to find.
gpu-programs:
	@cmake -S . -B $(BUILD)-gpu -G Ninja -DCMAKE_BUILD_TYPE=Release -DDEEPSEEK_CUDA=ON \
	  -DDEEPSEEK_EXAMPLES=OFF -DDEEPSEEK_BENCH=OFF -DDEEPSEEK_NATIVE=OFF \
	  -DCMAKE_CUDA_ARCHITECTURES=$(or $(GPU_ARCHITECTURE),90a-real) \
	  -DDEEPSEEK_TESTS_PER_PROGRAM=$(TESTS_PER_PROGRAM) \
	  -DCMAKE_EXE_LINKER_FLAGS="-s -static-libstdc++ -static-libgcc" $(CMAKE_FLAGS) --log-level=WARNING
	@cmake --build $(BUILD)-gpu --parallel $(JOBS) --target tests_device tests_cuda gpu_bench
	@tar -cJf $(BUILD)-gpu/programs.tar.xz $(BUILD)-gpu/bin
	@ls -l $(BUILD)-gpu/programs.tar.xz

# A Hopper GPU is compiled for by name: native need not mean sm_90a and its warp groups (docs/cuda.md).
GPU_IS = $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1)

# The peers need PyTorch; without it the page has our rows alone. LIMIT: seconds after which no peer
# starts; a group of rows that fails leaves the others.
gpu-bench:
	@cmake -S . -B $(BUILD)-gpu -G Ninja -DCMAKE_BUILD_TYPE=Release -DDEEPSEEK_CUDA=ON \
	  -DDEEPSEEK_EXAMPLES=OFF -DDEEPSEEK_BENCH=OFF \
	  -DCMAKE_CUDA_ARCHITECTURES=$(if $(filter 9.0,$(GPU_IS)),90a-real,native) \
	  $(if $(CARRY),-DCMAKE_PREFIX_PATH=$(CARRY)) $(CMAKE_FLAGS) --log-level=NOTICE
	@cmake --build $(BUILD)-gpu --parallel $(JOBS) --target gpu_bench
	@-$(BUILD)-gpu/bin/gpu_bench $(ARGS) > $(BUILD)-gpu/ours.jsonl
	@-python3 bench/gpu_peers.py --out $(BUILD)-gpu/peers.json $(if $(LIMIT),--limit $(LIMIT)) $(ARGS)
	@python3 bench/gpu/report.py $(BUILD)-gpu/ours.jsonl $(BUILD)-gpu/peers.json $(BUILD)-gpu/results

install:
	@$(PACKAGES) base
	@$(CONFIGURE)
	@cmake --install $(BUILD) --prefix $(PREFIX)

format:
	@git ls-files '*.hpp' '*.cpp' '*.cuh' '*.cu' | xargs -r clang-format -i

docs:
	@python3 tests/guards/links.py .

clean:
	@rm -rf $(BUILD)
