# SPDX-License-Identifier: Apache-2.0
# What the tokenizer needs, as imported targets: PCRE2::8BIT (10.40 or later) and, where it is found,
# utf8proc::utf8proc. Neither comes with a CMake package in Debian. Installed beside the package
# configuration, so that its users look for the same. Sets deepseek_io_missing: what deepseek::io
# lacks here, in words; empty when it can be used.

set(deepseek_io_missing "")
find_package(nlohmann_json 3.10 QUIET)
if(NOT nlohmann_json_FOUND)
  list(APPEND deepseek_io_missing "nlohmann-json (nlohmann-json3-dev)")
endif()

if(NOT TARGET PCRE2::8BIT)
  find_path(PCRE2_INCLUDE_DIR pcre2.h)
  find_library(PCRE2_8BIT_LIBRARY NAMES pcre2-8 pcre2-8-static)
  mark_as_advanced(PCRE2_INCLUDE_DIR PCRE2_8BIT_LIBRARY)
  if(PCRE2_INCLUDE_DIR AND PCRE2_8BIT_LIBRARY)
    file(STRINGS ${PCRE2_INCLUDE_DIR}/pcre2.h pcre2_minor REGEX "define PCRE2_MINOR")
    string(REGEX REPLACE "[^0-9]*2[^0-9]*([0-9]+).*" "\\1" pcre2_minor "${pcre2_minor}")
    if(pcre2_minor GREATER_EQUAL 40)
      add_library(PCRE2::8BIT UNKNOWN IMPORTED GLOBAL)
      set_target_properties(
        PCRE2::8BIT PROPERTIES IMPORTED_LOCATION ${PCRE2_8BIT_LIBRARY}
                               INTERFACE_INCLUDE_DIRECTORIES ${PCRE2_INCLUDE_DIR})
    endif()
  endif()
endif()
if(NOT TARGET PCRE2::8BIT)
  list(APPEND deepseek_io_missing "PCRE2 10.40 or later (libpcre2-dev)")
endif()

if(NOT TARGET utf8proc::utf8proc)
  find_path(UTF8PROC_INCLUDE_DIR utf8proc.h)
  find_library(UTF8PROC_LIBRARY NAMES utf8proc)
  mark_as_advanced(UTF8PROC_INCLUDE_DIR UTF8PROC_LIBRARY)
  if(UTF8PROC_INCLUDE_DIR AND UTF8PROC_LIBRARY)
    add_library(utf8proc::utf8proc UNKNOWN IMPORTED GLOBAL)
    set_target_properties(
      utf8proc::utf8proc PROPERTIES IMPORTED_LOCATION ${UTF8PROC_LIBRARY}
                                    INTERFACE_INCLUDE_DIRECTORIES ${UTF8PROC_INCLUDE_DIR})
  endif()
endif()
list(JOIN deepseek_io_missing " and " deepseek_io_missing)
