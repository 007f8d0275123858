// SPDX-License-Identifier: Apache-2.0
// decode_steps: one token after the other with a decoder. On a backend with graphs a step is
// recorded and replayed: token and position stand in its memory, and the launches serve every
// length up to a bound, 512 2^k positions or the capacity. At each bound the first step launches
// one by one (memory grows then), the second is recorded, all others are replayed. A step that does
// not run alike (a cache of another kind, something read back) is launched by decode, and
// `not_replayed()` says why. Same logits either way, bit for bit (latent attention whose form is
// chosen by cost takes that of the bound, and sparse attention selects where the bound is beyond
// top_k). Nothing else differs on a host backend.
// Errors: those of decode.
#pragma once

#include "deepseek/core/graph.hpp"
#include "deepseek/layers/model.hpp"

#include <string>

namespace deepseek {

// Positions that one recording of a step serves, at `length` before it.
constexpr index_t step_bound(index_t length, index_t capacity, index_t least = 512) {
  index_t bound = least;
  while (bound < length + 1) bound *= 2;
  return std::min(bound, capacity);
}

template <class Net, class T, class B>
class decode_steps {
 public:
  using model_type = model<Net, T, B>;
  using decoder_type = typename model_type::decoder_type;
  using space = typename B::space;
  using output_view = typename model_type::output_view;

  // They must outlive this; `least` is the smallest bound.
  decode_steps(const B& b, const model_type& m, decoder_type& d, index_t least = 512)
      : backend_(b), model_(m), decoder_(d), least_(least) {
    require(least > 0, error_code::invalid_argument, "decode_steps: a bound of ", least,
            " positions; write a number > 0");
    if constexpr (has_graphs<B> && !alike) {
      not_replayed_ = "a layer keeps a cache whose launches depend on the length";
    }
  }

  index_t recorded() const { return recorded_; }
  index_t replayed() const { return replayed_; }
  // Why steps are launched one by one on a backend that has graphs; empty: they are replayed.
  const std::string& not_replayed() const { return not_replayed_; }

  // Appends the token; its logits [1, vocabulary], valid until the next step.
  output_view operator()(std::int32_t token) {
    if constexpr (has_graphs<B> && alike) {
      if (not_replayed_.empty()) return step(token);
    }
    return one_by_one(token);
  }

 private:
  static constexpr bool alike = steps_alike<Net, T, space>;
  using graph = typename graph_of<B>::type;

  output_view one_by_one(std::int32_t token) {
    const view<const std::int32_t, host, dyn> id(&token, {1});
    if constexpr (std::is_same_v<space, host>) {
      return model_.decode(backend_, id, decoder_);
    } else {
      if (id_.extent(0) == 0) id_ = tensor<std::int32_t, space, dyn>({1});
      transfer(id, id_);
      return model_.decode(backend_, as_const(id_.view()), decoder_);
    }
  }

  output_view step(std::int32_t token) {
    const index_t length = decoder_.length(), capacity = decoder_.capacity();
    decoder_.require_room(1);
    const std::int32_t pair[2] = {token, static_cast<std::int32_t>(length)};
    transfer(view<const std::int32_t, host, 2>(pair, {2}), given_);
    try {
      launch(step_bound(length, capacity, least_));
    } catch (const error& why) {
      if (why.code() == error_code::device_fatal) throw;
      not_replayed_ = why.what();
      return one_by_one(token);  // throws again what is wrong with more than the replay
    }
    decoder_.advance(1);
    return logits_.view();
  }

  // What the launches depend on: the bound, and where the workspace stands.
  void launch(index_t bound) {
    const auto mark = backend_.workspace().here();
    const auto launches = [&] {
      const run_options<space> run{.moving = {rows(as_const(given_.view()), 1, 1), bound}};
      model_.launch_step(backend_, rows(as_const(given_.view()), 0, 1), logits_.view(), decoder_,
                         run);
    };
    if (bound != bound_ || mark.block != mark_.block || mark.used != mark_.used) {
      backend_.synchronize();  // what was wrong before is not this step's
      runs_.clear();
      bound_ = bound;
      mark_ = mark;
      return launches();
    }
    if (runs_.empty()) {
      runs_.update(backend_, launches);
      ++recorded_;
    }
    runs_.launch(backend_);
    ++replayed_;
  }

  const B& backend_;
  const model_type& model_;
  decoder_type& decoder_;
  index_t least_;
  tensor<std::int32_t, space, 2> given_;  // token and position
  tensor<std::int32_t, space, dyn> id_;
  graph runs_;
  tensor<T, space, dyn, Net::out> logits_{{1, Net::out}};
  typename arena<space>::mark mark_;
  index_t bound_ = 0, recorded_ = 0, replayed_ = 0;
  std::string not_replayed_;
};

}  // namespace deepseek
