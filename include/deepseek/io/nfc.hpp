// SPDX-License-Identifier: Apache-2.0
// nfc(text): valid UTF-8 in Unicode's composed normal form, by utf8proc.
// DEEPSEEK_HAS_UTF8PROC is set by the CMake target deepseek::io where that library is found;
// without it nfc_available is false, and a tokenizer that asks for NFC is refused when it is
// loaded. Errors: encode (utf8proc's), unsupported (built without utf8proc). Source: Unicode
// Annex 15.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "deepseek/core/error.hpp"

#ifdef DEEPSEEK_HAS_UTF8PROC
#include <utf8proc.h>
#endif

namespace deepseek {

#ifdef DEEPSEEK_HAS_UTF8PROC
inline constexpr bool nfc_available = true;

inline std::string nfc(std::string_view text) {
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  utf8proc_uint8_t* made = nullptr;
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                   static_cast<utf8proc_ssize_t>(text.size()), &made, options);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(made, &std::free);
  require(length >= 0, error_code::encode, "nfc: ", text.size(), " bytes cannot be normalized (",
          utf8proc_errmsg(length), "); pass less text at once");
  return {reinterpret_cast<const char*>(made), static_cast<std::size_t>(length)};
}
#else
inline constexpr bool nfc_available = false;

inline std::string nfc(std::string_view text) {
  fail(error_code::unsupported, "nfc: ", text.size(), " bytes, but this build has no utf8proc; ",
       "install libutf8proc-dev and configure again");
}
#endif

}  // namespace deepseek
