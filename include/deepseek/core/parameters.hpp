// SPDX-License-Identifier: Apache-2.0
// Parameters, and everything else of a layer's shape, generated from the layer's type.
// A leaf layer has `template <class T, class S> struct parameters`; a composite lists its parts
// once as `template <class Of> struct parts { each<Of, L> name; ... fields() }`. Gradients and
// optimizer moments are the same template again. `visit` walks several such structs by name.
#pragma once

#include "deepseek/core/backend.hpp"

#include <array>
#include <string>
#include <tuple>
#include <type_traits>

namespace deepseek {

enum class field_role { trained, state };  // state: saved in files, skipped by optimizers
// How a trained tensor starts, said by the leaf that owns it, whatever it is called: drawn from the
// model's distribution; or fixed (then weight decay leaves it alone).
enum class first_value { drawn, zero, one };

template <class Pointer>
struct field {
  const char* name;
  Pointer pointer;
  field_role role;
  first_value start;
};
template <class Pointer>
constexpr field<Pointer> named(const char* name, Pointer pointer,
                               first_value start = first_value::drawn) {
  return {name, pointer, field_role::trained, start};
}
template <class Pointer>
constexpr field<Pointer> buffer(const char* name, Pointer pointer) {
  return {name, pointer, field_role::state, first_value::zero};
}

template <class Of, class Layer>
using each = typename Of::template of<Layer>;

template <class Layer, class Of>
concept HasParts = requires {
  typename Layer::template parts<Of>;
};
template <class Layer, class T, class S>
concept HasParameters = requires {
  typename Layer::template parameters<T, S>;
};

template <class T, class S>
struct parameters_of;
template <class Layer, class T, class S>
struct parameters_choice {
  using type = none;
};
template <class Layer, class T, class S>
requires HasParameters<Layer, T, S>
struct parameters_choice<Layer, T, S> {
  using type = typename Layer::template parameters<T, S>;
};
template <class Layer, class T, class S>
requires HasParts<Layer, parameters_of<T, S>>
struct parameters_choice<Layer, T, S> {
  using type = typename Layer::template parts<parameters_of<T, S>>;
};

// The parameters of a layer: a plain struct of tensors of T in a memory space.
template <class Layer, class T, class S>
using parameters = typename parameters_choice<Layer, T, S>::type;

template <class T, class S>
struct parameters_of {
  template <class Layer>
  using of = parameters<Layer, T, S>;
};

// N run-time objects of one type, named First, First + 1, ... in paths.
template <class A, index_t N, index_t First>
struct numbered {
  static constexpr index_t first = First, count = N;
  std::array<A, static_cast<std::size_t>(N)> items;
  A& operator[](index_t i) { return items[static_cast<std::size_t>(i)]; }
  const A& operator[](index_t i) const { return items[static_cast<std::size_t>(i)]; }
};
template <class>
inline constexpr bool is_numbered = false;
template <class A, index_t N, index_t First>
inline constexpr bool is_numbered<numbered<A, N, First>> = true;

inline std::string join_path(const std::string& a, const std::string& b) {
  return a.empty() ? b : b.empty() ? a : a + "." + b;
}

// Layers without parameters have `none`, or a struct that adds nothing to it.
template <class P>
inline constexpr bool has_fields = requires {
  P::fields();
};

struct tensor_name {
  std::string path;  // "layers.0.attn.wq.weight"
  field_role role;
  first_value start = first_value::drawn;
};

// Field I of a struct, by that struct's own list: equal names, other element types.
template <std::size_t I, class P>
auto& field_of(P& p) {
  return p.*(std::get<I>(std::remove_const_t<P>::fields()).pointer);
}
template <class P>
using field_sequence = std::make_index_sequence<std::tuple_size_v<decltype(P::fields())>>;

// The name of a field of what is at `at`: what lies in state is state.
inline tensor_name below(const tensor_name& at, const char* name, field_role role,
                         first_value start) {
  return {join_path(at.path, name), at.role == field_role::state ? at.role : role, start};
}
template <class Pointer>
tensor_name below(const tensor_name& at, const field<Pointer>& m) {
  return below(at, m.name, m.role, m.start);
}

// Calls f(tensor_name, tensor, tensors...) for each tensor of one or several structs of one layer
// type; their element types may differ (weights in bf16, gradients in float).
template <class F, class P, class... Q>
void visit_at(const tensor_name& at, F&& f, P& p, Q&... q) {
  using U = std::remove_const_t<P>;
  if constexpr (is_tensor<U>) {
    f(at, p, q...);
  } else if constexpr (is_numbered<U>) {
    for (index_t i = 0; i < U::count; ++i) {
      visit_at({join_path(at.path, std::to_string(U::first + i)), at.role}, f, p[i], q[i]...);
    }
  } else if constexpr (has_fields<U>) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      const auto one = [&]<std::size_t J>(std::integral_constant<std::size_t, J>) {
        const auto m = std::get<J>(U::fields());
        visit_at(below(at, m.name, m.role, m.start), f, p.*(m.pointer), field_of<J>(q)...);
      };
      (one(std::integral_constant<std::size_t, I>{}), ...);
    }
    (field_sequence<U>{});
  }
}
template <class F, class P, class... Q>
void visit(F&& f, P& p, Q&... q) {
  visit_at({"", field_role::trained}, f, p, q...);
}

// Walks a struct by the names of its plain form: f(tensor_name, tensor) for what that form holds
// too; a layer that keeps something made from a plain tensor instead (a weight in another format)
// has visit_plain(at, f, parameters) and calls f with what it needs to make it.
template <class F, class P>
void visit_plain_at(const tensor_name& at, F&& f, P& p) {
  using U = std::remove_const_t<P>;
  if constexpr (requires { U::layer::visit_plain(at, f, p); }) {
    U::layer::visit_plain(at, f, p);
  } else if constexpr (is_tensor<U>) {
    f(at, p);
  } else if constexpr (is_numbered<U>) {
    for (index_t i = 0; i < U::count; ++i) {
      visit_plain_at({join_path(at.path, std::to_string(U::first + i)), at.role}, f, p[i]);
    }
  } else if constexpr (has_fields<U>) {
    std::apply([&](const auto&... m) { (visit_plain_at(below(at, m), f, p.*(m.pointer)), ...); },
               U::fields());
  }
}

// Walks two structs of equal names but different types (plain and quantized parameters), and what
// a calibration kept, with the layer's own convert(path, p, k, q) where it has one.
template <class P, class K, class Q>
void convert_at(const std::string& path, const P& p, const K& k, Q& q);

template <class P, class K, class Q>
void convert_fields(const std::string& path, const P& p, const K& k, Q& q) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (convert_at(join_path(path, std::get<I>(P::fields()).name), field_of<I>(p), field_of<I>(k),
                field_of<I>(q)),
     ...);
  }
  (field_sequence<P>{});
}
template <class P, class K, class Q>
void convert_at(const std::string& path, const P& p, const K& k, Q& q) {
  if constexpr (std::is_same_v<P, Q>) {
    q = p;
  } else if constexpr (requires { P::layer::convert(path, p, k, q); }) {
    P::layer::convert(path, p, k, q);
  } else if constexpr (is_numbered<P>) {
    for (index_t i = 0; i < P::count; ++i) {
      convert_at(join_path(path, std::to_string(P::first + i)), p[i], k[i], q[i]);
    }
  } else if constexpr (has_fields<P>) {
    convert_fields(path, p, k, q);
  }
}
template <class P, class K, class Q>
void convert(const P& p, const K& k, Q& q) {
  convert_at("", p, k, q);
}

// Layers with state that is not trained (an expert's load, a selection bias) move it after a step,
// from the statistic that their gradient slot carries, by ops of the backend b.
template <class B, class P, class G>
void update_buffers(const B& b, P& p, const G& g) {
  if constexpr (is_numbered<P>) {
    for (index_t i = 0; i < P::count; ++i) update_buffers(b, p[i], g[i]);
  } else if constexpr (has_fields<P>) {
    if constexpr (requires { P::layer::update(b, p, g); }) P::layer::update(b, p, g);
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (update_buffers(b, field_of<I>(p), field_of<I>(g)), ...);
    }
    (field_sequence<P>{});
  }
}

}  // namespace deepseek
