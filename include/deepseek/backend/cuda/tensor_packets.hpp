// SPDX-License-Identifier: Apache-2.0
// How 16-byte packets of 16-bit numbers become parts of mma.hpp without being rearranged. A product
// may sum its k in any order that both factors share, so a lane keeps what it loaded: of 32 steps
// of k, lane 4 g + t has the packet of steps 8 t .. 8 t + 7 of row g. Its words are the parts of
// two instructions, s = 0, 1: steps 8 t + 4 s .. + 3. Packets along the other side (8 neighbours of
// n at one k) are turned in registers: the eight of steps 8 t .. 8 t + 7 make the parts of 8 rows.
// A packet in shared memory stands where its lane finds it: slot [.][lane], all banks, no swizzle.
//   fragments<T, Form>  what a warp reads of a form's weights for `depth` steps of k: `units`
//                       packets a lane, parts of `tiles` times 16 outputs. Row r of tile i is
//                       output 2 tiles (r % 8) + 2 i + r / 8 of the warp: a lane's outputs are
//                       neighbours. Forms without it have no tensor-core product.
// Proofs: tests/simulation/tensor_packets.cpp.
#pragma once

#include "deepseek/backend/cuda/mma.hpp"
#include "deepseek/backend/cuda/packets.hpp"
#include "deepseek/backend/cuda/pairs16.hpp"
#include "deepseek/backend/cuda/plain_weights.hpp"

namespace deepseek {

namespace cuda_tensor {

inline constexpr int steps = 32;  // of k that a packet a lane covers

// The step of k that column c of the left factor of instruction s is.
DEEPSEEK_HOST_DEVICE constexpr int step_of(int s, int c) {
  return c % 8 / 2 * 8 + 4 * s + c / 8 * 2 + c % 2;
}
// The output of a warp that row r of tile i is.
DEEPSEEK_HOST_DEVICE constexpr int output_of(int tiles, int i, int r) {
  return 2 * tiles * (r % 8) + 2 * i + r / 8;
}

// Rows g and g + 8 of a left factor, and a right factor, from packets along k.
DEEPSEEK_HOST_DEVICE inline mma::a_part left_of(const packet& low, const packet& high, int s) {
  return {{low.word[2 * s], high.word[2 * s], low.word[2 * s + 1], high.word[2 * s + 1]}};
}
DEEPSEEK_HOST_DEVICE inline mma::b_part right_of(const packet& p, int s) {
  return {{p.word[2 * s], p.word[2 * s + 1]}};
}
// The same from the packets of steps 4 s .. 4 s + 3 along the other side: elements 2 i and 2 i + 1
// are rows g and g + 8 of tile i, element j is column g of part j.
DEEPSEEK_HOST_DEVICE inline mma::a_part turned_left(const packet* four, int i) {
  return {{mma::low_halves(four[0].word[i], four[1].word[i]),
           mma::high_halves(four[0].word[i], four[1].word[i]),
           mma::low_halves(four[2].word[i], four[3].word[i]),
           mma::high_halves(four[2].word[i], four[3].word[i])}};
}
DEEPSEEK_HOST_DEVICE inline mma::b_part turned_right(const packet* four, int j) {
  const int w = j / 2;
  if (j % 2 == 0) {
    return {{mma::low_halves(four[0].word[w], four[1].word[w]),
             mma::low_halves(four[2].word[w], four[3].word[w])}};
  }
  return {{mma::high_halves(four[0].word[w], four[1].word[w]),
           mma::high_halves(four[2].word[w], four[3].word[w])}};
}

template <class T, class Form>
struct fragments;

template <class T, class Form>
concept Fragmented = sizeof(T) == 2 && requires {
  fragments<T, Form>::tiles;
};

// What most forms have: no scales of their own, steps of a packet in their order.
template <class Form>
struct plain_fragments {
  static constexpr bool weighs_steps = false, weighs_slabs = false;
  struct group {};
  DEEPSEEK_HOST_DEVICE static group group_at(const Form&, index_t, index_t, index_t) { return {}; }
  DEEPSEEK_HOST_DEVICE static mma::b_part right(const packet& x, int s) { return right_of(x, s); }
};

template <class T>
requires(sizeof(T) == 2) struct fragments<T, cuda_coded::plain_rows<T>>
    : plain_fragments<cuda_coded::plain_rows<T>> {
  using form = cuda_coded::plain_rows<T>;
  static constexpr int tiles = 2, depth = steps, units = 4;

  static bool suits(const form& w) { return w.in % 8 == 0; }
  // Packet `unit` of a lane, of outputs n .. and steps k ..; null: zeros.
  DEEPSEEK_HOST_DEVICE static const void* source(const form& w, index_t e, index_t n, index_t k,
                                                 int lane, int unit) {
    const index_t own_n = n + lane / 4 * 4 + unit, own_k = k + lane % 4 * 8;
    return own_n < w.out && own_k < w.in ? w.at(e, own_n, own_k) : nullptr;
  }
  DEEPSEEK_HOST_DEVICE static mma::a_part left(const packet (&p)[units],
                                               const typename fragments::group&, int i, int s) {
    return left_of(p[2 * i], p[2 * i + 1], s);
  }
};

template <class T>
requires(sizeof(T) == 2) struct fragments<T, cuda_coded::plain_columns<T>>
    : plain_fragments<cuda_coded::plain_columns<T>> {
  using form = cuda_coded::plain_columns<T>;
  static constexpr int tiles = 4, depth = steps, units = 8;

  static bool suits(const form& w) { return w.in % 8 == 0; }
  DEEPSEEK_HOST_DEVICE static const void* source(const form& w, index_t e, index_t n, index_t k,
                                                 int lane, int unit) {
    const index_t own_n = n + lane / 4 * 8, own_k = k + lane % 4 * 8 + unit;
    return own_n < w.out && own_k < w.in ? w.at(e, own_n, own_k) : nullptr;
  }
  DEEPSEEK_HOST_DEVICE static mma::a_part left(const packet (&p)[units],
                                               const typename fragments::group&, int i, int s) {
    return turned_left(p + 4 * s, i);
  }
};

}  // namespace cuda_tensor

}  // namespace deepseek
