// expects: deepseek::patch_embedding: patch does not divide height and width (pixels would be left
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/patch_embedding.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr ds::index_t patch = 4;
#else
constexpr ds::index_t patch = 5;
#endif

static_assert(ds::patch_embedding<ds::patch_config{
                  .height = 8, .width = 12, .patch = patch, .dim = 16}>::out == 16);
