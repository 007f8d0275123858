// expects: -ffast-math breaks NaN and infinity handling; compile without it
// SPDX-License-Identifier: Apache-2.0
#ifndef DEEPSEEK_POSITIVE
#define __FAST_MATH__ 1
#endif
#include <deepseek/config.hpp>

int main() {}
