// expects: deepseek::model: a layer of this net keeps a cache that cannot stand in
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/embedding.hpp>
#include <deepseek/layers/kv_cache.hpp>
#include <deepseek/layers/model.hpp>

namespace ds = deepseek;

template <class T, class S>
struct own_cache {
  ds::tensor<T, S, ds::dyn, 1> rows;
  void reserve(ds::index_t capacity) { rows = ds::tensor<T, S, ds::dyn, 1>({capacity, 1}); }
};
struct remembering {
  static constexpr ds::index_t out = 1;
  static constexpr const char* label = "remembering";
  template <class T, class S>
#ifdef DEEPSEEK_POSITIVE
  using state = ds::row_cache<T, S, 1>;
#else
  using state = own_cache<T, S>;
#endif
  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P&, const X& x, const Y& y, K&) {
    ds::ops::copy(c.backend, x, y);
  }
};

struct net : ds::chain<ds::embedding<3, 1>, remembering> {};
void share(const ds::reference& b, const ds::model<net, float, ds::reference>& m) {
  auto d = m.decoder(b, m.pages(b, {.pages = 2}));
}
