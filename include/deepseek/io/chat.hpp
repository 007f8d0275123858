// SPDX-License-Identifier: Apache-2.0
// Prompts as the published models were trained on them: messages -> text, or token ids.
//   deepseek_llm (and MoE-16B, V2):  {bos}{system}\n\nUser: {u}\n\nAssistant: {a}{eos}User: ...
//   deepseek_coder:  {bos}{system}\n### Instruction:\n{u}\n### Response:\n{a}\n<|EOT|>\n
//   deepseek_v3, deepseek_r1:  {bos}{system}<User>{u}<Assistant>{a}{eos}; deepseek_r1 drops the
//                      reasoning of earlier answers and begins a new one with <think>\n
//   fill in the middle:  <fim begin>{prefix}<fim hole>{suffix}<fim end>
// Code, never a template from a file. Marks are looked up in the tokenizer by name; inside a
// message the same spelling stays text, so a message cannot end a turn. Errors: invalid_argument
// (no message, order of roles), vocab (the tokenizer lacks a mark), those of encode.
// Source: the model cards of DeepSeek LLM, Coder, V2, V3 and R1.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek/io/tokenizer.hpp"

namespace deepseek {

enum class chat_role { system, user, assistant };
enum class chat_format { deepseek_llm, deepseek_coder, deepseek_v3, deepseek_r1 };
// Whether the assistant's next turn is opened.
enum class chat_end { open_answer, closed };

struct chat_message {
  chat_role role = chat_role::user;
  std::string content;
};

// A mark is one token, looked up by name.
struct chat_piece {
  bool is_mark = false;
  std::string text;
  bool operator==(const chat_piece&) const = default;
};
using chat_prompt = std::vector<chat_piece>;

namespace chat_marks {
inline constexpr std::string_view bos = "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
                                  eos = "<\uff5cend\u2581of\u2581sentence\uff5c>",
                                  user = "<\uff5cUser\uff5c>",
                                  assistant = "<\uff5cAssistant\uff5c>", end_of_turn = "<|EOT|>",
                                  think = "<think>", end_think = "</think>",
                                  fim_begin = "<\uff5cfim\u2581begin\uff5c>",
                                  fim_hole = "<\uff5cfim\u2581hole\uff5c>",
                                  fim_end = "<\uff5cfim\u2581end\uff5c>";
}  // namespace chat_marks

inline constexpr std::string_view coder_system_message =
    "You are an AI programming assistant, utilizing the Deepseek Coder model, developed by "
    "Deepseek Company, and you only answer questions related to computer science. For politically "
    "sensitive questions, security and privacy issues, and other non-computer science questions, "
    "you will refuse to answer";

namespace detail {

// Neighbouring texts become one piece, so that the tokenizer sees them as one.
class prompt_writer {
 public:
  void mark(std::string_view name) { prompt_.push_back({true, std::string(name)}); }
  void text(std::string_view text) {
    if (text.empty()) return;
    if (prompt_.empty() || prompt_.back().is_mark) prompt_.push_back({});
    prompt_.back().text += text;
  }
  chat_prompt take() { return std::move(prompt_); }

 private:
  chat_prompt prompt_;
};

inline void write_llm(prompt_writer& out, const chat_message& message) {
  if (message.role == chat_role::system) {
    out.text(message.content + "\n\n");
  } else if (message.role == chat_role::user) {
    out.text("User: " + message.content + "\n\n");
  } else {
    out.text("Assistant: " + message.content);
    out.mark(chat_marks::eos);
  }
}

inline void write_coder(prompt_writer& out, const chat_message& message) {
  if (message.role == chat_role::system) {
    out.text(message.content + "\n");
  } else if (message.role == chat_role::user) {
    out.text("### Instruction:\n" + message.content + "\n");
  } else {
    out.text("### Response:\n" + message.content + "\n");
    out.mark(chat_marks::end_of_turn);
    out.text("\n");
  }
}

inline void write_v3(prompt_writer& out, const chat_message& message, chat_format format) {
  std::string_view content = message.content;
  if (message.role == chat_role::system) {
    out.text(content);
  } else if (message.role == chat_role::user) {
    out.mark(chat_marks::user);
    out.text(content);
  } else {
    const std::size_t end = content.rfind(chat_marks::end_think);
    if (format == chat_format::deepseek_r1 && end != std::string_view::npos) {
      content.remove_prefix(end + chat_marks::end_think.size());
    }
    out.mark(chat_marks::assistant);
    out.text(content);
    out.mark(chat_marks::eos);
  }
}

inline void open_answer(prompt_writer& out, chat_format format) {
  if (format == chat_format::deepseek_llm) return out.text("Assistant:");
  if (format == chat_format::deepseek_coder) return out.text("### Response:\n");
  out.mark(chat_marks::assistant);
  if (format == chat_format::deepseek_r1) {
    out.mark(chat_marks::think);
    out.text("\n");
  }
}

inline void check_roles(const std::vector<chat_message>& messages) {
  require(!messages.empty(), error_code::invalid_argument,
          "chat: there is no message; begin with one of the user");
  chat_role before = chat_role::assistant;  // whoever may not speak now
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const chat_role role = messages[i].role;
    require(role != chat_role::system || i == 0, error_code::invalid_argument, "chat: message ", i,
            " is the system's; only the first may be");
    require(role == chat_role::system || role != before, error_code::invalid_argument,
            "chat: message ", i, " is the ",
            role == chat_role::user ? "user's, like the one before; join the two"
                                    : "assistant's, with none of the user before; add it");
    if (role != chat_role::system) before = role;
  }
}

}  // namespace detail

inline chat_prompt chat(chat_format format, const std::vector<chat_message>& messages,
                        chat_end end = chat_end::open_answer) {
  detail::check_roles(messages);
  require(end == chat_end::closed || messages.back().role != chat_role::assistant,
          error_code::invalid_argument,
          "chat: the last message is the assistant's; add one of the user, or write closed");
  detail::prompt_writer out;
  out.mark(chat_marks::bos);
  if (format == chat_format::deepseek_coder && messages.front().role != chat_role::system) {
    detail::write_coder(out, {chat_role::system, std::string(coder_system_message)});
  }
  for (const auto& message : messages) {
    if (format == chat_format::deepseek_llm) detail::write_llm(out, message);
    if (format == chat_format::deepseek_coder) detail::write_coder(out, message);
    if (format == chat_format::deepseek_v3 || format == chat_format::deepseek_r1) {
      detail::write_v3(out, message, format);
    }
  }
  if (end == chat_end::open_answer) detail::open_answer(out, format);
  return out.take();
}

// The model writes what belongs between the two. Begins with {bos}, as the coder's texts do.
inline chat_prompt fill_in_the_middle(std::string_view prefix, std::string_view suffix) {
  detail::prompt_writer out;
  out.mark(chat_marks::bos);
  out.mark(chat_marks::fim_begin);
  out.text(prefix);
  out.mark(chat_marks::fim_hole);
  out.text(suffix);
  out.mark(chat_marks::fim_end);
  return out.take();
}

// As it is printed in papers.
inline std::string prompt_text(const chat_prompt& prompt) {
  std::string text;
  for (const auto& piece : prompt) text += piece.text;
  return text;
}

inline std::vector<token_id> prompt_ids(const tokenizer& tokenizer, const chat_prompt& prompt) {
  std::vector<token_id> marks;  // of any format: no message may hold one
  for (std::string_view name :
       {chat_marks::bos, chat_marks::eos, chat_marks::user, chat_marks::assistant,
        chat_marks::end_of_turn, chat_marks::think, chat_marks::end_think, chat_marks::fim_begin,
        chat_marks::fim_hole, chat_marks::fim_end}) {
    if (const auto id = tokenizer.find(name)) marks.push_back(*id);
  }
  std::vector<token_id> ids;
  for (const auto& piece : prompt) {
    if (piece.is_mark) {
      ids.push_back(tokenizer.id(piece.text));
    } else {
      const auto part = tokenizer.encode(piece.text, {.as_text = marks});
      ids.insert(ids.end(), part.begin(), part.end());
    }
  }
  return ids;
}

}  // namespace deepseek
