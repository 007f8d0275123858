// SPDX-License-Identifier: Apache-2.0
// The names of tensors: ours, which are those of the V4 files ("layers.0.attn.wq.weight"), and
// those of the Hugging Face files of Llama, Qwen2, MoE-16B, V2, V3 and V3.2, which differ word by
// word ("model.layers.0.self_attn.q_proj.weight"). One table serves all of them, both ways.
// A name that is in neither form comes back as it is. Source: the mapping from one form to the
// other in DeepSeek-V3's inference code (convert.py).
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace deepseek {

namespace detail {

struct name_pair {
  std::string_view ours, theirs;
};

// Of tensors outside the layers, up to ".weight".
inline constexpr std::array outer_names{name_pair{"embed.", "model.embed_tokens."},
                                        name_pair{"norm.", "model.norm."},
                                        name_pair{"head.", "lm_head."}};
// Of a layer's parts; what follows is equal on both sides. The first match counts.
inline constexpr std::array layer_names{
    name_pair{"attn_norm.", "input_layernorm."},
    name_pair{"ffn_norm.", "post_attention_layernorm."},
    name_pair{"attn.indexer.", "self_attn.indexer."}, name_pair{"attn.wq.", "self_attn.q_proj."},
    name_pair{"attn.wk.", "self_attn.k_proj."}, name_pair{"attn.wv.", "self_attn.v_proj."},
    name_pair{"attn.wo.", "self_attn.o_proj."}, name_pair{"attn.wq_a.", "self_attn.q_a_proj."},
    name_pair{"attn.q_norm.", "self_attn.q_a_layernorm."},
    name_pair{"attn.wq_b.", "self_attn.q_b_proj."},
    name_pair{"attn.wkv_a.", "self_attn.kv_a_proj_with_mqa."},
    name_pair{"attn.kv_norm.", "self_attn.kv_a_layernorm."},
    name_pair{"attn.wkv_b.", "self_attn.kv_b_proj."},
    name_pair{"ffn.gate.bias", "mlp.gate.e_score_correction_bias"},
    name_pair{"ffn.gate.", "mlp.gate."}, name_pair{"ffn.w1.", "mlp.gate_proj."},
    name_pair{"ffn.w2.", "mlp.down_proj."}, name_pair{"ffn.w3.", "mlp.up_proj."},
    // Only in layers of multi-token prediction, which follow the others.
    name_pair{"enorm.", "enorm."}, name_pair{"hnorm.", "hnorm."}, name_pair{"eh_proj.", "eh_proj."},
    name_pair{"norm.", "shared_head.norm."}, name_pair{"shared_head.head.", "shared_head.head."},
    name_pair{"embed_tokens.", "embed_tokens."}};
// Of an expert's parts.
inline constexpr std::array expert_names{
    name_pair{"w1.", "gate_proj."}, name_pair{"w2.", "down_proj."}, name_pair{"w3.", "up_proj."}};
inline constexpr name_pair layers_name{"layers.", "model.layers."};
inline constexpr name_pair experts_name{"ffn.experts.", "mlp.experts."};
inline constexpr name_pair shared_name{"ffn.shared_experts.", "mlp.shared_experts."};

enum class direction { to_theirs, to_ours };

// Takes `from` off the front of `rest` and puts its counterpart behind `done`.
struct translation {
  direction way;
  std::string done;
  std::string_view rest;

  bool take(const name_pair& pair) {
    const auto [from, to] = way == direction::to_theirs ? pair : name_pair{pair.theirs, pair.ours};
    if (!rest.starts_with(from)) return false;
    done += to;
    rest.remove_prefix(from.size());
    return true;
  }
  bool take_any(const auto& table) {
    return std::ranges::any_of(table, [&](const name_pair& pair) { return take(pair); });
  }
  // "12." of a layer or an expert, copied.
  bool take_number() {
    const std::size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
    if (digits == 0 || digits == rest.size() || rest[digits] != '.') return false;
    done += rest.substr(0, digits + 1);
    rest.remove_prefix(digits + 1);
    return true;
  }
};

inline bool translate(translation& t) {
  if (t.take_any(outer_names)) return true;
  if (!t.take(layers_name) || !t.take_number()) return false;
  if (t.take(shared_name)) return t.take_any(expert_names);
  if (t.take(experts_name)) return t.take_number() && t.take_any(expert_names);
  return t.take_any(layer_names);
}

inline std::string translated(std::string_view name, direction way) {
  translation t{way, "", name};
  return translate(t) ? t.done.append(t.rest) : std::string(name);
}

}  // namespace detail

inline std::string hugging_face_name(std::string_view ours) {
  return detail::translated(ours, detail::direction::to_theirs);
}
inline std::string our_name(std::string_view hugging_face) {
  return detail::translated(hugging_face, detail::direction::to_ours);
}

// The part of a layer of multi-token prediction: of a model of `layers` layers, ours is
// "mtp.0.eh_proj.weight", in Hugging Face's files layer number `layers`. Other paths stay.
inline std::string mtp_path(const std::string& path, std::int64_t layers, std::int64_t mtp_layers) {
  constexpr std::string_view front = "layers.";
  if (!path.starts_with(front)) return path;
  std::int64_t layer = -1;
  const char* const end = path.data() + path.size();
  const auto [rest, problem] = std::from_chars(path.data() + front.size(), end, layer);
  const bool numbered = problem == std::errc() && rest != end && *rest == '.';
  if (!numbered || layer < layers || layer - layers >= mtp_layers) return path;
  return "mtp." + std::to_string(layer - layers) + std::string(rest, end);
}

// "layers.0.ffn.experts.w1.weight", the stack of all experts, as files name its part 3:
// "layers.0.ffn.experts.3.w1.weight".
inline std::string expert_path(std::string_view path, std::ptrdiff_t expert) {
  constexpr std::string_view word = "experts.";
  const std::size_t at = path.find(word);
  if (at == std::string_view::npos) return std::string(path) + "." + std::to_string(expert);
  std::string name(path);
  return name.insert(at + word.size(), std::to_string(expert) + ".");
}

}  // namespace deepseek
