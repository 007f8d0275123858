// SPDX-License-Identifier: Apache-2.0
// A model of seven stages, assembled from parts: input layers -> dynamic embedding -> encoder with
// experts -> adaptive (sparse and local) attention -> expert selection -> residual compression ->
// heads of two tasks. It is trained on two kinds of input: small pictures of digits, with noise,
// and bytes. Tasks: which digit a picture shows; and the sum "+4=07" of the digit shown and one
// written, byte by byte. The same seed gives the same numbers each time.
#include <deepseek/deepseek.hpp>

#include <cstdio>
#include <string>
#include <vector>

namespace ds = deepseek;

inline constexpr ds::index_t D = 32, patches = 4;
inline constexpr ds::attention_config heads{.dim = D, .heads = 4};
inline constexpr ds::moe_config experts{
    .dim = D, .hidden = 32, .routed = 4, .shared = 1, .active = 2, .balance = 0.01};
using picture =
    ds::patch_embedding<ds::patch_config{.height = 8, .width = 8, .patch = 4, .dim = D}>;
using written = ds::called<"text", ds::embedding<256, D>>;
using encoder =
    ds::transformer_block<ds::multi_head_attention<heads, ds::causal>, ds::moe<experts>>;
using seen = ds::both<ds::causal, ds::either<ds::local<3>, ds::random_blocks<2, 2>>>;
using adaptive = ds::chain<ds::rms_norm<D>, ds::multi_head_attention<heads, seen>>;
using selection = ds::chain<ds::rms_norm<D>, ds::moe<experts, ds::sigmoid_top_k>>;
using compression = ds::memory_compression<ds::memory_compression_config{.dim = D, .ratio = 0.4}>;

using trunk = ds::chain<ds::inputs<written, picture>,  // 1
                        ds::dynamic_embedding<ds::dynamic_embedding_config{.dim = D, .kinds = 2}>,
                        ds::called<"encoder", encoder>,                    // 3
                        ds::residual<ds::called<"adaptive", adaptive>>,    // 4
                        ds::residual<ds::called<"selection", selection>>,  // 5
                        compression>;                                      // 6
struct net : ds::with_heads<trunk, ds::generation_head<D, 256>, ds::classification_head<D, 10>> {
};  // 7
using model = ds::model<net, float, ds::cpu>;

// Digits of 5 x 7 points, a row a number, the leftmost point its highest bit.
inline constexpr int font[10][7] = {{14, 17, 19, 21, 25, 17, 14}, {4, 12, 4, 4, 4, 4, 14},
                                    {14, 17, 1, 2, 4, 8, 31},     {31, 2, 4, 2, 1, 17, 14},
                                    {2, 6, 10, 18, 31, 2, 2},     {31, 16, 30, 1, 1, 17, 14},
                                    {6, 8, 16, 30, 17, 17, 14},   {31, 1, 2, 4, 8, 8, 8},
                                    {14, 17, 17, 14, 17, 17, 14}, {14, 17, 17, 15, 1, 2, 12}};

// Sequences: a picture alone, with its digit; or a picture and a sum, with the bytes to come.
struct batch {
  static constexpr ds::index_t pictures = 48, sums = pictures / 2;
  ds::tensor<float, ds::host, pictures, 1, 8, 8> pixels;
  std::vector<std::int32_t> bytes, next, digits;
  ds::row_order order{{4 * sums, patches* pictures}};

  explicit batch(std::uint32_t number) {
    ds::random_stream random({5, number, 0, 0, ds::random_use::data});
    for (ds::index_t i = 0; i < pictures; ++i) {
      const int digit = static_cast<int>(random.below(10));
      draw(i, digit, random);
      order.add(1, patches * i, patches);
      next.insert(next.end(), patches, -100);  // -100: no loss
      if (i < sums) add_sum(i, digit, static_cast<int>(random.below(10)));
      digits.push_back(i < sums ? -100 : digit);  // a sum would tell it
      order.end_sequence();
    }
  }
  static ds::view<const std::int32_t, ds::host, ds::dyn> ids(const std::vector<std::int32_t>& v) {
    return {v.data(), {static_cast<ds::index_t>(v.size())}};
  }
  auto input() const { return ds::by_kind(order, ids(bytes), pixels); }

 private:
  void draw(ds::index_t i, int digit, ds::random_stream& random) {
    const int left = static_cast<int>(random.below(4)), top = static_cast<int>(random.below(2));
    for (ds::index_t at = 0; at < 64; ++at) {
      const int row = static_cast<int>(at / 8) - top, column = static_cast<int>(at % 8) - left;
      const bool inside = row >= 0 && row < 7 && column >= 0 && column < 5;
      const bool ink = inside && (font[digit][row] >> (4 - column) & 1) != 0;
      const float noise = static_cast<float>(random.below(1000)) / 1000.0f - 0.5f;
      pixels.data()[64 * i + at] = (ink ? 1.0f : 0.0f) + 0.4f * noise;
    }
  }
  void add_sum(ds::index_t i, int digit, int other) {
    const int sum = digit + other;
    const std::string text{'+', static_cast<char>('0' + other), '=',
                           static_cast<char>('0' + sum / 10), static_cast<char>('0' + sum % 10)};
    order.add(0, 4 * i, 4);
    bytes.insert(bytes.end(), text.begin(), text.end() - 1);
    next.insert(next.end(), {-100, -100, text[3], text[4]});
  }
};

// The mean loss of one head; its outputs become their gradient.
template <class Y>
double differentiate(const ds::cpu& cpu, const Y& y, const std::vector<std::int32_t>& wanted) {
  ds::tensor<float, ds::host, ds::dyn> each({y.extent(0)});
  const auto r = ds::ops::cross_entropy(cpu, y, batch::ids(wanted), each);
  ds::ops::cross_entropy_gradient(cpu, y, batch::ids(wanted), y);
  return r.mean;
}

// The share of rows with a target whose largest output is it, in percent.
template <class Y>
double accuracy(const Y& y, const std::vector<std::int32_t>& wanted) {
  int right = 0, counted = 0;
  for (ds::index_t n = 0; n < y.extent(0); ++n) {
    const std::int32_t target = wanted[static_cast<std::size_t>(n)];
    if (target < 0) continue;
    const float* row = &y(n, 0);
    right += std::max_element(row, row + y.extent(1)) - row == target;
    ++counted;
  }
  return 100.0 * right / counted;
}

int main() {
  const ds::cpu cpu{{.threads = 2}};
  model m(cpu, ds::scaled_init{.gain = 0.7, .seed = 1});
  std::printf("parameters: %lld\n", static_cast<long long>(ds::parameter_count(m.parameters())));
  ds::optimizer adam(ds::adamw{.weight_decay = 0.01}, m.parameters());
  const ds::warmup_cosine rate{.peak = 4e-3, .warmup = 20, .total = 600};
  auto tape = m.tape(cpu);
  auto gradients = std::make_unique<model::parameters_type>();
  double first = 0, last = 0;
  for (std::uint32_t step = 0; step < 600; ++step) {
    const batch b(step);
    const auto y = m.forward(cpu, b.input(), tape,
                             {.how = ds::mode::training, .sequences = b.order.offsets()});
    const double bytes = differentiate(cpu, y.get<0>(), b.next);
    const double digits = differentiate(cpu, y.get<1>(), b.digits);
    ds::zero(*gradients);
    m.backward(cpu, b.input(), tape, y, *gradients);
    adam.step(cpu, m.parameters(), *gradients, rate(adam.steps()));
    ds::update_buffers(cpu, m.parameters(), *gradients);
    (step == 0 ? first : last) = bytes + digits;
  }
  const batch unseen(1'000'000);
  ds::arena<ds::host> memory;
  const auto y = m.outputs(cpu, unseen.input(), memory, {.sequences = unseen.order.offsets()});
  const double sums = accuracy(y.get<0>(), unseen.next),
               digits = accuracy(y.get<1>(), unseen.digits);
  std::printf("the loss of both tasks fell to a tenth: %s\n", last < first / 10 ? "yes" : "no");
  std::printf("unseen pictures: 9 of 10 digits right: %s\n", digits >= 90 ? "yes" : "no");
  std::printf("unseen sums of a picture and a byte: 9 of 10 bytes right: %s\n",
              sums >= 90 ? "yes" : "no");
  std::fprintf(stderr, "loss %.3f -> %.3f, accuracy: digits %.1f %%, bytes of sums %.1f %%\n",
               first, last, digits, sums);
}
