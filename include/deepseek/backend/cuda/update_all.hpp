// SPDX-License-Identifier: Apache-2.0
// update_all on the device: one launch over the chunks of all tensors (chunk_list.hpp), 16 bytes a
// load where all of a tensor's memories begin at multiples of 16, the bodies of backend/rows. See
// ops/update_all.hpp.
#pragma once

#include "deepseek/backend/cuda/chunk_list.hpp"
#include "deepseek/backend/cuda/optimizer.hpp"
#include "deepseek/ops/update_all.hpp"

namespace deepseek {

namespace cuda_update_all {

template <class A>
adamw_body<A> body_of(const adamw_step& step) {
  return adamw_body<A>::of(cuda_optimizer::make_number<A>{}, step);
}
template <class A>
sgd_body<A> body_of(const sgd_step& step) {
  return sgd_body<A>::of(cuda_optimizer::make_number<A>{}, step);
}
template <class A>
lion_body<A> body_of(const lion_step& step) {
  return lion_body<A>::of(cuda_optimizer::make_number<A>{}, step);
}
template <class A>
amf_body<A> body_of(const amf_step& step) {
  return amf_body<A>::of(cuda_optimizer::make_number<A>{}, step);
}

template <int Count, class T>
DEEPSEEK_HOST_DEVICE void load_some(const T* from, std::remove_const_t<T>* to) {
  if constexpr (Count == 1) {
    to[0] = from[0];
  } else {
    load_run<Count>(from, to);
  }
}
template <int Count, class T>
DEEPSEEK_HOST_DEVICE void store_some(const T* from, T* to) {
  if constexpr (Count == 1) {
    to[0] = from[0];
  } else {
    store_run<Count>(from, to);
  }
}

template <class Body, class P, class G, class S, int States>
struct changed_chunks {
  using A = accumulate_t<P>;
  using item_type = update_item<P, G, S, States>;
  static constexpr int threads = 256;
  static constexpr int longest =
      vector_length<P> > vector_length<G> ? vector_length<P> : vector_length<G>;
  chunk_list<item_type, S> list;
  Body decaying, plain;

  index_t blocks() const { return list.chunks; }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const chunk_place at = list.place(block.index());
    const item_type& item = list.items(at.at).item;
    const cuda_optimizer::updated<A, Body> f{item.decays ? decaying : plain};
    index_t done = at.begin;
    if (whole(item)) {
      done += (at.end - at.begin) / longest * longest;
      for (index_t i = at.begin + block.rank() * longest; i < done; i += threads * longest) {
        change<longest>(f, item, i, std::make_index_sequence<States>{});
      }
    }
    for (index_t i = done + block.rank(); i < at.end; i += threads) {
      change<1>(f, item, i, std::make_index_sequence<States>{});
    }
  }

 private:
  DEEPSEEK_HOST_DEVICE static bool whole(const item_type& item) {
    auto places = reinterpret_cast<std::uintptr_t>(item.p.data()) |
                  reinterpret_cast<std::uintptr_t>(item.g.data());
    for (int i = 0; i < States; ++i) {
      places |= reinterpret_cast<std::uintptr_t>(item.state[i].data());
    }
    return places % vector_bytes == 0;
  }
  template <int Count, class F, std::size_t... I>
  DEEPSEEK_HOST_DEVICE static void change(const F& f, const item_type& item, index_t i,
                                          std::index_sequence<I...>) {
    alignas(vector_bytes) G g[Count];
    alignas(vector_bytes) P p[Count];
    alignas(vector_bytes) P state[States][Count];
    load_some<Count>(item.g.data() + i, g);
    load_some<Count>(item.p.data() + i, p);
    (load_some<Count>(item.state[I].data() + i, state[I]), ...);
    DEEPSEEK_UNROLL
    for (int k = 0; k < Count; ++k) f(i + k, g[k], p[k], state[I][k]...);
    store_some<Count>(p, item.p.data() + i);
    (store_some<Count>(state[I], item.state[I].data() + i), ...);
  }
};

}  // namespace cuda_update_all

template <DeviceBackend B, class P, class G, class S, int States, class Step>
void update_all_impl(const B& b, std::span<const update_item<P, G, S, States>> items,
                     const Step& step) {
  using namespace cuda_update_all;
  const scope freed(b.workspace());
  const auto list = make_chunk_list(b, items, [](const auto& item) { return item.p.extent(0); });
  const auto decaying = body_of<accumulate_t<P>>(step);
  const auto plain = body_of<accumulate_t<P>>(without_decay(step));
  b.launch(
      changed_chunks<std::remove_const_t<decltype(plain)>, P, G, S, States>{list, decaying, plain});
}

}  // namespace deepseek
