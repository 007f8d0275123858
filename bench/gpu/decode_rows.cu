// SPDX-License-Identifier: Apache-2.0
// One query a sequence over keys of its own: heads that share keys, latent attention in its
// absorbed form (DeepSeek-V2, 576/512); latent attention over listed keys and the indexer's scores
// (DeepSeek-V3.2); latent attention's prefill.
#include "timing.cuh"

namespace bench {

namespace {

struct sequences {
  index_t batch, heads, kv_heads, keys;
};

// 0, step, 2 step, ...
vec<std::int32_t> offsets_of(index_t batch, index_t step) {
  ds::tensor<std::int32_t, ds::host, ds::dyn> at({batch + 1});
  for (index_t i = 0; i <= batch; ++i) at.data()[i] = static_cast<std::int32_t>(i * step);
  return ds::in_memory<ds::device>(at);
}
double number(index_t n) {
  return static_cast<double>(n);
}

// Values of width dv that are the beginnings of keys [rows, 1, d].
ds::view<const bf16, ds::device, ds::dyn, ds::dyn, ds::dyn> beginnings(const cube<bf16>& k,
                                                                       index_t dv) {
  return {k.data(), {k.extent(0), 1, dv}, {k.extent(2), k.extent(2), 1}};
}

void shared_heads(const ds::cuda& b, timer& t, const sequences& s) {
  constexpr index_t d = 128;
  const auto q = normal<cube<bf16>>(b, {s.batch, s.heads, d}, 1);
  const auto k = normal<cube<bf16>>(b, {s.batch * s.keys, s.kv_heads, d}, 2);
  const auto v = normal<cube<bf16>>(b, {s.batch * s.keys, s.kv_heads, d}, 3);
  cube<bf16> o({s.batch, s.heads, d});
  const auto queries = offsets_of(s.batch, 1), keys = offsets_of(s.batch, s.keys);
  const ds::attention_spec<ds::causal, ds::device> spec{.query_offsets = queries.view(),
                                                        .key_offsets = keys.view()};
  const double pairs = number(s.batch) * number(s.keys) * number(d);
  t.row("decode",
        "B" + std::to_string(s.batch) + " Hq" + std::to_string(s.heads) + " Hkv" +
            std::to_string(s.kv_heads) + " S" + std::to_string(s.keys) + " D128 q1",
        {4 * pairs * number(s.heads), 4 * pairs * number(s.kv_heads)}, [&] {
          ds::ops::attention(b, ds::attention_inputs{q, k, v}, ds::attention_outputs{o}, spec);
        });
}

void latent_decode(const ds::cuda& b, timer& t, const sequences& s) {
  constexpr index_t d = 576, dv = 512;
  const auto q = normal<cube<bf16>>(b, {s.batch, s.heads, d}, 1);
  const auto kv = normal<cube<bf16>>(b, {s.batch * s.keys, 1, d}, 2);
  cube<bf16> o({s.batch, s.heads, dv});
  const auto queries = offsets_of(s.batch, 1), keys = offsets_of(s.batch, s.keys);
  const ds::attention_spec<ds::causal, ds::device> packed{.query_offsets = queries.view(),
                                                          .key_offsets = keys.view()};
  // A sequence alone is not packed: ranges of its keys may have blocks of their own.
  const auto spec = s.batch > 1 ? packed : ds::attention_spec<ds::causal, ds::device>{};
  const double rows = number(s.batch) * number(s.keys);
  t.row("mla_decode",
        "B" + std::to_string(s.batch) + " H" + std::to_string(s.heads) + " S" +
            std::to_string(s.keys) + " 576/512",
        {2 * rows * number(s.heads * (d + dv)), 2 * rows * number(d)}, [&] {
          ds::ops::attention(b, ds::attention_inputs{q, kv, beginnings(kv, dv)},
                             ds::attention_outputs{o}, spec);
        });
}

void latent_prefill(const ds::cuda& b, timer& t) {
  constexpr index_t n = 4096, heads = 128, d = 192, dv = 128;
  const auto q = normal<cube<bf16>>(b, {n, heads, d}, 1),
             k = normal<cube<bf16>>(b, {n, heads, d}, 2);
  const auto v = normal<cube<bf16>>(b, {n, heads, dv}, 3);
  cube<bf16> o({n, heads, dv});
  t.row("mla_prefill", "B1 H128 S4096 192/128 causal",
        {number(heads * (d + dv)) * number(n * (n + 1)), 0}, [&] {
          ds::ops::attention(b, ds::attention_inputs{q, k, v}, ds::attention_outputs{o},
                             ds::attention_spec<ds::causal, ds::device>{});
        });
}

// Ascending lists of 2048 of 65536 keys, one of each 32.
void latent_listed(const ds::cuda& b, timer& t) {
  constexpr index_t n = 256, heads = 128, d = 576, dv = 512, listed = 2048, keys = 65536;
  const auto q = normal<cube<bf16>>(b, {n, heads, d}, 1);
  const auto kv = normal<cube<bf16>>(b, {keys, 1, d}, 2);
  cube<bf16> o({n, heads, dv});
  ds::tensor<std::int32_t, ds::host, ds::dyn, ds::dyn> lists({n, listed});
  std::uint32_t drawn = 1;
  for (index_t i = 0; i < lists.size(); ++i) {
    drawn = drawn * 1664525U + 1013904223U;
    lists.data()[i] = static_cast<std::int32_t>(i % listed * (keys / listed) + (drawn >> 27U));
  }
  const auto ids = ds::in_memory<ds::device>(lists);
  const ds::attention_spec<ds::index_set, ds::device> spec{
      .pattern = ds::index_set(ids.view(), ds::index_order::ascending)};
  t.row("dsa_sparse", "q256 H128 topk2048 576/512",
        {2 * number(n * heads) * number(listed * (d + dv)), 0}, [&] {
          ds::ops::attention(b, ds::attention_inputs{q, kv, beginnings(kv, dv)},
                             ds::attention_outputs{o}, spec);
        });
}

void indexer_scores(const ds::cuda& b, timer& t) {
  constexpr index_t n = 2048, keys = 8192, heads = 64, d = 128;
  const auto q = normal<cube<bf16>>(b, {n, heads, d}, 1);
  const auto k = normal<matrix<bf16>>(b, {keys, d}, 2), w = normal<matrix<bf16>>(b, {n, heads}, 3);
  matrix<float> scores({n, keys});
  t.row("dsa_indexer", "q2048 kv8192 H64 D128", {2 * number(n * keys) * number(heads * d), 0}, [&] {
    ds::ops::lightning_indexer(b, ds::indexer_inputs{q, k, w}, scores,
                               ds::attention_spec<ds::everyone, ds::device>{});
  });
}

}  // namespace

void decode_rows(const ds::cuda& b, timer& t) {
  for (const sequences& s : {sequences{64, 32, 8, 8192}, sequences{8, 32, 8, 32768}}) {
    shared_heads(b, t, s);
  }
}

void latent_rows(const ds::cuda& b, timer& t) {
  latent_prefill(b, t);
  for (const sequences& s :
       {sequences{1, 128, 1, 4096}, sequences{1, 128, 1, 32768}, sequences{128, 128, 1, 4096},
        sequences{32, 128, 1, 16384}, sequences{16, 128, 1, 32768}}) {
    latent_decode(b, t, s);
  }
  latent_listed(b, t);
  indexer_scores(b, t);
}

}  // namespace bench
