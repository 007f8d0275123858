// expects: no matching
// SPDX-License-Identifier: Apache-2.0
// An error carries a code; a sentence alone is not enough (both compilers begin: "no matching").
#include <deepseek/core/error.hpp>

int main() {
#ifdef DEEPSEEK_POSITIVE
  const deepseek::error thrown(deepseek::error_code::io, "file: is not there; check the path");
#else
  const deepseek::error thrown("file: is not there; check the path");
#endif
  return thrown.what() == nullptr;
}
