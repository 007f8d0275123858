// expects: deepseek::with_mtp: the third part is no mtp_layer; write mtp_layer<block>
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/mlp.hpp>
#include <deepseek/layers/with_mtp.hpp>

namespace ds = deepseek;

using block = ds::swiglu<8, 12>;
#ifdef DEEPSEEK_POSITIVE
using further = ds::mtp_layer<block>;
#else
using further = block;
#endif
ds::index_t width() {
  return ds::with_mtp<ds::embedding<5, 8>, block, further, ds::linear<8, 5>>::out;
}
