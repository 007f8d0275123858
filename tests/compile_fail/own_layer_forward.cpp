// expects: deepseek::layer: no forward(call, parameters, x, y, kept) takes these arguments; see
// docs/own_layer.md SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/embedding.hpp>
#include <deepseek/layers/model.hpp>

namespace ds = deepseek;

struct copied {
  static constexpr ds::index_t out = 1;
  static constexpr const char* label = "copied";
#ifdef DEEPSEEK_POSITIVE
  template <class C, class P, class X, class Y, class K>
  static void forward(const C&, const P&, const X& x, const Y& y, K&) {
    for (ds::index_t i = 0; i < x.extent(0); ++i) y(i, 0) = x(i, 0);
  }
#else
  template <class X, class Y>
  static void forward(const X& x, const Y& y) {
    for (ds::index_t i = 0; i < x.extent(0); ++i) y(i, 0) = x(i, 0);
  }
#endif
};
struct net : ds::chain<ds::embedding<3, 1>, copied> {};

void run(const ds::reference& b, const ds::model<net, float, ds::reference>& m,
         const ds::view<const std::int32_t, ds::host, ds::dyn>& ids) {
  m(b, ids);
}
