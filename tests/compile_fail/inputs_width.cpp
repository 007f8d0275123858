// expects: deepseek::inputs: input layers have different widths; give all the same dim
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/embedding.hpp>
#include <deepseek/layers/inputs.hpp>
#include <deepseek/layers/patch_embedding.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
constexpr ds::index_t dim = 16;
#else
constexpr ds::index_t dim = 24;
#endif

using image = ds::patch_embedding<ds::patch_config{.height = 8, .width = 8, .patch = 4, .dim = 16}>;
static_assert(ds::inputs<ds::embedding<256, dim>, image>::out == 16);
