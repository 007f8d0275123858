// SPDX-License-Identifier: Apache-2.0
// Attention over listed keys in 16 bits, which a device gathers, against the oracle: latent
// attention and heads that share keys; one range of the list and several, score modifiers.
#include "ops/listed_keys.hpp"
#include "simulation/attention_latent_case.hpp"

#include "deepseek/pattern/alibi.hpp"
#include "deepseek/pattern/soft_cap.hpp"

using namespace attention_test;

namespace {

template <class T, class P>
void check_latent(const problem& p, const table_of_keys& table, const P& pattern,
                  const std::string& name) {
  const data x = draw_latent<T>(p, name);
  arrays<T> a(p, x);
  ops::attention(cpu(), latent_inputs_of(a, 0, p.n), attention_outputs{a.o.get(), a.lse_view()},
                 spec_of(p, pattern));
  expect_forward(p, a, oracle_answer(p, x, table.seen(p)), case_name(p, name));
}
template <class T>
void check_heads(const problem& p, index_t listed, const std::string& name) {
  const table_of_keys table(p, listed);
  run<T>(cpu(), p, table.ascending(), table.seen(p), name);
}

}  // namespace

TEST_CASE("attention chosen: latents gathered by a device") {
  for (const index_t heads : {3, 16, 128}) {
    for (const index_t listed : {31, 64, 600}) {
      const problem p = latent_problem(3, 700, heads);
      const table_of_keys table(p, listed);
      check_latent<bf16>(p, table, table.ascending(), "listed latents bf16");
    }
  }
  const problem shared = latent_problem(2, 90, 64, 512), capped = capped_latent(3, 140, 4);
  const table_of_keys table(shared, 40), some(capped, 40);
  check_latent<f16>(shared, table, table.ascending(), "listed latents f16");
  using changed = scored<scored<index_set, alibi<4>>, soft_cap<2>>;
  check_latent<bf16>(capped, some, changed({some.ascending(), {}}, {}), "listed latents changed");
}

TEST_CASE("attention chosen: heads gathered by a device") {
  check_heads<bf16>({.n = 3, .m = 700, .h = 16, .hk = 2, .d = 64, .dv = 64}, 600, "heads 64");
  check_heads<bf16>({.n = 3, .m = 200, .h = 40, .hk = 2, .d = 128, .dv = 128}, 70, "heads 128");
  check_heads<f16>({.n = 3, .m = 200, .h = 12, .hk = 1, .d = 192, .dv = 128}, 70, "heads 192");
}
