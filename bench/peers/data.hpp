// SPDX-License-Identifier: Apache-2.0
// The data of the rows: reproducible floats, rounded to the type of a row where a library would get
// them in it.
#pragma once

#include "support/data.hpp"
#include "task.hpp"

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/space.hpp"

#include <vector>

namespace peers {

// Memory as our tensors have it, lines and large pages whole: what all libraries read costs each of
// them the same.
template <class T>
struct as_in_tensors {
  using value_type = T;
  as_in_tensors() = default;
  template <class U>
  as_in_tensors(const as_in_tensors<U>&) {}
  T* allocate(std::size_t count) {
    return static_cast<T*>(bench::ds::memory<bench::ds::host>::allocate(count * sizeof(T)));
  }
  void deallocate(T* p, std::size_t) noexcept { bench::ds::memory<bench::ds::host>::deallocate(p); }
  friend bool operator==(as_in_tensors, as_in_tensors) { return true; }
};
using floats = std::vector<float, as_in_tensors<float>>;

inline void round_to(element type, floats& numbers) {
  namespace ds = bench::ds;
  for (float& x : numbers) {
    if (type == element::bf16) x = static_cast<float>(ds::bf16(x));
    if (type == element::f16) x = static_cast<float>(ds::f16(x));
  }
}

inline floats made(index_t count, unsigned seed, bench::interval in = {}) {
  floats numbers(static_cast<std::size_t>(count));
  bench::fill(numbers.data(), count, seed, in);
  return numbers;
}
inline floats made_for(element type, index_t count, unsigned seed, bench::interval in = {}) {
  floats numbers = made(count, seed, in);
  round_to(type, numbers);
  return numbers;
}

// The matrices of the experts of one layer, different and yet small: those of an expert begin at
// another place of one sequence of numbers. Expert e + 16 has those of e, so that whoever stores
// them in a type of its own needs to make a quarter.
class expert_matrices {
 public:
  expert_matrices(element type, index_t experts, index_t size)
      : experts_(experts), size_(size), numbers_(made_for(type, size + 3 * different * step, 11)) {
    const float scale = 1 / 32.0F;  // keeps the activations near 1
    for (float& x : numbers_) x *= scale;
  }
  const float* at(experts_task::part p, index_t e) const {
    return numbers_.data() + (e % different * 3 + p) * step;
  }
  const float* stacked(experts_task::part p) {
    floats& all = stacked_[p];
    if (all.empty()) {
      all.resize(static_cast<std::size_t>(experts_ * size_));
      for (index_t e = 0; e < experts_; ++e) {
        std::copy_n(at(p, e), size_, all.data() + e * size_);
      }
    }
    return all.data();
  }

 private:
  static constexpr index_t step = 1009, different = 16;
  index_t experts_, size_;
  floats numbers_;
  floats stacked_[3];
};

}  // namespace peers
