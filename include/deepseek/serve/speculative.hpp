// SPDX-License-Identifier: Apache-2.0
// generate_speculative(b, model, prompt, options, sink): like generate, several tokens a call of
// the model. Each round drafts up to `drafts` tokens, cheaply; the model then runs once over all of
// them and keeps those that speculative_sampler accepts, and one token of its own.
//   Drafts come from the net's multi-token prediction (with_mtp), applied to its own drafts for
// more than one, or from a second model: generate_speculative(b, drafted_by{model, small}, ...).
//   The text: temperature 0, the one of generate, bit for bit; else it has generate's distribution
// and depends on the seed alone. Both hold for nets in which a row of a batch equals the row alone
// and prefill equals decoding (rows_are_independent). Ends, refuses and counts as generate does.
// Source: Leviathan, Kalman and Matias 2023; DeepSeek-V3 technical report 2024, section 5.4.3.
#pragma once

#include "deepseek/serve/generate.hpp"
#include "deepseek/serve/speculative_sampler.hpp"

namespace deepseek {

struct speculative_options {
  index_t tokens = 64;   // new tokens, >= 0
  index_t capacity = 0;  // positions of the cache; 0: as many as needed
  index_t drafts = 1;    // a round, >= 0
  sampler_config sampling{};
};

struct speculation : generation {
  index_t model_calls = 0;  // after the prompt
  index_t drafted = 0, accepted = 0;
  double acceptance() const {
    return drafted > 0 ? static_cast<double>(accepted) / static_cast<double>(drafted) : 0;
  }
  double tokens_per_call() const {
    return model_calls > 0 ? static_cast<double>(new_tokens - 1) / static_cast<double>(model_calls)
                           : 0;
  }
};

// A model whose drafts another model makes.
template <class Model, class Small>
struct drafted_by {
  const Model& model;
  const Small& small;
};
template <class Model, class Small>
drafted_by(const Model&, const Small&) -> drafted_by<Model, Small>;

namespace speculative {

using token_view = view<const std::int32_t, host, dyn>;

// The first draft follows all known tokens, each further one the draft before it.
template <class B, class Model>
struct own_drafts {
  const B& b;
  const Model& model;
  typename Model::decoder_type& cache;  // the model's

  auto after(const std::vector<std::int32_t>& known) const {
    const auto first = static_cast<std::size_t>(cache.drafted()) + 1;
    return model.draft(
        b, token_view{known.data() + first, {static_cast<index_t>(known.size() - first)}}, cache);
  }
  auto after(std::int32_t token) const { return model.draft(b, token_view{&token, {1}}, cache); }
};

template <class B, class Small>
struct drafts_of_model {
  const B& b;
  const Small& model;
  typename Small::decoder_type cache;

  auto after(const std::vector<std::int32_t>& known) {
    const auto size = static_cast<index_t>(known.size());
    cache.rewind(std::min(cache.length(), size - 1));  // what was drafted and not accepted
    const index_t first = cache.length();
    return model.decode(b, token_view{known.data() + first, {size - first}}, cache);
  }
  auto after(std::int32_t token) { return model.decode(b, token_view{&token, {1}}, cache); }
};

template <class View>
auto last_row(const View& logits) {
  return slice(logits, logits.extent(0) - 1);
}

template <class B, class Model, class Drafts>
class run {
  static_assert(std::is_same_v<typename B::space, host>,
                "deepseek::generate_speculative: drafts and logits are compared on the host; use "
                "generate() on this backend");

 public:
  run(const B& b, const Model& model, typename Model::decoder_type& cache, Drafts& drafts,
      const speculative_options& options)
      : b_(b),
        model_(model),
        cache_(cache),
        drafts_(drafts),
        options_(options),
        draw_(options.sampling) {}

  template <class Sink>
  speculation operator()(const token_view& prompt, Sink& sink) {
    known_.assign(prompt.data(), prompt.data() + prompt.extent(0));
    done_.prompt_tokens = prompt.extent(0);
    round_ = {timed(done_.prefill_seconds,
                    [&] { return draw_.next(last_row(model_.decode(b_, prompt, cache_)), 0); })};
    for (;;) {
      for (const std::int32_t token : round_) {
        known_.push_back(token);
        ++done_.new_tokens;
        const bool more = wants_more(sink, token);
        if (done_.new_tokens == options_.tokens) return done_;
        if (!more) return ended(generation_end::sink);
      }
      if (cache_.length() == cache_.capacity()) return ended(generation_end::capacity);
      timed(done_.decode_seconds, [&] { next_round(); });
    }
  }

 private:
  speculation ended(generation_end how) {
    done_.ended = how;
    return done_;
  }

  // Drafts, runs the model over them, and leaves the tokens that come next in round_.
  void next_round() {
    const index_t room = std::min(options_.tokens - done_.new_tokens,
                                  cache_.capacity() - cache_.length());  // of new tokens
    const auto count = static_cast<std::size_t>(std::min(options_.drafts, room - 1));
    const auto position = static_cast<std::uint64_t>(done_.new_tokens);
    input_.assign(1, known_.back());
    for (std::size_t i = 0; i < count; ++i) {
      const auto logits = i == 0 ? drafts_.after(known_) : drafts_.after(input_.back());
      input_.push_back(draw_.draft(last_row(logits), i, position + i));
    }
    const index_t before = cache_.length();
    const auto logits =
        model_.decode(b_, token_view{input_.data(), {static_cast<index_t>(input_.size())}}, cache_);
    round_.clear();
    std::size_t i = 0;
    for (bool accepted = true; accepted && i < count; i += accepted ? 1 : 0) {
      const auto verdict = draw_.verify(slice(logits, static_cast<index_t>(i)), i, position + i);
      round_.push_back(verdict.token);
      accepted = verdict.accepted;
    }
    if (i == count) round_.push_back(draw_.next(last_row(logits), position + i));
    cache_.rewind(before + static_cast<index_t>(round_.size()));
    ++done_.model_calls;
    done_.drafted += static_cast<index_t>(count);
    done_.accepted += static_cast<index_t>(i);
  }

  const B& b_;
  const Model& model_;
  typename Model::decoder_type& cache_;
  Drafts& drafts_;
  const speculative_options& options_;
  speculative_sampler draw_;
  std::vector<std::int32_t> known_, input_, round_;
  speculation done_;
};

// Checks what generate checks; the capacity that is needed.
inline index_t checked_capacity(const token_view& prompt, const speculative_options& options) {
  require(prompt.extent(0) > 0, error_code::invalid_argument,
          "generate_speculative: the prompt is empty; begin with at least one token");
  require(options.tokens >= 0 && options.capacity >= 0 && options.drafts >= 0,
          error_code::invalid_argument, "generate_speculative: tokens is ", options.tokens,
          ", capacity ", options.capacity, " and drafts ", options.drafts, "; write numbers >= 0");
  return options.capacity > 0 ? options.capacity
                              : std::max<index_t>(prompt.extent(0) + options.tokens - 1, 1);
}

}  // namespace speculative

template <class B, class Net, class T, class Prompt, class Sink>
speculation generate_speculative(const B& b, const model<Net, T, B>& m, const Prompt& prompt_in,
                                 const speculative_options& options, Sink&& sink) {
  static_assert(PredictsFurther<Net>,
                "deepseek::generate_speculative: this net drafts nothing (it has no multi-token "
                "prediction); pass drafted_by{model, small} with a second model");
  const speculative::token_view prompt = as_const(as_view(prompt_in));
  auto cache = m.decoder(b, speculative::checked_capacity(prompt, options));
  speculative::own_drafts<B, model<Net, T, B>> drafts{b, m, cache};
  if (options.tokens == 0) return {{.prompt_tokens = prompt.extent(0)}};
  return speculative::run(b, m, cache, drafts, options)(prompt, sink);
}

template <class B, class Model, class Small, class Prompt, class Sink>
speculation generate_speculative(const B& b, const drafted_by<Model, Small>& m,
                                 const Prompt& prompt_in, const speculative_options& options,
                                 Sink&& sink) {
  static_assert(Model::net::out == Small::net::out,
                "deepseek::generate_speculative: the two models have different vocabularies; draft "
                "with a model of the same tokens");
  const speculative::token_view prompt = as_const(as_view(prompt_in));
  const index_t capacity = speculative::checked_capacity(prompt, options);
  auto cache = m.model.decoder(b, capacity);
  speculative::drafts_of_model<B, Small> drafts{b, m.small, m.small.decoder(b, capacity)};
  if (options.tokens == 0) return {{.prompt_tokens = prompt.extent(0)}};
  return speculative::run(b, m.model, cache, drafts, options)(prompt, sink);
}

}  // namespace deepseek
