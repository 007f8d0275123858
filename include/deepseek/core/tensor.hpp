// SPDX-License-Identifier: Apache-2.0
// tensor<T, Space, Extents...>: owns contiguous memory of its space, zero at the start.
// All extents static: default construction allocates (parameters). Some `dyn`: give the extents.
// In a stacked<N, Space> every tensor has one more leading extent N (experts side by side).
#pragma once

#include "deepseek/core/view.hpp"

#include <utility>

namespace deepseek {

// Raw owned memory of a space; copies are deep.
template <class T, class Space>
class storage {
 public:
  storage() = default;
  explicit storage(index_t n) : size_(n) {
    require(n >= 0, error_code::invalid_argument, "tensor: ", n, " elements; sizes are >= 0");
    const index_t bytes = checked_product(n, static_cast<index_t>(sizeof(T)));
    if (n == 0) return;
    data_ = static_cast<T*>(memory<Space>::allocate(static_cast<std::size_t>(bytes)));
    memory<Space>::zero(data_, static_cast<std::size_t>(bytes));
  }
  storage(const storage& o) : storage(o.size_) { memory<Space>::copy(data_, o.data_, o.bytes()); }
  storage(storage&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
  storage& operator=(storage o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    return *this;
  }
  ~storage() {
    if (data_ != nullptr) memory<Space>::deallocate(data_);
  }

  T* data() const { return data_; }
  index_t size() const { return size_; }
  std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }

 private:
  T* data_ = nullptr;
  index_t size_ = 0;
};

template <class T, class Space, index_t... E>
class tensor {
 public:
  using value_type = T;
  using space = Space;
  static constexpr int rank = static_cast<int>(sizeof...(E));
  static constexpr bool is_static = ((E != dyn) && ...);
  using view_type = deepseek::view<T, Space, E...>;
  using const_view_type = deepseek::view<const T, Space, E...>;
  using extents_array = typename view_type::extents_array;

  tensor() requires(is_static) : storage_((E * ... * index_t{1})) {}
  tensor() requires(!is_static) = default;
  explicit tensor(const extents_array& extents) : storage_(count(extents)) {
    for (int i = 0; i < rank; ++i) {
      const index_t fixed = view_type::static_extents[i];
      require(fixed == dyn || fixed == extents[i], error_code::shape_mismatch, "tensor: extent ", i,
              " is ", fixed, " by its type, not ", extents[i]);
      extents_[i] = extents[i];
    }
  }

  view_type view() { return {storage_.data(), extents_}; }
  const_view_type view() const { return {storage_.data(), extents_}; }
  T* data() { return storage_.data(); }
  const T* data() const { return storage_.data(); }
  index_t size() const { return storage_.size(); }
  index_t extent(int i) const { return extents_[i]; }
  void zero() { memory<Space>::zero(storage_.data(), storage_.bytes()); }

 private:
  static index_t count(const extents_array& extents) {  // from the last extent, as views count
    index_t n = 1;
    for (int i = rank - 1; i >= 0; --i) {
      require(extents[i] >= 0, error_code::invalid_argument, "tensor: extent ", i, " is ",
              extents[i], "; extents are >= 0");
      n = checked_product(n, extents[i]);
    }
    return n;
  }

  extents_array extents_ = {(E == dyn ? 0 : E)...};
  storage<T, Space> storage_;
};

template <class T, index_t N, class Space, index_t... E>
class tensor<T, stacked<N, Space>, E...> : public tensor<T, Space, N, E...> {};

template <class>
inline constexpr bool is_tensor = false;
template <class T, class S, index_t... E>
inline constexpr bool is_tensor<tensor<T, S, E...>> = true;

template <class>
inline constexpr bool is_stacked = false;
template <class T, index_t N, class S, index_t... E>
inline constexpr bool is_stacked<tensor<T, stacked<N, S>, E...>> = true;

template <class T, class S, index_t... E>
auto as_view(tensor<T, S, E...>& t) {
  return t.view();
}
template <class T, class S, index_t... E>
auto as_view(const tensor<T, S, E...>& t) {
  return t.view();
}

}  // namespace deepseek
