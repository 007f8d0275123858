// expects: -freciprocal-math (-funsafe-math-optimizations) rounds twice; compile without
// SPDX-License-Identifier: Apache-2.0
#ifndef DEEPSEEK_POSITIVE
#define __RECIPROCAL_MATH__ 1
#endif
#include <deepseek/config.hpp>

int main() {}
