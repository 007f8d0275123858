// SPDX-License-Identifier: Apache-2.0
// scale_columns on the device, s repeated for each row by a stride of 0; see ops/scale_columns.hpp.
#pragma once

#include "deepseek/backend/cuda/map.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/scale_columns.hpp"

namespace deepseek {

namespace cuda_scale_columns {

struct scaled {
  template <class X, class S, class Y>
  DEEPSEEK_HOST_DEVICE void operator()(index_t, const X& x, const S& s, Y& y) const {
    using A = accumulate_t<Y>;
    y = convert_to<Y>(convert_to<A>(x) * convert_to<A>(s));
  }
};

}  // namespace cuda_scale_columns

template <DeviceBackend B, class X, class S, class Y>
void scale_columns_impl(const B& b, const X& x, const S& s, const Y& y) {
  const view<const typename S::value_type, typename B::space, dyn, dyn> repeated(
      s.data(), {x.extent(0), x.extent(1)}, {0, s.stride(0)});
  run_map(b, cuda_scale_columns::scaled{}, reads(x), reads(repeated), writes(y));
}

}  // namespace deepseek
