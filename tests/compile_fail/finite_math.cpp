// expects: -ffinite-math-only breaks NaN and infinity handling; compile without it
// SPDX-License-Identifier: Apache-2.0
#ifndef DEEPSEEK_POSITIVE
#undef __FINITE_MATH_ONLY__
#define __FINITE_MATH_ONLY__ 1
#endif
#include <deepseek/config.hpp>

int main() {}
