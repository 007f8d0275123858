// SPDX-License-Identifier: Apache-2.0
// libFuzzer: clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude \
//   tests/fuzz/safetensors.cpp -o fuzz_safetensors && ./fuzz_safetensors
//   tests/fuzz/corpus/safetensors
#include "safetensors_target.hpp"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (!fuzz::read_safetensors(std::as_bytes(std::span(data, size))).holds) std::abort();
  return 0;
}
