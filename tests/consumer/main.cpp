// SPDX-License-Identifier: Apache-2.0
// A user's program, compiled with a user's warnings: trains a composition that the library does not
// contain (a layer of its own, grouped queries, GELU), sees the loss fall, and catches a typed
// error, also in a Release build.
#include <deepseek/deepseek.hpp>

#include <iostream>
#include <string>
#include <vector>

namespace {

namespace ds = deepseek;

// y[n] = x[n] + w * x[n - 1]: a token and a little of the one before it.
template <ds::index_t D>
struct token_shift {
  static constexpr ds::index_t out = D;
  static constexpr const char* label = "shift";
  template <class T, class S>
  struct parameters {
    using layer = token_shift;
    ds::tensor<T, S, D> weight;
    static constexpr auto fields() { return std::tuple{ds::named("weight", &parameters::weight)}; }
  };

  template <class C, class P, class X, class Y, class K>
  static void forward(const C&, const P& p, const X& x, const Y& y, K&) {
    for (ds::index_t n = 0; n < x.extent(0); ++n) {
      for (ds::index_t d = 0; d < D; ++d) {
        y(n, d) = x(n, d) + (n > 0 ? p.weight.view()(d) * x(n - 1, d) : 0);
      }
    }
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C&, const P& p, const X& x, const DY& dy, const DX& dx, K&, G& g) {
    const ds::index_t last = x.extent(0) - 1;
    for (ds::index_t n = 0; n <= last; ++n) {
      for (ds::index_t d = 0; d < D; ++d) {
        dx(n, d) = dy(n, d) + (n < last ? p.weight.view()(d) * dy(n + 1, d) : 0);
        if (n > 0) g.weight.view()(d) += dy(n, d) * x(n - 1, d);
      }
    }
  }
};

constexpr ds::attention_config grouped{.dim = 24, .heads = 4, .kv_heads = 2, .head_dim = 6};
using block =
    ds::transformer_block<ds::multi_head_attention<grouped, ds::both<ds::causal, ds::local<8>>>,
                          ds::mlp<24, 48, ds::activation::gelu>, ds::dropout_config{.rate = 0.02},
                          ds::layer_norm<24>>;
struct net : ds::chain<ds::embedding<12, 24>, token_shift<24>, ds::repeat<2, block>,
                       ds::rms_norm<24>, ds::called<"head", ds::linear<24, 12>>> {};

// The next number is the sum of the last two, modulo 12.
std::vector<std::int32_t> sums(std::int32_t a, std::int32_t b) {
  std::vector<std::int32_t> s{a, b};
  while (s.size() < 33) s.push_back((s[s.size() - 1] + s[s.size() - 2]) % 12);
  return s;
}

bool learns() {
  const ds::cpu cpu{{.threads = 2}};
  ds::model<net, float, ds::cpu> m(cpu, ds::scaled_init{.seed = 5});
  ds::trainer trainer(cpu, m, ds::adamw{}, ds::constant_rate{.peak = 4e-3});
  double first = 0, last = 0;
  for (std::int32_t step = 0; step < 200; ++step) {
    const auto s = sums(step % 12, 1 + step / 12 % 11);
    const ds::view<const std::int32_t, ds::host, ds::dyn> tokens(s.data(), {32});
    const ds::view<const std::int32_t, ds::host, ds::dyn> targets(s.data() + 1, {32});
    last = trainer.micro_step(tokens, targets)->loss;
    if (step == 0) first = last;
  }
  std::cout << "consumer: loss " << first << " -> " << last << "\n";
  return last < 0.5 * first;
}

bool refuses() {
  try {
    const ds::cpu cpu{{.threads = 0}};
  } catch (const ds::error& caught) {
    return caught.code() == ds::error_code::invalid_argument &&
           std::string(caught.what()).find("cpu: threads is 0") == 0;
  }
  return false;
}

}  // namespace

int main() {
  std::cout << "deepseek " << DEEPSEEK_VERSION_MAJOR << "." << DEEPSEEK_VERSION_MINOR << "\n";
  const bool right = learns() && refuses();
  std::cout << (right ? "consumer: ok\n" : "consumer: failed\n");
  return right ? 0 : 1;
}
