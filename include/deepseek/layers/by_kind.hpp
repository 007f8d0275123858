// SPDX-License-Identifier: Apache-2.0
// Inputs of several kinds in one model. row_order joins them: it says, sequence by sequence, which
// rows of which kind follow each other, and so makes packed rows with offsets. by_kind is the input
// that a model gets: one view for each kind and the order.
//   ds::row_order order({bytes, patches});           // rows that there are of kind 0, 1
//   order.add(1, 0, 6), order.add(0, 0, 12), order.end_sequence();
//   m(b, ds::by_kind(order, text.view(), images.view()), {.sequences = order.offsets()});
// A row may be used several times or not at all. Errors: index_range (a kind or row that there is
// not), invalid_argument. The order lives in host memory and must outlive the view of it.
#pragma once

#include "deepseek/layers/layer.hpp"

#include <tuple>
#include <vector>

namespace deepseek {

struct row_kinds {};  // call tag: view [tokens] of int32, the kind of each row

class row_order {
 public:
  using ids = view<const std::int32_t, host, dyn>;

  // Rows of each kind, in the order of the kinds.
  explicit row_order(const std::vector<index_t>& rows) {
    for (const index_t n : rows) {
      require(n >= 0 && n <= index_t{0x7fffffff} - starts_.back(), error_code::invalid_argument,
              "row_order: ", n, " rows of kind ", starts_.size() - 1,
              "; pass numbers >= 0 whose sum is at most 2147483647");
      starts_.push_back(starts_.back() + n);
    }
  }
  // The sequence goes on with `count` rows of a kind, from row `first` of it on.
  void add(index_t kind, index_t first, index_t count) {
    const index_t known = kinds();
    require(kind >= 0 && kind < known, error_code::index_range, "row_order: kind ", kind, " of ",
            known, "; pass 0 .. ", known - 1);
    const index_t start = starts_[static_cast<std::size_t>(kind)];
    const index_t there = starts_[static_cast<std::size_t>(kind) + 1] - start;
    require(first >= 0 && count >= 0 && first <= there - count, error_code::index_range,
            "row_order: rows ", first, " .. ", first + count, " of kind ", kind, " that has ",
            there, "; pass rows that there are");
    for (index_t i = first; i < first + count; ++i) {
      order_.push_back(static_cast<std::int32_t>(start + i));
      kinds_.push_back(static_cast<std::int32_t>(kind));
    }
  }
  void end_sequence() { offsets_.push_back(static_cast<std::int32_t>(order_.size())); }

  index_t kinds() const { return static_cast<index_t>(starts_.size()) - 1; }
  index_t rows() const { return starts_.back(); }  // of all kinds, joined or not
  ids order() const { return view_of(order_); }
  ids kind_of_rows() const { return view_of(kinds_); }
  ids offsets() const { return view_of(offsets_); }

 private:
  static ids view_of(const std::vector<std::int32_t>& v) {
    return {v.data(), {static_cast<index_t>(v.size())}};
  }
  std::vector<index_t> starts_{0};
  std::vector<std::int32_t> order_, kinds_, offsets_{0};
};

// One view for each kind (V...), and row r of the model's input: row order[r] of all kinds one
// after the other, of kind kinds[r]. The views may live in a device's memory.
template <class Space, class... V>
struct inputs_view {
  using ids = view<const std::int32_t, Space, dyn>;
  static constexpr std::size_t count = sizeof...(V);
  std::tuple<V...> given;
  ids order, kinds;

  index_t extent(int) const { return order.extent(0); }
  template <std::size_t I>
  const auto& of() const {
    return std::get<I>(given);
  }
  template <class C>
  auto lend(const C& c) const {
    return c.template with<row_kinds>(kinds);
  }
};

template <class... X>
auto by_kind(const row_order& order, const X&... given) {
  require(order.kinds() == static_cast<index_t>(sizeof...(X)), error_code::invalid_argument,
          "by_kind: ", sizeof...(X), " inputs for an order of ", order.kinds(),
          " kinds; pass one for each");
  return inputs_view<host, decltype(as_const(as_view(given)))...>{
      {as_const(as_view(given))...}, order.order(), order.kind_of_rows()};
}
template <class S, class... V>
inputs_view<S, V...> as_view(const inputs_view<S, V...>& x) {
  return x;
}
template <class S, class... V>
inputs_view<S, V...> as_const(const inputs_view<S, V...>& x) {
  return x;  // its views read only
}

}  // namespace deepseek
