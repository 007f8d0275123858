// SPDX-License-Identifier: Apache-2.0
// load_checkpoint(directory, model): fills a model from a checkpoint folder, in our names or those
// of Hugging Face. Plain weights are copied or converted, weights of a quantized model are made
// from the plain ones as they are read, or taken over if the folder holds them already made; one
// tensor, of experts one expert's, is in memory besides the model and its successor.
//   auto m = ds::load_model<net, float>(cpu, directory);       // a new model, or an error
// Every name, shape and type is checked before the first byte is read; the target changes at the
// end, all at once. Left out of a file: statistics of training (an expert's load, zero then) and,
// where config.json says that embeddings are tied, the head. Skipped in a file: rotary tables, a
// tied head, layers of multi-token prediction that the model does not have.
// Errors: missing_tensor, unexpected_tensor (up to 20 names), nonfinite (if asked for), those of
// tensor_reader and make_weight.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>

#include "deepseek/io/checkpoint.hpp"
#include "deepseek/io/tensor_reader.hpp"
#include "deepseek/layers/quantize.hpp"
#include "deepseek/quant/fp8_blocks.hpp"

namespace deepseek {

enum class nonfinite_elements { kept, refused };  // NaN and infinity; refused: every value is seen

struct load_options {
  conversion elements = conversion::exact;
  nonfinite_elements nonfinite = nonfinite_elements::kept;
};

namespace detail {

// Calls f(path, data, shape) for a tensor, or for every expert's part of a stacked one.
template <class Tensor, class F>
void for_each_part(const std::string& path, Tensor& t, const F& f) {
  static_assert(std::is_same_v<typename Tensor::space, host>,
                "deepseek::checkpoint: files are read and written from host memory; use a host "
                "model and ds::transfer_all");
  auto shape = file_shape_of(t);
  if constexpr (is_stacked<std::remove_const_t<Tensor>>) {
    shape.erase(shape.begin());
    const index_t experts = t.view().extent(0), size = t.size() / experts;
    for (index_t e = 0; e < experts; ++e) f(expert_path(path, e), t.data() + e * size, shape);
  } else {
    f(path, t.data(), shape);
  }
}

// A folder holds a formatted weight already made if it has the weight's own tensors; a weight that
// is one tensor has the plain one's name and is made from whatever stands there.
template <class W>
bool holds_made(const checkpoint_directory& from, const tensor_name& at, W& weight) {
  bool all = !is_tensor<W>;
  const auto look = [&](const std::string& path, auto*, const auto&) {
    all = all && from.find(path) != nullptr;
  };
  visit_at(
      at, [&](const tensor_name& part, auto& t) { for_each_part(part.path, t, look); }, weight);
  return all;
}

// Walks a model by what its files hold: sink.tensor(path, role, data, shape) for what is read as it
// is, sink.weight(path, format, weight, expert) for what is made from a plain tensor.
template <class Sink>
struct file_walk {
  const checkpoint_directory& from;
  Sink& sink;

  template <class Tensor>
  void operator()(const tensor_name& at, Tensor& t) const {
    for_each_part(at.path, t, [&](const std::string& path, auto* data, const auto& shape) {
      sink.tensor({path, at.role}, data, shape);
    });
  }
  template <class F, index_t O, index_t I, index_t E, class W>
  void operator()(const tensor_name& at, formatted<F, O, I, E> how, W& w) const {
    if (holds_made(from, at, w)) {
      visit_at(at, *this, w);
    } else if constexpr (E > 1) {
      for (index_t e = 0; e < E; ++e) sink.weight(expert_path(at.path, e), how, w, e);
    } else {
      sink.weight(at.path, how, w, 0);
    }
  }
};
template <class P, class Sink>
void walk_files(const checkpoint_directory& from, P& p, Sink& sink) {
  visit_plain_at({"", field_role::trained}, file_walk<Sink>{from, sink}, p);
}

inline bool is_tied(const checkpoint_directory& from) {
  return from.config() && from.config()->tie_word_embeddings;
}
// Where a folder keeps it: usually there, a tied head in the embedding.
inline std::string stored_path(const checkpoint_directory& from, const std::string& path) {
  const bool tied = path == "head.weight" && from.find(path) == nullptr && is_tied(from);
  return tied ? "embed.weight" : path;
}

template <class T>
inline constexpr f8_meaning meaning_for =
    std::is_same_v<T, f8_e4m3> ? f8_meaning::codes : f8_meaning::scaled;

// First pass: names, shapes and types of everything, no data.
struct load_check {
  const checkpoint_directory& from;
  const load_options& options;
  std::set<std::string, std::less<>> used = {};
  std::vector<std::string> missing = {};

  template <class T>
  void tensor(const tensor_name& at, T*, const std::vector<std::int64_t>& shape) {
    const bool may_lack = at.role == field_role::state && path_ends_with(at.path, ".load");
    if (may_lack && from.find(at.path) == nullptr) return;
    note<T>(at.path, shape, options.elements);
  }
  template <class F, index_t O, index_t I, index_t E, class W>
  void weight(const std::string& path, formatted<F, O, I, E>, W&, index_t) {
    require(!needs_calibration<F>, error_code::invalid_argument, "checkpoint ", from.name(), ": ",
            F::name, " needs the range of ", deepseek::escaped(path),
            "'s inputs, which no plain checkpoint holds; load the plain model, calibrate and "
            "quantize it, or use w8a8_per_token");
    if constexpr (is_tensor<W>) {
      note<typename W::value_type>(path, {O, I}, conversion::rounded);
    } else {
      note<float>(path, {O, I}, conversion::rounded);
    }
  }

  void finish() const {
    require(missing.empty(), error_code::missing_tensor, "checkpoint ", from.name(), ": ",
            missing.size(), " tensors are missing: ", listed(missing),
            "; the files belong to another model");
    std::vector<std::string> left;
    for (const auto& [path, tensor] : from.tensors()) {
      if (!used.contains(path) && !is_skipped(path)) left.push_back(tensor.entry->name);
    }
    require(left.empty(), error_code::unexpected_tensor, "checkpoint ", from.name(), ": ",
            left.size(), " tensors are not of this model: ", listed(left),
            "; the files belong to another model");
  }

 private:
  template <class T>
  void note(const std::string& path, const std::vector<std::int64_t>& shape, conversion rule) {
    const std::string stored = stored_path(from, path);
    if (from.find(stored) == nullptr) {
      missing.push_back(path);
      return;
    }
    const tensor_reader reader(from, stored, shape, meaning_for<T>);
    reader.template require_convertible<T>(rule);
    used.insert(stored);
    if (!reader.scale_path().empty()) used.insert(reader.scale_path());
  }
  bool is_skipped(std::string_view path) const {
    if (path_ends_with(path, "rotary_emb.inv_freq")) return true;
    if (path == "head.weight") return is_tied(from);
    if (!path.starts_with("mtp.")) return false;
    // Of a layer that the model has, the copies of embedding and head; of others, everything.
    const std::string_view layer = path.substr(0, path.find('.', 4) + 1);
    const auto first = used.lower_bound(layer);
    if (first == used.end() || !first->starts_with(layer)) return true;
    const std::string_view part = path.substr(layer.size());
    return part == "embed_tokens.weight" || part == "shared_head.head.weight";
  }
};

// Second pass: the data.
struct load_fill {
  const checkpoint_directory& from;
  const load_options& options;
  std::vector<float> plain = {};

  template <class T>
  void tensor(const tensor_name& at, T* data, const std::vector<std::int64_t>& shape) {
    const std::string stored = stored_path(from, at.path);
    if (from.find(stored) == nullptr) return;
    tensor_reader(from, stored, shape, meaning_for<T>).read(data);
    std::int64_t n = 1;
    for (const std::int64_t extent : shape) n *= extent;
    look_at(at.path, data, n);
  }
  template <class F, index_t O, index_t I, index_t E, class W>
  void weight(const std::string& path, formatted<F, O, I, E> how, W& w, index_t expert) {
    const tensor_reader reader(from, stored_path(from, path), {O, I});
    if constexpr (is_tensor<W>) {
      reader.read(w.data() + expert * O * I);
      look_at(path, w.data() + expert * O * I, O * I);
    } else {
      if constexpr (Fp8Format<F>) {
        if (reader.has_blocks_of(fp8_block, fp8_block)) return take_blocks(reader, how, w, expert);
      }
      plain.resize(static_cast<std::size_t>(O * I));
      reader.read(plain.data());
      make_expert_weight(F{}, view<const float, host, O, I>(plain.data(), {O, I}), observed_range{},
                         w, expert);
    }
  }

 private:
  template <class T>
  void look_at(const std::string& path, const T* data, index_t n) const {
    if constexpr (Floating<T>) {
      if (options.nonfinite == nonfinite_elements::kept) return;
      const auto bad = [](T x) { return !std::isfinite(static_cast<double>(x)); };
      const T* at = std::find_if(data, data + n, bad);
      require(at == data + n, error_code::nonfinite, "checkpoint ", from.name(), ": tensor ",
              deepseek::escaped(path), " has ", at == data + n ? 0.0 : static_cast<double>(*at),
              " at element ", at - data, " of ", n, "; mend the files or keep what they hold");
    }
  }
  // 8-bit blocks of the file as they are.
  template <class F, index_t O, index_t I, index_t E, class W>
  void take_blocks(const tensor_reader& reader, formatted<F, O, I, E>, W& w, index_t expert) {
    std::vector<f8_e4m3> codes(static_cast<std::size_t>(O * I));
    reader.read(codes.data());
    const std::vector<float> scale = reader.read_scales();
    const fp8_matrix<host> blocks{{codes.data(), {O, I}},
                                  {scale.data(), {fp8_blocks_in(O), fp8_blocks_in(I)}}};
    make_expert_weight(F{}, blocks, observed_range{}, w, expert);
  }
};

}  // namespace detail

// The target must be zero where a file may lack something: a new one.
template <class P>
void fill_parameters(const checkpoint_directory& from, P& fresh, const load_options& options = {}) {
  detail::load_check check{from, options};
  detail::walk_files(from, fresh, check);
  check.finish();
  detail::load_fill fill{from, options};
  detail::walk_files(from, fresh, fill);
}

// A new model; memory: the model and one tensor.
template <class Net, class T, class B>
model<Net, T, B> load_model(const B& b, const checkpoint_directory& from,
                            const load_options& options = {}) {
  static_assert(std::is_same_v<typename B::space, host>,
                "deepseek::load_checkpoint: files are read into host memory; load there and copy");
  model<Net, T, B> m(b);
  fill_parameters(from, m.parameters(), options);
  return m;
}

// Into a model that is there, unchanged on any error; memory: a second model and one tensor.
template <class Net, class T, class B>
void load_checkpoint(const checkpoint_directory& from, model<Net, T, B>& m,
                     const load_options& options = {}) {
  using P = typename model<Net, T, B>::parameters_type;
  static_assert(std::is_same_v<typename B::space, host>,
                "deepseek::load_checkpoint: files are read into host memory; load there and copy");
  auto fresh = std::make_unique<P>();
  fill_parameters(from, *fresh, options);
  m.parameters() = std::move(*fresh);
}

}  // namespace deepseek
