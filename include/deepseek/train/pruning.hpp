// SPDX-License-Identifier: Apache-2.0
// Masks: which weights of a model stay, one byte each, by the tensor's path. A masked model has its
// old type; zeros stay zero in training where the mask is applied after every step:
//   auto masks = ds::magnitude_masks(m.parameters(), 0.5);
//   masks.apply(b, m.parameters());
//   trainer.after_step([&](auto& p) { masks.apply(b, p); });
// Only weights of linear layers are masked: not embeddings, norms, biases, gates.
//   magnitude_masks  the floor(share N) smallest |w| go: of all weights together, of each tensor,
//   or
//                    of each row; of equal ones the first go
//   activity_masks   the same by |w| sqrt(sum x^2) of the weight's input, row by row (Wanda)
//   n_of_m_masks     n of m neighbours along a row stay (2:4)
//   unit_masks       whole units go (layers/units.hpp); masked neurons and heads compute what
//                    prune() into a smaller type does. A masked expert is still chosen by its gate.
// Errors: invalid_argument (a share outside [0, 1]), nonfinite, missing_tensor, size_mismatch.
// Host. Sources: Han et al. 2015; Zhu, Gupta 2017 (schedule); Sun et al. 2023 (Wanda).
#pragma once

#include "deepseek/layers/prune.hpp"
#include "deepseek/ops/apply_mask.hpp"

#include <map>
#include <span>

namespace deepseek {

class weight_masks {
 public:
  using bytes = std::vector<std::uint8_t>;

  // The mask of a tensor, all ones at first.
  bytes& at(const std::string& path, index_t size) {
    auto& mask = masks_[path];
    if (mask.empty()) mask.assign(static_cast<std::size_t>(size), 1);
    require(mask.size() == static_cast<std::size_t>(size), error_code::size_mismatch,
            "weight_masks: ", path, " has ", size, " weights, its mask ", mask.size(),
            "; the masks belong to another model");
    return mask;
  }
  const std::map<std::string, bytes>& all() const { return masks_; }
  // Forgets the masks of paths that are not accepted: the head, one layer.
  template <class F>
  void only(const F& accepts) {
    std::erase_if(masks_, [&](const auto& one) { return !accepts(one.first); });
  }

  index_t weights() const {
    index_t n = 0;
    for (const auto& [path, mask] : masks_) n += static_cast<index_t>(mask.size());
    return n;
  }
  index_t kept() const {
    index_t n = 0;
    for (const auto& [path, mask] : masks_) {
      n += static_cast<index_t>(mask.size()) - std::ranges::count(mask, 0);
    }
    return n;
  }
  // The share of masked weights that are zero.
  double sparsity() const {
    return masks_.empty() ? 0.0 : 1 - static_cast<double>(kept()) / static_cast<double>(weights());
  }

  // Sets what is masked to zero; every mask must find its tensor.
  template <class B, class P>
  void apply(const B& b, P& p) const {
    std::size_t found = 0;
    visit(
        [&](const tensor_name& name, auto& t) {
          const auto mask = masks_.find(name.path);
          if (mask == masks_.end()) return;
          require(mask->second.size() == static_cast<std::size_t>(t.size()),
                  error_code::size_mismatch, "weight_masks: ", name.path, " has ", t.size(),
                  " weights, its mask ", mask->second.size(),
                  "; the masks belong to another model");
          ops::apply_mask(b, like(t.view(), mask->second.data()), t);
          ++found;
        },
        p);
    require(found == masks_.size(), error_code::missing_tensor, "weight_masks: ", masks_.size(),
            " masks, ", found, " of their tensors are here; the masks belong to another model");
  }

 private:
  template <class T, class S, index_t... E>
  static view<const std::uint8_t, S, E...> like(const view<T, S, E...>& v,
                                                const std::uint8_t* data) {
    typename view<T, S, E...>::extents_array extents;
    for (int i = 0; i < v.rank; ++i) extents[i] = v.extent(i);
    return {data, extents};
  }

  std::map<std::string, bytes> masks_;
};

namespace detail {

template <class L>
inline constexpr bool is_linear = false;
template <index_t I, index_t O, class F, bias B>
inline constexpr bool is_linear<linear<I, O, F, B>> = true;

template <class K>  // a leaf keeps no parts
inline constexpr bool has_parts_kept = std::is_same_v<K, unseen> || has_fields<K>;

// f(path, parameters, kept) for every layer, the outer before the inner ones.
template <class F, class P, class K>
void walk_layers(const std::string& path, const F& f, const P& p, const K& k) {
  if constexpr (is_numbered<P>) {
    for (index_t i = 0; i < P::count; ++i) {
      walk_layers(join_path(path, std::to_string(P::first + i)), f, p[i], kept_item(k, i));
    }
  } else if constexpr (has_fields<P> && !std::is_void_v<layer_of_t<P>>) {
    const auto& kept = inner_kept(k);
    f(path, p, kept);
    if constexpr (has_parts_kept<std::remove_cvref_t<decltype(kept)>>) {
      [&]<std::size_t... I>(std::index_sequence<I...>) {
        (walk_layers(join_path(path, std::get<I>(P::fields()).name), f, field_of<I>(p),
                     kept_field<I>(kept)),
         ...);
      }
      (field_sequence<P>{});
    }
  }
}

inline void require_share(double share) {
  require(share >= 0 && share <= 1, error_code::invalid_argument, "pruning: share is ", share,
          "; pass a number in [0, 1]");
}
inline std::size_t share_of(double share, std::size_t n) {
  return std::min(n, static_cast<std::size_t>(share * static_cast<double>(n) + 1e-9));
}

// Zeroes the mask of the smallest `gone` scores, of equal ones the first.
inline void drop_smallest(std::span<const double> scores, std::size_t gone,
                          const std::vector<std::uint8_t*>& mask) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto before = [&](std::size_t i, std::size_t j) {
    return scores[i] < scores[j] || (scores[i] == scores[j] && i < j);
  };
  const auto end = order.begin() + static_cast<std::ptrdiff_t>(gone);
  if (gone > 0 && gone < order.size()) std::nth_element(order.begin(), end, order.end(), before);
  for (auto i = order.begin(); i != end; ++i) *mask[*i] = 0;
}

// One list of scores and where their masks are; drops the share of it when it is complete.
class score_group {
 public:
  void add(double score, std::uint8_t& mask) {
    require(!std::isnan(score), error_code::nonfinite,
            "pruning: a weight is not a number; prune a model whose weights are finite");
    scores_.push_back(score);
    masks_.push_back(&mask);
  }
  void drop(double share) {
    drop_smallest(scores_, share_of(share, scores_.size()), masks_);
    scores_.clear();
    masks_.clear();
  }

 private:
  std::vector<double> scores_;
  std::vector<std::uint8_t*> masks_;
};

}  // namespace detail

enum class pruning_scope { model, tensor, row };

template <class P>
weight_masks magnitude_masks(const P& p, double share, pruning_scope scope = pruning_scope::model) {
  detail::require_share(share);
  weight_masks out;
  detail::score_group group;
  const auto one = [&](const std::string& path, const auto& layer, const auto&) {
    if constexpr (detail::is_linear<detail::layer_of_t<std::remove_cvref_t<decltype(layer)>>>) {
      const auto& w = layer.weight;
      auto& mask = out.at(join_path(path, "weight"), w.size());
      const index_t row = w.view().extent(w.rank - 1);
      for (index_t i = 0; i < w.size(); ++i) {
        group.add(std::fabs(static_cast<double>(w.data()[i])), mask[static_cast<std::size_t>(i)]);
        if (scope == pruning_scope::row && (i + 1) % row == 0) group.drop(share);
      }
      if (scope == pruning_scope::tensor) group.drop(share);
    }
  };
  detail::walk_layers("", one, p, detail::unseen{});
  group.drop(share);
  return out;
}

// seen: what observe_activity gathered for the same model.
template <class P, class K>
weight_masks activity_masks(const P& p, const K& seen, double share) {
  detail::require_share(share);
  weight_masks out;
  const auto one = [&](const std::string& path, const auto& layer, const auto& kept) {
    if constexpr (detail::is_linear<detail::layer_of_t<std::remove_cvref_t<decltype(layer)>>>) {
      const auto& w = layer.weight;
      const column_activity& inputs = kept.own;
      require(!inputs.rows.empty(), error_code::invalid_argument, "activity_masks: ", path,
              " has seen no rows; call observe_activity with typical inputs first");
      auto& mask = out.at(join_path(path, "weight"), w.size());
      const index_t columns = w.view().extent(w.rank - 1), rows = w.view().extent(w.rank - 2);
      detail::score_group group;
      for (index_t i = 0; i < w.size(); ++i) {
        const index_t set = i / (rows * columns), column = set * columns + i % columns;
        const double size = std::sqrt(inputs.squares[static_cast<std::size_t>(column)]);
        group.add(std::fabs(static_cast<double>(w.data()[i])) * size,
                  mask[static_cast<std::size_t>(i)]);
        if ((i + 1) % columns == 0) group.drop(share);
      }
    }
  };
  detail::walk_layers("", one, p, seen);
  return out;
}

// Linear layers whose input width m divides; others are left alone.
template <class B, class P>
weight_masks n_of_m_masks(const B& b, const P& p, n_of_m stay = {}) {
  weight_masks out;
  const auto one = [&](const std::string& path, const auto& layer, const auto&) {
    if constexpr (detail::is_linear<detail::layer_of_t<std::remove_cvref_t<decltype(layer)>>>) {
      const auto& w = layer.weight;
      using T = typename std::remove_cvref_t<decltype(w)>::value_type;
      const index_t columns = w.view().extent(w.rank - 1);
      if (stay.m > 0 && columns % stay.m != 0) return;
      auto& mask = out.at(join_path(path, "weight"), w.size());
      const index_t rows = w.size() / columns;
      ops::n_of_m_mask(b, view<const T, host, dyn, dyn>(w.data(), {rows, columns}),
                       view<std::uint8_t, host, dyn, dyn>(mask.data(), {rows, columns}), stay);
    }
  };
  detail::walk_layers("", one, p, detail::unseen{});
  return out;
}

// The floor(share count) weakest units of a kind go in every layer that has them, by weights, or by
// activity with `seen`.
template <class P, class K>
weight_masks unit_masks(const P& p, unit_kind kind, double share, const K& seen) {
  detail::require_share(share);
  weight_masks out;
  const auto one = [&](const std::string& path, const auto& layer, const auto& kept) {
    using L = detail::layer_of_t<std::remove_cvref_t<decltype(layer)>>;
    if constexpr (HasUnits<L>) {
      if (units_of<L>::kind != kind) return;
      constexpr index_t units = units_of<L>::count;
      const auto gone = detail::share_of(share, static_cast<std::size_t>(units));
      const auto stay = chosen_units<L>(path, layer, kept, units - static_cast<index_t>(gone));
      units_of<L>::slices(
          [&](const unit_slice& s, const auto& t) {
            if (s.role == field_role::state) return;
            auto& mask = out.at(join_path(path, s.name), t.size());
            const unit_blocks at = blocks_of(s, t, units);
            for (index_t i = 0; i < t.size(); ++i) {
              const auto& set = stay[static_cast<std::size_t>(at.set_of(i))];
              if (!std::ranges::binary_search(set, at.unit_of(i))) {
                mask[static_cast<std::size_t>(i)] = 0;
              }
            }
          },
          layer);
    }
  };
  detail::walk_layers("", one, p, seen);
  return out;
}
template <class P>
weight_masks unit_masks(const P& p, unit_kind kind, double share) {
  return unit_masks(p, kind, share, detail::unseen{});
}

// Sparsity at step t: initial until `begin`, then final + (initial - final) (1 - k / n)^3 with
// k = floor((t - begin) / every) of n = steps / every changes, then final.
struct cubic_sparsity {
  double initial = 0, final = 0.5;
  index_t begin = 0, steps = 1000, every = 100;

  double operator()(index_t t) const {
    require(initial >= 0 && initial <= 1 && final >= 0 && final <= 1 && steps > 0 && every > 0 &&
                every <= steps,
            error_code::config, "cubic_sparsity: from ", initial, " to ", final, " in ", steps,
            " steps, every ", every, "; pass shares in [0, 1] and 0 < every <= steps");
    if (t < begin) return initial;
    const index_t n = steps / every, k = std::min((t - begin) / every, n);
    const double left = 1 - static_cast<double>(k) / static_cast<double>(n);
    return final + (initial - final) * left * left * left;
  }
  // Whether masks are chosen anew before step t.
  bool changes(index_t t) const {
    return t >= begin && t <= begin + steps && (t - begin) % every == 0;
  }
};

}  // namespace deepseek
