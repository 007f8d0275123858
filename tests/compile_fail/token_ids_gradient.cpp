// expects: deepseek::embedding: token ids have no gradient; pass ds::none{} as dx
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/embedding.hpp>

namespace ds = deepseek;

using layer = ds::embedding<11, 8>;
using ids_view = ds::view<const std::int32_t, ds::host, ds::dyn>;
using rows_view = ds::view<float, ds::host, ds::dyn, 8>;

void train(const ds::call<ds::reference>& c, const ids_view& ids, const rows_view& dy,
           [[maybe_unused]] const rows_view& dx) {
  const ds::parameters<layer, float, ds::host> p;
  ds::parameters<layer, float, ds::host> g;
  ds::keep<ds::for_backward, layer, float, ds::host> kept;
#ifdef DEEPSEEK_POSITIVE
  ds::run_backward<layer>(c, p, ids, dy, ds::none{}, kept, g);
#else
  ds::run_backward<layer>(c, p, ids, dy, dx, kept, g);
#endif
}
