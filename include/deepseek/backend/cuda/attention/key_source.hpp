// SPDX-License-Identifier: Apache-2.0
// Where the tiles of `Keys` keys (32 or 64) come from that a tensor-core kernel goes over. A source
// gives tiles in order (k0: number of the first key of a tile, which says its range of 512; no_key:
// there are none left), the memory row and the position of a key of a tile, and what rows see.
//   placed_keys  all positions, in order or in pages; tiles that nobody sees are left out
//   chosen_keys  the keys that the list of one query names (index_set, ascending): the rows of a
//                block are heads of that query, and memory that it does not name is not read. Key i
//                is entry i of the list. An entry that the sequence does not have, and one listed
//                before, are rows of zeros that nobody sees: memory traffic follows the list alone.
//                Each warp has the entries of a tile in its lanes, the next tile's are under way.
#pragma once

#include "deepseek/backend/cuda/attention/row_launch.hpp"
#include "deepseek/pattern/index_set.hpp"

namespace deepseek::cuda_attention {

// Patterns by which a query sees exactly what an index_set lists for it.
template <class P>
struct listing {
  static constexpr bool exists = false;
};
template <>
struct listing<index_set> {
  static constexpr bool exists = true;
  DEEPSEEK_HOST_DEVICE static const index_set& of(const index_set& p) { return p; }
};
template <class P, class M>
requires listing<P>::exists struct listing<scored<P, M>> {
  static constexpr bool exists = true;
  DEEPSEEK_HOST_DEVICE static const index_set& of(const scored<P, M>& p) {
    return listing<P>::of(p.pattern);
  }
};

// A bit for each key of a tile.
template <int Keys>
using key_bits = std::conditional_t<Keys == 32, std::uint32_t, std::uint64_t>;

template <class P, class S, int Keys>
struct placed_keys {
  static constexpr bool of_one_query = false;
  static constexpr bool hides = true;  // what a row does not see may hold anything
  const P& pattern;
  const row_task<S>& at;

  struct tile {
    index_t k0;
  };
  // Of a row, at most.
  template <class In, class Spec>
  static index_t most(const In& in, const Spec& spec) {
    return spec.pages.size > 0 ? spec.keys : in.k.extent(0);
  }
  DEEPSEEK_HOST_DEVICE index_t count() const { return at.seq.keys; }

  template <class Block>
  DEEPSEEK_HOST_DEVICE tile first(const Block& block, index_t from) const {
    return {next_shared_tile(block, pattern, at.seq, at.rows, from)};
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE tile after(const Block& block, const tile& t, index_t end) const {
    if constexpr (Keys < key_tile) {
      if (t.k0 % key_tile == 0 && t.k0 + Keys < end) return {t.k0 + Keys};
    }
    return first(block, t.k0 / key_tile * key_tile + key_tile);
  }
  // Of key j of the tile; -1: there is none. All lanes of a warp call it.
  template <class Block>
  DEEPSEEK_HOST_DEVICE index_t memory_row(const Block&, const tile& t, int j) const {
    return t.k0 + j < at.seq.keys ? at.seq.key_row(t.k0 + j) : -1;
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE index_t position(const Block&, const tile& t, int j) const {
    return t.k0 + j;
  }
  // Bit j: row r, for whose head `bound` is, sees key j; a row that does not exist sees all.
  DEEPSEEK_HOST_DEVICE key_bits<Keys> seen(const P& bound, int r, const tile& t) const {
    const index_t word = t.k0 / key_tile * key_tile;
    std::uint64_t bits = span_bits(0, at.seq.keys, word);
    if (at.rows.holds(r)) bits &= row_bits(bound, at.seq.start + at.rows.query(r), word);
    return static_cast<key_bits<Keys>>(t.k0 == word ? bits : bits >> Keys);
  }
};

template <class P, class S, int Keys>
class chosen_keys {
 public:
  static constexpr bool of_one_query = true;
  static constexpr bool hides = false;
  static constexpr int each = Keys / warp_size;  // keys of a lane: entries lane + 32 i

  // id, ahead: of this lane's entries of the tile and of the next one.
  struct tile {
    index_t k0;
    std::uint32_t id[each], ahead[each];
    key_bits<Keys> bits;
  };
  DEEPSEEK_HOST_DEVICE chosen_keys(const P& pattern, const row_task<S>& at)
      : at_(at),
        list_(listing<P>::of(pattern)
                  .bind(at.seq.scope(at.rows.first_head))
                  .of(at.seq.start + at.rows.first_query)),
        keys_(at.seq.keys < none ? static_cast<std::uint32_t>(at.seq.keys) : none) {}

  template <class In, class Spec>
  static index_t most(const In&, const Spec& spec) {
    return listing<P>::of(spec.pattern).count;
  }
  DEEPSEEK_HOST_DEVICE index_t count() const { return list_.count; }

  template <class Block>
  DEEPSEEK_HOST_DEVICE tile first(const Block& block, index_t from) const {
    tile t{from, {}, {}, 0};
    look(block, from, t.id);
    look(block, from + Keys, t.ahead);
    note(block, t, entry(from - 1));
    return t;
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE tile after(const Block& block, const tile& before, index_t) const {
    tile t{before.k0 + Keys, {}, {}, 0};
    DEEPSEEK_UNROLL
    for (int i = 0; i < each; ++i) t.id[i] = before.ahead[i];
    look(block, t.k0 + Keys, t.ahead);
    note(block, t, block.shuffle(before.id[each - 1], warp_size - 1));
    return t;
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE index_t memory_row(const Block& block, const tile& t, int j) const {
    const std::uint32_t id = id_of(block, t, j);
    return (t.bits >> j & 1) != 0 ? at_.seq.key_row(static_cast<index_t>(id)) : -1;
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE index_t position(const Block& block, const tile& t, int j) const {
    const std::uint32_t id = id_of(block, t, j);
    return id < keys_ ? static_cast<index_t>(id) : 0;
  }
  DEEPSEEK_HOST_DEVICE key_bits<Keys> seen(const P&, int, const tile& t) const { return t.bits; }

 private:
  static_assert(each == 1 || each == 2);
  static constexpr std::uint32_t none = std::uint32_t{1} << 31;  // above every id

  // What entry i says as it stands: no entry, and a negative one, are none or more.
  DEEPSEEK_HOST_DEVICE std::uint32_t entry(index_t i) const {
    if (i < 0 || i >= list_.count) return none;
    return static_cast<std::uint32_t>(list_.data[i * list_.stride]);
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void look(const Block& block, index_t from,
                                 std::uint32_t (&to)[each]) const {
    DEEPSEEK_UNROLL
    for (int i = 0; i < each; ++i) to[i] = entry(from + i * warp_size + block.lane());
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE static std::uint32_t id_of(const Block& block, const tile& t, int j) {
    std::uint32_t id = block.shuffle(t.id[0], j % warp_size);
    if constexpr (each == 2) {
      const std::uint32_t second = block.shuffle(t.id[1], j % warp_size);
      id = j < warp_size ? id : second;
    }
    return id;
  }
  // The bits and the end; before: the entry before the tile. The list ascends: where a tile's first
  // entry is not there, none is.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void note(const Block& block, tile& t, std::uint32_t before) const {
    DEEPSEEK_UNROLL
    for (int i = 0; i < each; ++i) {
      const std::uint32_t id = t.id[i];
      const std::uint32_t left = block.shuffle(id, (block.lane() + warp_size - 1) % warp_size);
      const bool there = id < keys_, again = id == (block.lane() == 0 ? before : left);
      const std::uint32_t present = block.ballot(there);
      if (i == 0 && (present & 1) == 0) t.k0 = no_key;
      t.bits |= static_cast<key_bits<Keys>>(block.ballot(there && !again)) << i * warp_size;
      before = block.shuffle(id, warp_size - 1);
    }
  }

  const row_task<S>& at_;
  index_set::listed list_;
  std::uint32_t keys_;
};

}  // namespace deepseek::cuda_attention
