// SPDX-License-Identifier: Apache-2.0
// A compiled Unicode regular expression, searched in valid UTF-8. ^ and $ match at every line feed.
// No search runs for ever: it may go back at most 10^7 + 16 bytes(text) times and use at most
// 64 MiB; what would need more is an error, never another match.
// Errors: regex (does not compile, with the position; a search past its limits, with the position),
// out_of_memory. Immutable, so threads may share one; regex_scratch belongs to one caller.
// Source: PCRE2 10.40 or later (older ones lack \p{White_Space}).
#pragma once

#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#undef PCRE2_CODE_UNIT_WIDTH
#else
#include <pcre2.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>

#include "deepseek/core/error.hpp"

namespace deepseek {

struct text_span {
  std::size_t begin = 0, end = 0;  // bytes [begin, end)
  bool operator==(const text_span&) const = default;
};

namespace detail {

template <auto Free>
struct freed_by {
  template <class T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};
template <class T, auto Free>
using pcre2_owner = std::unique_ptr<T, freed_by<Free>>;

template <class Owner, class T>
Owner owned(T* pointer) {
  if (pointer == nullptr) throw std::bad_alloc();
  return Owner(pointer);
}

inline std::string pcre2_message(int code) {
  unsigned char text[256] = {};
  pcre2_get_error_message_8(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace detail

// What a search works in.
class regex_scratch {
 public:
  regex_scratch()
      : found_(detail::owned<found_owner>(pcre2_match_data_create_8(1, nullptr))),
        limits_(detail::owned<limits_owner>(pcre2_match_context_create_8(nullptr))) {
    pcre2_set_heap_limit_8(limits_.get(), 64 * 1024);  // KiB
  }

 private:
  friend class regex;
  using found_owner = detail::pcre2_owner<pcre2_match_data_8, pcre2_match_data_free_8>;
  using limits_owner = detail::pcre2_owner<pcre2_match_context_8, pcre2_match_context_free_8>;
  using stack_owner = detail::pcre2_owner<pcre2_jit_stack_8, pcre2_jit_stack_free_8>;

  // The machine's stack serves until a search needs more.
  bool grow_stack() {
    if (stack_) return false;
    stack_ = detail::owned<stack_owner>(pcre2_jit_stack_create_8(1 << 16, 1 << 26, nullptr));
    pcre2_jit_stack_assign_8(limits_.get(), nullptr, stack_.get());
    return true;
  }

  found_owner found_;
  limits_owner limits_;
  stack_owner stack_;
};

class regex {
 public:
  // `what` names the pattern in messages.
  regex(std::string_view pattern, std::string what) : what_(std::move(what)) {
    int problem = 0;
    std::size_t at = 0;
    code_.reset(
        pcre2_compile_8(reinterpret_cast<const unsigned char*>(pattern.data()), pattern.size(),
                        PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &problem,
                        &at, line_feeds()),
        pcre2_code_free_8);
    require(code_ != nullptr, error_code::regex, what_, ": pattern ", deepseek::escaped(pattern),
            " does not compile at byte ", at, " (", detail::pcre2_message(problem),
            "); write a regular expression");
    pcre2_jit_compile_8(code_.get(), PCRE2_JIT_COMPLETE);  // without it: slower, the same matches
  }

  // The first match that begins at `from` or later.
  std::optional<text_span> find(std::string_view text, std::size_t from,
                                regex_scratch& scratch) const {
    constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
    pcre2_set_match_limit_8(
        scratch.limits_.get(),
        static_cast<std::uint32_t>(std::min(most, std::size_t{10'000'000} + 16 * text.size())));
    int count = 0;
    do {
      count = pcre2_match_8(code_.get(), reinterpret_cast<const unsigned char*>(text.data()),
                            text.size(), from, PCRE2_NO_UTF_CHECK, scratch.found_.get(),
                            scratch.limits_.get());
    } while (count == PCRE2_ERROR_JIT_STACKLIMIT && scratch.grow_stack());
    if (count == PCRE2_ERROR_NOMATCH) return std::nullopt;
    require(count >= 0, error_code::regex, what_, ": the search from byte ", from, " of ",
            text.size(), " was given up (", detail::pcre2_message(count),
            "); the pattern goes back too often on this text, write one that does not");
    const std::size_t* ends = pcre2_get_ovector_pointer_8(scratch.found_.get());
    return text_span{ends[0], std::max(ends[0], ends[1])};
  }

 private:
  // Lines end with a line feed, whatever the library was built for.
  static pcre2_compile_context_8* line_feeds() {
    using owner = detail::pcre2_owner<pcre2_compile_context_8, pcre2_compile_context_free_8>;
    static const owner context = [] {
      auto made = detail::owned<owner>(pcre2_compile_context_create_8(nullptr));
      pcre2_set_newline_8(made.get(), PCRE2_NEWLINE_LF);
      pcre2_set_parens_nest_limit_8(made.get(), 100);
      return made;
    }();
    return context.get();
  }

  std::string what_;
  std::shared_ptr<pcre2_code_8> code_;
};

}  // namespace deepseek
