// SPDX-License-Identifier: Apache-2.0
// generate(b, model, prompt, options, sink): the prompt at once, then one token after the other
// with a cache; sink(token) gets each new token and may return false to stop.
// Ends with the first of: options.tokens new tokens; sink says stop; the cache is full (capacity
// positions hold the prompt and all new tokens but the last). On a backend with graphs the steps
// after the prompt are recorded and replayed. `ended` says which; only a prompt
// that does not fit is an error. Same bits for every thread count.
// Errors: invalid_argument (empty prompt, negative numbers), index_range (prompt longer than the
// capacity, token outside the vocabulary), nonfinite (logits), config (sampler).
#pragma once

#include "deepseek/serve/decode_steps.hpp"
#include "deepseek/serve/sampler.hpp"

#include <chrono>

namespace deepseek {

struct generate_options {
  index_t tokens = 64;   // new tokens, >= 0
  index_t capacity = 0;  // positions of the cache; 0: as many as needed
  sampler_config sampling{};
};

enum class generation_end { tokens, sink, capacity };

struct generation {
  index_t prompt_tokens = 0, new_tokens = 0;
  double prefill_seconds = 0, decode_seconds = 0;  // model and sampler, without the sink
  generation_end ended = generation_end::tokens;
  index_t replayed_steps = 0;     // of a recorded step (decode_steps.hpp)
  std::string not_replayed = {};  // why none, on a backend that has graphs; empty: they were
};

// The sink's answer; one that returns nothing goes on.
template <class Sink>
bool wants_more(Sink& sink, std::int32_t token) {
  if constexpr (std::is_void_v<decltype(sink(token))>) {
    sink(token);
    return true;
  } else {
    return static_cast<bool>(sink(token));
  }
}

// Runs f and adds its time to `seconds`.
template <class F>
auto timed(double& seconds, const F& f) {
  const auto begin = std::chrono::steady_clock::now();
  const auto note = [&] {
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  if constexpr (std::is_void_v<decltype(f())>) {
    f();
    note();
  } else {
    const auto result = f();
    note();
    return result;
  }
}

// Token ids and logits on their way between the host and the model's memory; on a host backend
// they are where they should be. What one step needs is kept, so that a step allocates nothing.
template <class T, class Space>
class token_road {
 public:
  using ids = view<const std::int32_t, host, dyn>;

  auto to_model(const ids& given) {
    if constexpr (std::is_same_v<Space, host>) {
      return given;
    } else {
      if (ids_.extent(0) != given.extent(0)) ids_ = id_tensor({given.extent(0)});
      transfer(given, ids_);
      return as_const(ids_.view());
    }
  }
  // The last row of logits [n, V], for the host.
  template <class B, class Logits>
  auto last_row(const B& b, const Logits& logits) {
    const auto row = slice(logits, logits.extent(0) - 1);
    if constexpr (std::is_same_v<Space, host>) {
      return row;
    } else {
      b.synchronize();
      if (row_.extent(0) != row.extent(0)) row_ = tensor<T, host, dyn>({row.extent(0)});
      transfer(view<const T, Space, dyn>(row), row_);
      return as_const(row_.view());
    }
  }

 private:
  using id_tensor = tensor<std::int32_t, Space, dyn>;
  id_tensor ids_;
  tensor<T, host, dyn> row_;
};

// prompt: token ids [n], int32, host.
template <class B, class Net, class T, class Prompt, class Sink>
generation generate(const B& b, const model<Net, T, B>& m, const Prompt& prompt_in,
                    const generate_options& options, Sink&& sink) {
  const view<const std::int32_t, host, dyn> prompt = as_const(as_view(prompt_in));
  const index_t n = prompt.extent(0);
  require(n > 0, error_code::invalid_argument,
          "generate: the prompt is empty; begin with at least one token");
  require(options.tokens >= 0 && options.capacity >= 0, error_code::invalid_argument,
          "generate: tokens is ", options.tokens, " and capacity ", options.capacity,
          "; write numbers >= 0");
  sampler draw(options.sampling);
  generation done{.prompt_tokens = n};
  if (options.tokens == 0) return done;
  auto cache = m.decoder(b, options.capacity > 0 ? options.capacity : n + options.tokens - 1);
  token_road<T, typename B::space> road;
  decode_steps<Net, T, B> step(b, m, cache);
  const auto drawn = [&](const auto& logits) { return draw.next(road.last_row(b, logits)); };
  std::int32_t token =
      timed(done.prefill_seconds, [&] { return drawn(m.decode(b, road.to_model(prompt), cache)); });
  for (;;) {
    ++done.new_tokens;
    done.replayed_steps = step.replayed();
    done.not_replayed = step.not_replayed();
    const bool more = wants_more(sink, token);
    if (done.new_tokens == options.tokens) return done;
    if (!more || cache.length() == cache.capacity()) {
      done.ended = more ? generation_end::capacity : generation_end::sink;
      return done;
    }
    token = timed(done.decode_seconds, [&] { return drawn(step(token)); });
  }
}

}  // namespace deepseek
