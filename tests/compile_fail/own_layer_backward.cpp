// expects: deepseek::layer: this layer cannot be trained (no backward); write backward(call,
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/embedding.hpp>
#include <deepseek/layers/model.hpp>

namespace ds = deepseek;

template <int D>
struct doubled {
  static constexpr ds::index_t out = D;
  static constexpr const char* label = "doubled";
  template <class C, class P, class X, class Y, class K>
  static void forward(const C&, const P&, const X& x, const Y& y, K&) {
    for (ds::index_t i = 0; i < x.extent(0); ++i) y(i, 0) = 2 * x(i, 0);
  }
#ifdef DEEPSEEK_POSITIVE
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C&, const P&, const X&, const DY& dy, const DX& dx, K&, G&) {
    for (ds::index_t i = 0; i < dy.extent(0); ++i) dx(i, 0) = 2 * dy(i, 0);
  }
#endif
};

struct net : ds::chain<ds::embedding<3, 1>, doubled<1>> {};
using model = ds::model<net, float, ds::reference>;

void train(const ds::reference& b, const model& m, model::tape_type& tape,
           const ds::view<const std::int32_t, ds::host, ds::dyn>& ids) {
  ds::parameters<net, float, ds::host> g;
  m.backward(b, ids, tape, m.forward(b, ids, tape), g);
}
