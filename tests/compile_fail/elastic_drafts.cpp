// expects: deepseek::elastic_memory: the net has several outputs (drafts)
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/backend/reference/reference.hpp>
#include <deepseek/layers/chain.hpp>
#include <deepseek/layers/embedding.hpp>
#include <deepseek/layers/linear.hpp>
#include <deepseek/layers/mlp.hpp>
#include <deepseek/layers/model.hpp>
#include <deepseek/layers/repeat.hpp>
#include <deepseek/layers/residual.hpp>
#include <deepseek/layers/with_mtp.hpp>
#include <deepseek/train/elastic.hpp>

namespace ds = deepseek;

using layer = ds::residual<ds::mlp<4, 6>>;
#ifdef DEEPSEEK_POSITIVE
struct net : ds::chain<ds::embedding<8, 4>, layer, ds::linear<4, 8>> {};
#else
struct net : ds::with_mtp<ds::embedding<8, 4>, ds::repeat<1, layer>, ds::mtp_layer<layer>,
                          ds::called<"head", ds::linear<4, 8>>> {};
#endif

int main() {
  const ds::reference b;
  const ds::model<net, float, ds::reference> m(b);
  ds::elastic_memory memory(b, m);
  const ds::tensor<std::int32_t, ds::host, 2> tokens, targets;
  memory.observe(b, m, tokens, targets);
}
