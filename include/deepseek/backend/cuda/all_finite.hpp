// SPDX-License-Identifier: Apache-2.0
// all_finite on the device: each thread that meets an infinity or a NaN says so; the host reads the
// answer. See ops/all_finite.hpp.
#pragma once

#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/ops/all_finite.hpp"

namespace deepseek {

namespace cuda_all_finite {

struct looked {
  std::int32_t* found;
  template <class X>
  DEEPSEEK_HOST_DEVICE void operator()(index_t, const X& x) const {
    const auto v = static_cast<accumulate_t<X>>(x);
    if (!(v - v == 0)) *found = 1;  // all that write, write the same
  }
};

}  // namespace cuda_all_finite

template <DeviceBackend B, class X>
bool all_finite_impl(const B& b, const X& x) {
  const scope freed(b.workspace());
  const auto found = b.workspace().template make<std::int32_t, 1>();
  run_map(b, cuda_elements::set<std::int32_t>{0}, writes(found));
  run_map(b, cuda_all_finite::looked{found.data()}, reads(x));
  return b.read(found.data()) == 0;
}

}  // namespace deepseek
