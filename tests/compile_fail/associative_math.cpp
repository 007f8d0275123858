// expects: -fassociative-math (-funsafe-math-optimizations) reorders sums; compile without
// SPDX-License-Identifier: Apache-2.0
#ifndef DEEPSEEK_POSITIVE
#define __ASSOCIATIVE_MATH__ 1
#endif
#include <deepseek/config.hpp>

int main() {}
