// expects: deepseek::cross_attention: no encoder's output to look at; put the layer into the
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/embedding.hpp>
#include <deepseek/layers/encoder_decoder.hpp>
#include <deepseek/layers/model.hpp>

namespace ds = deepseek;

inline constexpr ds::attention_config heads{.dim = 8, .heads = 2, .rope = ds::rotary::none};
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
using decoder = ds::chain<ds::embedding<11, 8>, ds::cross_attention<heads>>;
#ifdef DEEPSEEK_POSITIVE
struct net : ds::encoder_decoder<ds::embedding<11, 8>, decoder> {};
void run(const ds::reference& b, const ds::model<net, float, ds::reference>& m, const ids& x) {
  m(b, ds::source_and_target{x, x});
}
#else
struct net : decoder {};
void run(const ds::reference& b, const ds::model<net, float, ds::reference>& m, const ids& x) {
  m(b, x);
}
#endif
