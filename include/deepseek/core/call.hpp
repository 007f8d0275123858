// SPDX-License-Identifier: Apache-2.0
// What one run hands down to every layer: backend, options, two arenas, the site (from the path in
// the model: it keys dropout and random patterns), and what a composite lends to those inside it.
#pragma once

#include "deepseek/core/keep.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>

namespace deepseek {

enum class mode { inference, training };

// How latent attention is computed: keys and values of every head formed, or their weights absorbed
// into queries and outputs; by_cost: what the layer says, else the cheaper of the two.
enum class latent_form : index_t { by_cost, naive, absorbed };

// What layers report while they run: the sum of auxiliary losses (already weighted).
struct run_report {
  double auxiliary_loss = 0;
};

// Packed sequences: row offsets[s] .. offsets[s + 1] - 1 are sequence s. Empty: one sequence.
template <class Space>
using sequence_offsets = view<const std::int32_t, Space, dyn>;

// Where the positions of a cache stand: position t in row pages[t / size] * size + t % size of its
// storage. size 0: in row t.
template <class Space>
struct page_table {
  view<const std::int32_t, Space, dyn> pages = {};
  index_t size = 0;
};

// A start that kernels read when they run: at[0] positions are there already. The launches are the
// same for every start with at[0] + rows <= bound, so that a step can be recorded once and replayed
// (serve/decode_steps.hpp). at empty: there is none.
template <class Space>
struct moving_start {
  view<const std::int32_t, Space, dyn> at = {};
  index_t bound = 0;

  bool moves() const { return at.extent(0) > 0; }
};
// `start` where a moving one holds: no position, so that what reads it is refused.
inline constexpr index_t start_moves = std::numeric_limits<index_t>::min() / 4;

// The furthest position that layers which keep the last rows alone have written, since position 0:
// they count before they write (layers/written_reach.hpp).
struct written_positions {
  index_t end = 0;
  void count(index_t start, index_t n) { end = start == 0 ? n : std::max(end, start + n); }
};

template <class Space>
struct run_options {
  mode how = mode::inference;
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  index_t start = 0;            // absolute position of the first row (decoding with a cache)
  index_t sequence_length = 0;  // that dynamic rotary scaling assumes; 0: where the call ends
  sequence_offsets<Space> sequences = {};
  page_table<Space> pages = {};  // of the cache
  moving_start<Space> moving = {};
  latent_form latent = latent_form::by_cost;
  double gradient_scale = 1;             // auxiliary gradients are injected times this
  run_report* report = nullptr;          // where layers add what they report, if anybody asks
  written_positions* written = nullptr;  // of the decoder, if it is one's call
};

// The positions that a call of `rows` rows reads of a cache: up to its end, or up to the bound.
template <class Space>
index_t reached(const run_options<Space>& run, index_t rows) {
  return run.moving.moves() ? run.moving.bound : run.start + rows;
}

struct empty_env {};
template <class Tag, class V, class G, class Next>
struct env {
  V value;
  G gradient;
  Next next;
};

template <class Tag>
struct missing_env {};
template <class Tag>
constexpr missing_env<Tag> find_env(const empty_env&) {
  return {};
}
template <class Tag, class T, class V, class G, class Next>
constexpr decltype(auto) find_env(const env<T, V, G, Next>& e) {
  if constexpr (std::is_same_v<Tag, T>) {
    return (e);
  } else {
    return find_env<Tag>(e.next);
  }
}

// A site is a 32-bit hash of the path; the finalizer keeps neighbours apart.
constexpr std::uint32_t mix_site(std::uint32_t site, std::uint32_t part) {
  std::uint32_t h = site * 0x9E3779B1u + part + 1;
  h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
  h = (h ^ (h >> 13)) * 0xC2B2AE35u;
  return h ^ (h >> 16);
}

template <class B, class Env = empty_env>
struct call {
  using space = typename B::space;
  const B& backend;
  run_options<space> options;
  arena<space>& scratch;  // freed in scopes
  arena<space>& tape;     // kept until backward
  std::uint32_t site = 0;
  Env lent{};

  bool training() const { return options.how == mode::training; }

  // The call for part i of a composite.
  call in(index_t i) const {
    call c = *this;
    c.site = mix_site(site, static_cast<std::uint32_t>(i));
    return c;
  }
  // The call for the same part with something lent to all that is inside.
  template <class Tag, class V, class G = none>
  call<B, env<Tag, V, G, Env>> with(V value, G gradient = {}) const {
    return {backend, options, scratch, tape, site, {value, gradient, lent}};
  }
  template <class Tag>
  static constexpr bool has = requires(const Env& e) {
    find_env<Tag>(e).value;
  };
  template <class Tag>
  const auto& get() const {
    static_assert(has<Tag>,
                  "deepseek::call: this layer needs a value that the call does not carry; pass it "
                  "with call.with<Tag>(value) or put the layer inside the composite that lends it");
    return find_env<Tag>(lent).value;
  }
  template <class Tag>
  const auto& gradient_of() const {
    return find_env<Tag>(lent).gradient;
  }

  // Where a layer's intermediate goes: the tape when it must survive until backward.
  template <class Kept>
  arena<space>& arena_for() const {
    if constexpr (requires { typename Kept::kind; }) {
      if constexpr (std::is_same_v<typename Kept::kind, for_backward>) return tape;
    }
    return scratch;
  }
};

}  // namespace deepseek
