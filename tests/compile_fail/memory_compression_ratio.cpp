// expects: deepseek::memory_compression: ratio leaves no narrow width (or is above 1); write .dim =
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/memory_compression.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr double ratio = 0.4;
#else
constexpr double ratio = 1.5;
#endif

using layer = ds::memory_compression<ds::memory_compression_config{.dim = 8, .ratio = ratio}>;
static_assert(layer::out == 8);
