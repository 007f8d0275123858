// SPDX-License-Identifier: Apache-2.0
// view<T, Space, Extents...>: a pointer with extents and strides; extents are static or `dyn`.
// The last extent is the fastest in contiguous views. Strides count elements, 0 broadcasts.
// Plain arrays inside, so device code can hold one. Never owns memory.
#pragma once

#include "deepseek/core/error.hpp"
#include "deepseek/core/space.hpp"

#include <limits>
#include <ostream>
#include <sstream>
#include <string>
#include <type_traits>

namespace deepseek {

namespace detail {
[[noreturn]] inline void fail_extent(int which, index_t given, index_t of_type) {
  fail(error_code::shape_mismatch, "view: extent ", which, " is ", given,
       ", the type of the view says ", of_type,
       "; give data of that shape, or a view whose extent is dyn");
}
[[noreturn]] inline void fail_size(const index_t* extents, int rank) {
  std::ostringstream shape;
  for (int i = 0; i < rank; ++i) shape << (i > 0 ? ", " : "[") << extents[i];
  fail(error_code::overflow, "view: extents ", shape.str(),
       "] are more elements or bytes than 64 bits count; pass the extents of memory that exists");
}
// The product of extents from the last to the first, or the error.
template <int Rank>
index_t counted(const index_t* extents) {
  index_t n = extents[Rank - 1];
  for (int i = Rank - 2; i >= 0; --i) {
    if (__builtin_mul_overflow(n, extents[i], &n)) fail_size(extents, Rank);
  }
  return n;
}
}  // namespace detail

template <class T, class Space, index_t... E>
class view {
 public:
  using value_type = std::remove_const_t<T>;
  using element_type = T;
  using space = Space;
  static constexpr int rank = static_cast<int>(sizeof...(E));
  static constexpr index_t static_extents[rank > 0 ? rank : 1] = {E...};
  using extents_array = index_t[rank > 0 ? rank : 1];

  view() = default;

  // Contiguous, the last extent fastest. Here and below, on the host: shape_mismatch where an
  // extent is not what the type says, overflow where the elements (here their bytes, too) are more
  // than 64 bits count.
  DEEPSEEK_HOST_DEVICE view(T* data, const extents_array& extents) : data_(data) {
    if constexpr (on_host && rank > 0) require_bytes(extents);
    for (int i = 0; i < rank; ++i) extents_[i] = extents[i];
    index_t step = 1;
    for (int i = rank - 1; i >= 0; --i) {
      strides_[i] = step;
      step *= extents[i];
    }
    if constexpr (on_host && some_static) require_extents();
  }
  DEEPSEEK_HOST_DEVICE view(T* data, const extents_array& extents, const extents_array& strides)
      : data_(data) {
    if constexpr (on_host && rank > 1) detail::counted<rank>(extents);
    for (int i = 0; i < rank; ++i) {
      extents_[i] = extents[i];
      strides_[i] = strides[i];
    }
    if constexpr (on_host && some_static) require_extents();
  }
  // From a view of the same data with other (compatible) static extents, or to const.
  template <class U, index_t... F>
  requires(sizeof...(F) == sizeof...(E) && std::is_convertible_v<U*, T*>) DEEPSEEK_HOST_DEVICE
      view(const view<U, Space, F...>& o)
      : data_(o.data()) {
    static_assert(((E == dyn || F == dyn || E == F) && ...),
                  "deepseek::view: two static extents differ; give the layers matching sizes");
    for (int i = 0; i < rank; ++i) {
      extents_[i] = o.extent(i);
      strides_[i] = o.stride(i);
    }
    if constexpr (on_host && ((E != dyn && F == dyn) || ...)) require_extents();
  }

  DEEPSEEK_HOST_DEVICE T* data() const { return data_; }
  DEEPSEEK_HOST_DEVICE index_t extent(int i) const {
    constexpr extents_array fixed = {E...};  // local: nvcc has no static members on the device
    return fixed[i] != dyn ? fixed[i] : extents_[i];
  }
  DEEPSEEK_HOST_DEVICE index_t stride(int i) const { return strides_[i]; }
  // From the last extent, as the constructors count: what they let through cannot overflow here.
  DEEPSEEK_HOST_DEVICE index_t size() const {
    index_t n = 1;
    for (int i = rank - 1; i >= 0; --i) n *= extent(i);
    return n;
  }
  DEEPSEEK_HOST_DEVICE bool empty() const { return size() == 0; }
  DEEPSEEK_HOST_DEVICE bool contiguous() const {
    index_t step = 1;
    for (int i = rank - 1; i >= 0; --i) {
      if (extent(i) > 1 && strides_[i] != step) return false;
      step *= extent(i);
    }
    return true;
  }

  template <class... I>
  requires(sizeof...(I) == sizeof...(E)) DEEPSEEK_HOST_DEVICE T& operator()(I... i) const {
    index_t offset = 0;
    int d = 0;
    ((offset += static_cast<index_t>(i) * strides_[d++]), ...);
    return data_[offset];
  }

 private:
  static constexpr bool some_static = ((E != dyn) || ...);

  // What the type says of the extents holds; a view without data (what is left out) has none.
  void require_extents() const {
    for (int i = 0; i < rank; ++i) {
      if (data_ != nullptr && extents_[i] != extent(i))
        detail::fail_extent(i, extents_[i], extent(i));
    }
  }
  static void require_bytes(const extents_array& extents) {
    constexpr auto most = std::numeric_limits<index_t>::max() / static_cast<index_t>(sizeof(T));
    if (detail::counted<rank>(extents) > most) detail::fail_size(extents, rank);
  }

  T* data_ = nullptr;
  extents_array extents_ = {(E == dyn ? 0 : E)...};
  extents_array strides_ = {};
};

template <class>
inline constexpr bool is_view = false;
template <class T, class S, index_t... E>
inline constexpr bool is_view<view<T, S, E...>> = true;

// The same view reading only.
template <class T, class S, index_t... E>
DEEPSEEK_HOST_DEVICE view<const T, S, E...> as_const(const view<T, S, E...>& v) {
  return v;
}
// The same view with every extent dynamic: what an op hands to a backend that does not look at
// static ones, so that matrices of all sizes share one function.
template <class T, class S, index_t... E>
DEEPSEEK_HOST_DEVICE view<T, S, (static_cast<void>(E), dyn)...> as_dynamic(
    const view<T, S, E...>& v) {
  return v;
}
// Accepts views as they are (tensors have an overload in tensor.hpp): what ops do to arguments.
template <class T, class S, index_t... E>
DEEPSEEK_HOST_DEVICE view<T, S, E...> as_view(const view<T, S, E...>& v) {
  return v;
}

// Rows first .. first + n - 1 (the leading extent).
template <class T, class S, index_t E0, index_t... E>
DEEPSEEK_HOST_DEVICE view<T, S, dyn, E...> rows(const view<T, S, E0, E...>& v, index_t first,
                                                index_t n) {
  index_t extents[1 + sizeof...(E)] = {n}, strides[1 + sizeof...(E)] = {v.stride(0)};
  for (int i = 1; i < v.rank; ++i) {
    extents[i] = v.extent(i);
    strides[i] = v.stride(i);
  }
  return {v.data() + first * v.stride(0), extents, strides};
}

// One element of the leading extent: [E0, E...] -> [E...].
template <class T, class S, index_t E0, index_t... E>
DEEPSEEK_HOST_DEVICE view<T, S, E...> slice(const view<T, S, E0, E...>& v, index_t i) {
  index_t extents[sizeof...(E) > 0 ? sizeof...(E) : 1] = {};
  index_t strides[sizeof...(E) > 0 ? sizeof...(E) : 1] = {};
  for (int d = 1; d < v.rank; ++d) {
    extents[d - 1] = v.extent(d);
    strides[d - 1] = v.stride(d);
  }
  return {v.data() + i * v.stride(0), extents, strides};
}

// Elements First .. First + Count - 1 of the last extent, of rows or of heads.
template <index_t First, index_t Count, class T, class S, index_t N, index_t W>
DEEPSEEK_HOST_DEVICE view<T, S, N, Count> columns(const view<T, S, N, W>& v) {
  static_assert(W == dyn || First + Count <= W,
                "deepseek::columns: more columns than there are; write columns<first, count>");
  return {v.data() + First * v.stride(1), {v.extent(0), Count}, {v.stride(0), v.stride(1)}};
}
template <index_t First, index_t Count, class T, class S, index_t N, index_t H, index_t W>
DEEPSEEK_HOST_DEVICE view<T, S, N, H, Count> columns(const view<T, S, N, H, W>& v) {
  static_assert(W == dyn || First + Count <= W,
                "deepseek::columns: more columns than there are; write columns<first, count>");
  return {v.data() + First * v.stride(2),
          {v.extent(0), v.extent(1), Count},
          {v.stride(0), v.stride(1), v.stride(2)}};
}

// The last two extents exchanged; no data moves.
template <class T, class S, index_t A, index_t B>
DEEPSEEK_HOST_DEVICE view<T, S, B, A> transposed(const view<T, S, A, B>& v) {
  return {v.data(), {v.extent(1), v.extent(0)}, {v.stride(1), v.stride(0)}};
}
template <class T, class S, index_t N, index_t A, index_t B>
DEEPSEEK_HOST_DEVICE view<T, S, N, B, A> transposed(const view<T, S, N, A, B>& v) {
  return {
      v.data(), {v.extent(0), v.extent(2), v.extent(1)}, {v.stride(0), v.stride(2), v.stride(1)}};
}

// Contiguous columns seen as heads: [tokens, heads * head_dim] -> [tokens, heads, head_dim].
template <index_t Heads, index_t HeadDim, class T, class S, index_t N, index_t W>
DEEPSEEK_HOST_DEVICE view<T, S, N, Heads, HeadDim> as_heads(const view<T, S, N, W>& v) {
  static_assert(W == dyn || W == Heads * HeadDim,
                "deepseek::as_heads: the width is not heads x head_dim; fix one of the three");
  return {
      v.data(), {v.extent(0), Heads, HeadDim}, {v.stride(0), HeadDim * v.stride(1), v.stride(1)}};
}

// The extents of a view, written as "[2, 3, 4]" where a message needs them and not before: a check
// that holds makes no string.
struct shape_text {
  static constexpr int most = 8;
  int rank = 0;
  index_t extents[most] = {};
};
inline std::ostream& operator<<(std::ostream& out, const shape_text& shape) {
  out << '[';
  for (int i = 0; i < shape.rank; ++i) out << (i > 0 ? ", " : "") << shape.extents[i];
  return out << ']';
}
template <class View>
shape_text shape_of(const View& v) {
  static_assert(View::rank <= shape_text::most, "deepseek::shape_of: more extents than 8");
  shape_text shape{View::rank};
  for (int i = 0; i < View::rank; ++i) shape.extents[i] = v.extent(i);
  return shape;
}

inline std::string to_string(const shape_text& shape) {
  std::ostringstream text;
  text << shape;
  return text.str();
}
template <class View>
std::string shape_string(const View& v) {
  return to_string(shape_of(v));
}

}  // namespace deepseek
