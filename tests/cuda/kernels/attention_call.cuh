// SPDX-License-Identifier: Apache-2.0
// Attention whose heads have D elements and values DV, known when it is compiled: only the kernels
// of these widths.
#pragma once

#include "cuda/kernels/arguments.cuh"

template <class T, int D>
using heads_of = ds::view<T, ds::device, ds::dyn, ds::dyn, D>;
using far_and_near = ds::both<ds::causal, ds::either<ds::local<1024>, ds::random_blocks<64, 3>>>;

template <class T, class P, int D, int DV>
void attention(const ds::cuda& b, const heads_of<T, D>& q, const heads_of<T, DV>& v,
               const matrix<float>& lse) {
  ds::ops::attention(b, ds::attention_inputs{q, q, v}, ds::attention_outputs{v, lse},
                     ds::attention_spec<P, ds::device>{});
}
template <class T, class P, int D, int DV>
void attention_backward(const ds::cuda& b, const heads_of<T, D>& q, const heads_of<T, DV>& v,
                        const matrix<float>& lse) {
  ds::ops::attention_backward(b, ds::attention_inputs{q, q, v}, ds::attention_outputs{v, lse},
                              ds::attention_gradients{v, q, q, v},
                              ds::attention_spec<P, ds::device>{});
}

#define FORWARD(T, P, D, DV)                                                   \
  template void attention<T, P, D, DV>(const ds::cuda&, const heads_of<T, D>&, \
                                       const heads_of<T, DV>&, const matrix<float>&);
#define BACKWARD(T, P, D, DV)                                                           \
  template void attention_backward<T, P, D, DV>(const ds::cuda&, const heads_of<T, D>&, \
                                                const heads_of<T, DV>&, const matrix<float>&);
