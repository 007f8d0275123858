// expects: deepseek::hyper_block: attention and feed-forward have different widths
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/layers/hyper_connection.hpp>
#include <deepseek/layers/mlp.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
using layer = ds::hyper_block<ds::mlp<8, 8>, ds::swiglu<8, 16>>;
#else
using layer = ds::hyper_block<ds::mlp<16, 8>, ds::swiglu<8, 16>>;
#endif
static_assert(layer::out == 32);
