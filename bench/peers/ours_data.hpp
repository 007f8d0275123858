// SPDX-License-Identifier: Apache-2.0
// What the files of our own ways share: tensors of an element type from floats and back, and the
// format in which each type of weights is stored.
#pragma once

#include "ours.hpp"

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/core/tensor.hpp"
#include "deepseek/quant/int4_activations.hpp"
#include "deepseek/quant/int8_weight.hpp"
#include "deepseek/quant/packed.hpp"

#include <memory>

namespace peers {

namespace ds = deepseek;

template <class T>
using matrix_of = ds::tensor<T, ds::host, ds::dyn, ds::dyn>;
template <class T>
using cube_of = ds::tensor<T, ds::host, ds::dyn, ds::dyn, ds::dyn>;

template <class Tensor>
Tensor copied(const typename Tensor::extents_array& extents, const float* from) {
  Tensor t(extents);
  for (index_t i = 0; i < t.size(); ++i) {
    t.data()[i] = static_cast<typename Tensor::value_type>(from[i]);
  }
  return t;
}

// The floats of a tensor; its own where it holds floats.
template <class Tensor>
const float* as_floats(const Tensor& t, std::vector<float>& room) {
  if constexpr (std::is_same_v<typename Tensor::value_type, float>) {
    return t.data();
  } else {
    room.resize(static_cast<std::size_t>(t.size()));
    for (std::size_t i = 0; i < room.size(); ++i) room[i] = static_cast<float>(t.data()[i]);
    return room.data();
  }
}

// How a type of weights is stored, and the type of activations beside it.
template <element E>
struct stored_as {
  using format = ds::packed<ds::cpu>;
  using activations = std::conditional_t<E == element::bf16, ds::bf16,
                                         std::conditional_t<E == element::f16, ds::f16, float>>;
};
template <>
struct stored_as<element::int8> {
  using format = ds::w8a8_per_token;
  using activations = float;
};
template <>
struct stored_as<element::int4> {
  using format = ds::int4_symmetric_activations<32>;  // bytes of q4_0
  using activations = float;
};

// f(std::integral_constant<element, E>) for the type at run time.
template <class F>
auto with_element(element e, const F& f) {
  switch (e) {
    case element::bf16:
      return f(std::integral_constant<element, element::bf16>{});
    case element::f16:
      return f(std::integral_constant<element, element::f16>{});
    case element::int8:
      return f(std::integral_constant<element, element::int8>{});
    case element::int4:
      return f(std::integral_constant<element, element::int4>{});
    case element::f32:
      break;
  }
  return f(std::integral_constant<element, element::f32>{});
}

// One way of a `Case`, which has run(call) and result().
template <class Case>
way way_of(const char* name, std::shared_ptr<Case> at) {
  way w{name, [at](index_t call) { at->run(call); }, [at] { return at->result(); }, {}, 0};
  if constexpr (requires { at->before(index_t{}); }) {
    w.before = [at](index_t call) { at->before(call); };
  }
  return w;
}

}  // namespace peers
