# SPDX-License-Identifier: Apache-2.0
# Several tests of a room in one program (DEEPSEEK_TESTS_PER_PROGRAM): most of a test's compilation
# is the same templates again, which a batch instantiates once. A batch is a generated source that
# includes first what its tests include, then each test inside a test suite of its own: doctest opens
# a namespace for it, so that equal names do not meet, and CTest runs one suite a process.

# Every file that a source includes, as a path from here or in angle brackets; a test that includes
# another (tests/simulation) stands for what that one includes.
function(batch_includes source result)
  cmake_path(GET source PARENT_PATH folder)
  cmake_path(GET folder FILENAME room)
  file(STRINGS ${source} lines REGEX "^#include ")
  set(includes "")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^#include ([<\"].*[>\"]).*" "\\1" what "${line}")
    string(REGEX REPLACE "[<>\"]" "" path "${what}")
    if(what MATCHES "\\.cpp\"$")
      batch_includes(${CMAKE_CURRENT_SOURCE_DIR}/${path} others)
      list(APPEND includes ${others})
    elseif(what MATCHES "^\"" AND EXISTS ${folder}/${path})
      list(APPEND includes "\"${room}/${path}\"")
    else()
      list(APPEND includes "${what}")
    endif()
  endforeach()
  set(${result} ${includes} PARENT_SCOPE)
endfunction()

# Whether a source may stand in a namespace: not if it uses the preprocessor, opens a namespace of its own
# or all of ours, specializes a template, replaces operator new or finds files by its own place.
function(batchable source result)
  set(alone "^(namespace [A-Za-z_]|using namespace deepseek;|template *<>|extern |int main|# *define|# *(undef|if|pragma))")
  string(APPEND alone "|operator (new|delete)|REGISTER_(LISTENER|REPORTER)|TEST_SUITE|__FILE__")
  file(STRINGS ${source} lines REGEX "${alone}")
  list(FILTER lines EXCLUDE REGEX "^namespace [A-Za-z_]+ =") # another name for a namespace
  if(NOT lines)
    file(STRINGS ${source} others REGEX "^#include \".*\\.cpp\"")
    foreach(line IN LISTS others)
      string(REGEX REPLACE "^#include \"(.*)\".*" "\\1" path "${line}")
      batchable(${CMAKE_CURRENT_SOURCE_DIR}/${path} fine)
      if(NOT fine)
        list(APPEND lines "${path}")
      endif()
    endforeach()
  endif()
  if(lines)
    set(${result} FALSE PARENT_SCOPE)
  else()
    set(${result} TRUE PARENT_SCOPE)
  endif()
  # Another include needs another look.
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
endfunction()

# The source of a batch: the tests <room>/<stem>.cpp, each in the suite test_<room>_<stem>.
function(batch_source path room stems)
  set(text "")
  set(tests "")
  foreach(stem IN LISTS stems)
    batch_includes(${CMAKE_CURRENT_SOURCE_DIR}/${room}/${stem}.cpp includes)
    list(APPEND text ${includes})
    string(APPEND tests "TEST_SUITE(\"test_${room}_${stem}\") {\n"
           "#include \"${room}/${stem}.cpp\"\n}\n")
  endforeach()
  list(PREPEND text "<doctest/doctest.h>")
  list(REMOVE_DUPLICATES text)
  list(TRANSFORM text PREPEND "#include ")
  list(JOIN text "\n" text)
  file(CONFIGURE OUTPUT ${path} CONTENT "${text}\n\n${tests}" @ONLY)
endfunction()

# Cuts a list into pieces of nearly equal length, at most `most` each; piece_<i> and pieces are set.
macro(cut_evenly items most)
  list(LENGTH ${items} length)
  math(EXPR pieces "(${length} + ${most} - 1) / ${most}")
  foreach(i RANGE 1 ${pieces})
    math(EXPR from "${length} * (${i} - 1) / ${pieces}")
    math(EXPR count "${length} * ${i} / ${pieces} - ${from}")
    list(SUBLIST ${items} ${from} ${count} piece_${i})
  endforeach()
endmacro()
