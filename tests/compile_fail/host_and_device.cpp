// expects: deepseek::op: the data is not in this backend's memory; copy it with ds::transfer
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/ops/softmax.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
using place = ds::host;
#else
using place = ds::device;
#endif

void run(const ds::reference& b, const ds::view<float, place, ds::dyn, ds::dyn>& x) {
  ds::ops::softmax(b, x, x);
}
