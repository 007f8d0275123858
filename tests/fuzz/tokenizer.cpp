// SPDX-License-Identifier: Apache-2.0
// libFuzzer: clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude \
//   tests/fuzz/tokenizer.cpp -lpcre2-8 -o fuzz_tokenizer && ./fuzz_tokenizer
//   tests/fuzz/corpus/tokenizer
#include "tokenizer_target.hpp"

#include <cstdint>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (!fuzz::read_tokenizer({reinterpret_cast<const char*>(data), size})) std::abort();
  return 0;
}
