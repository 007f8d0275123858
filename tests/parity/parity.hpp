// SPDX-License-Identifier: Apache-2.0
// A net against the logits of the published implementation: tests/parity/golden holds checkpoints
// in the Hugging Face layout and NAME.logits.safetensors, made by tests/parity/make_checkpoints.py.
// Limits relative to the norm of what is compared: in float 1e-5 at every position; in bf16 0.75 u
// sqrt(n) for a prompt and twice that at a position, u = 2^-8, where n layers come one after the
// other and round what they give: embedding, for each block two norms, attention and feed-forward,
// then norm and head. In bf16 also: hardly further (1.25 times) from the float logits than what the
// published implementation gives in bf16.
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

#include "deepseek/deepseek.hpp"
#include "deepseek/io/load_preset.hpp"

namespace parity {

namespace ds = deepseek;

inline const std::filesystem::path golden = "tests/parity/golden";

template <class T>
std::vector<T> read_all(const ds::safetensors_file& file, const std::string& name) {
  const auto& entry = file.at(name);
  std::vector<T> values(static_cast<std::size_t>(entry.bytes()) / sizeof(T));
  file.read(entry, std::as_writable_bytes(std::span(values)));
  return values;
}

struct prompt {
  std::vector<std::int32_t> ids;
  std::vector<float> logits;          // [ids.size(), vocabulary]
  std::vector<ds::bf16> bf16_logits;  // theirs in bf16; empty for float checkpoints

  auto part(std::size_t first, std::size_t n) const {
    return ds::view<const std::int32_t, ds::host, ds::dyn>(ids.data() + first,
                                                           {static_cast<ds::index_t>(n)});
  }
};
inline std::vector<prompt> prompts_of(const std::string& name) {
  const ds::safetensors_file file(golden / (name + ".logits.safetensors"));
  std::vector<prompt> all;
  for (int i = 0; i < 2; ++i) {
    const std::string n = std::to_string(i);
    all.push_back(
        {read_all<std::int32_t>(file, "prompt." + n), read_all<float>(file, "logits." + n), {}});
    if (file.find("bf16_logits." + n) != nullptr) {
      all.back().bf16_logits = read_all<ds::bf16>(file, "bf16_logits." + n);
    }
  }
  return all;
}

// |y - r| / |r|.
template <class T>
double relative_error(const T* y, const float* r, std::size_t width) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < width; ++i) {
    const double expected = static_cast<double>(r[i]);
    error += std::pow(static_cast<double>(y[i]) - expected, 2);
    size += expected * expected;
  }
  return std::sqrt(error / size);
}

struct errors {
  double all = 0;     // of both prompts
  double row = 0;     // of the worst position
  double theirs = 0;  // of the published implementation in bf16, all
};
template <class Net, class T>
errors prefill_errors(const ds::cpu& b, const ds::model<Net, T, ds::cpu>& m,
                      const std::string& name) {
  constexpr std::size_t width = Net::out;
  errors found;
  for (const auto& p : prompts_of(name)) {
    const auto y = m(b, p.part(0, p.ids.size()));
    const float* r = p.logits.data();
    REQUIRE(p.logits.size() == static_cast<std::size_t>(y.size()));
    found.all = std::max(found.all, relative_error(y.data(), r, p.logits.size()));
    for (std::size_t at = 0; at < p.logits.size(); at += width) {
      found.row = std::max(found.row, relative_error(y.data() + at, r + at, width));
    }
    if (p.bf16_logits.empty()) continue;
    found.theirs = std::max(found.theirs, relative_error(p.bf16_logits.data(), r, p.logits.size()));
  }
  return found;
}

// Token by token and in uneven pieces: the bits of the whole prompt at once.
template <class Net, class T>
void check_decoding(const ds::cpu& b, const ds::model<Net, T, ds::cpu>& m,
                    const std::string& name) {
  for (const auto& p : prompts_of(name)) {
    const auto whole = m(b, p.part(0, p.ids.size()));
    for (const std::size_t first : {std::size_t{1}, std::size_t{5}}) {
      auto decoder = m.decoder(b, static_cast<ds::index_t>(p.ids.size()));
      for (std::size_t at = 0; at < p.ids.size();) {
        const std::size_t n = at == 0 ? first : 1;
        const auto y = m.decode(b, p.part(at, n), decoder);
        const auto* expected = whole.data() + static_cast<ds::index_t>(at) * Net::out;
        CHECK(std::memcmp(y.data(), expected, n * sizeof(T) * static_cast<std::size_t>(Net::out)) ==
              0);
        at += n;
      }
    }
  }
}

// How a golden folder becomes a model: a preset's config is checked against config.json.
template <ds::model_config C, class T>
struct from_preset {
  auto operator()(const ds::cpu& b, const ds::checkpoint_directory& folder) const {
    return ds::load_preset<C, T>(b, folder);
  }
};
template <class Net, class T>
struct from_net {
  auto operator()(const ds::cpu& b, const ds::checkpoint_directory& folder) const {
    return ds::load_model<Net, T>(b, folder);
  }
};

template <class Load>
void check_float(const std::string& name, const Load& load) {
  CAPTURE(name);
  ds::cpu b{{.threads = 2}};
  const auto m = load(b, ds::checkpoint_directory(golden / name));
  const errors found = prefill_errors(b, m, name);
  MESSAGE(name << ": float, worst position " << found.row);
  CHECK(found.row <= 1e-5);
  check_decoding(b, m, name);
}

template <class Load>
void check_bf16(const std::string& name, int blocks, const Load& load) {
  CAPTURE(name);
  ds::cpu b{{.threads = 2}};
  const auto m = load(b, ds::checkpoint_directory(golden / name));
  const errors found = prefill_errors(b, m, name);
  const double u = ds::unit_roundoff<ds::bf16>;
  MESSAGE(name << ": bf16, " << found.all / u << " u, theirs " << found.theirs / u
               << " u; worst position " << found.row / u << " u");
  const double limit = 0.75 * u * std::sqrt(4 * blocks + 3);
  CHECK(found.all <= limit);
  CHECK(found.row <= 2 * limit);
  CHECK(found.all <= 1.25 * found.theirs);
  check_decoding(b, m, name);
}

template <ds::model_config C>
void check_preset_float(const std::string& name) {
  check_float(name, from_preset<C, float>{});
}
template <ds::model_config C>
void check_preset_bf16(const std::string& name) {
  check_bf16(name, static_cast<int>(C.layers), from_preset<C, ds::bf16>{});
}

// The sizes that the golden checkpoints share, put into a released model's config.
constexpr ds::model_config small(ds::model_config c, ds::index_t layers) {
  c.vocabulary = 48;
  c.dim = 32;
  c.layers = layers;
  c.hidden = 40;
  return c;
}
// Of those with latent attention and experts; the form is fixed, so that a decoder gives the bits
// of the whole prompt.
constexpr ds::model_config small_latent(ds::model_config c, ds::index_t layers) {
  c = small(c, layers);
  c.latent.heads = 4;
  c.latent.q_rank = c.latent.q_rank > 0 ? 20 : 0;
  c.latent.kv_rank = 16;
  c.latent.nope_dim = 8;
  c.latent.rope_dim = 4;
  c.latent.v_dim = 6;
  c.latent.theta = 100;
  c.latent.scaling.factor = 4;
  c.latent.scaling.original_length = 16;
  c.latent.form = ds::latent_form::naive;
  c.dense_layers = 1;
  c.experts.hidden = 12;
  c.experts.routed = 8;
  c.experts.shared = 2;
  c.experts.active = 3;
  if (c.gate.groups > 1) {
    c.gate.groups = 4;
    c.gate.top_groups = 2;
  }
  return c;
}

}  // namespace parity
