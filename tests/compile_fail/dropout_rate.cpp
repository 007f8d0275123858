// expects: deepseek::dropout: rate is outside [0, 1); write .rate = 0.1
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/dropout.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr double rate = 0.5;
#else
constexpr double rate = 1;
#endif

static_assert(ds::dropout<8, ds::dropout_config{.rate = rate}>::out == 8);
