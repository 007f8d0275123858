// SPDX-License-Identifier: Apache-2.0
// libFuzzer: clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude \
//   tests/fuzz/checkpoint_directory.cpp -o fuzz_checkpoint_directory &&
//   ./fuzz_checkpoint_directory tests/fuzz/corpus/checkpoint_directory
#include "checkpoint_directory_target.hpp"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (!fuzz::checkpoint_directory_holds(std::as_bytes(std::span(data, size)))) std::abort();
  return 0;
}
