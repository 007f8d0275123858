# SPDX-License-Identifier: Apache-2.0
# How our own executables are compiled: flags that no user of the library ever sees.
include(CheckCXXCompilerFlag)

set(deepseek_warnings -Wall -Wextra -Wconversion -Wshadow)
# A newer compiler finds new things to warn about; only those we test with may stop a build.
if((CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
   OR (CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 15))
  list(APPEND deepseek_warnings -Werror)
endif()

add_library(deepseek_private INTERFACE)
# What g++ 12 sees of nvcc's output, optimized: std::string moved over itself, places never written.
set(cuda_warnings ${deepseek_warnings})
list(REMOVE_ITEM cuda_warnings -Wshadow) # cuda_fp16.h has a global `half`, as variables are named
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND cuda_warnings -Wno-array-bounds -Wno-restrict -Wno-stringop-overflow
       -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
list(JOIN cuda_warnings "," host_warnings)
target_compile_options(
  deepseek_private INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${deepseek_warnings}>"
                             "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${host_warnings}>"
                             # A kernel that calls what only the host has: nvcc goes on otherwise.
                             "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=cross-execution-space-call>")

# g++ collects garbage from 128 MB on, which costs a tenth of the time of what takes 1 GB at its peak;
# from 400 MB on the peak is 4 % higher.
target_compile_options(
  deepseek_private
  INTERFACE "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:SHELL:--param ggc-min-heapsize=400000>")

set(deepseek_native_flags "")
if(DEEPSEEK_NATIVE)
  check_cxx_compiler_flag(-march=native DEEPSEEK_ACCEPTS_MARCH_NATIVE)
  if(DEEPSEEK_ACCEPTS_MARCH_NATIVE)
    set(deepseek_native_flags -march=native)
  endif()
  target_compile_options(deepseek_private
                         INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${deepseek_native_flags}>")
endif()
if(DEEPSEEK_SANITIZE)
  set(flags -fsanitize=${DEEPSEEK_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_compile_options(deepseek_private INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${flags}>")
  target_link_options(deepseek_private INTERFACE ${flags})
endif()

# Tests and numbered examples: compiled often, run for seconds. NDEBUG stays off, so that Eigen's
# own assertions watch; that our checks do not need it is what tests/consumer shows. -O1: a file
# with five small nets took g++ 12 s, at -O2 16 s, at -O3 20 s. Sanitizers by g++ at -O0, where one
# op's test compiles in half the time; by clang at -O1: the gate's test compiled and ran in 43 s, at
# -O0 in 90. A target with the property `unoptimized` has -O0 always.
set(deepseek_quick_level -O1)
if(DEEPSEEK_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(deepseek_quick_level -O0)
endif()
add_library(deepseek_quick INTERFACE)
target_compile_options(deepseek_quick
                       INTERFACE $<$<COMPILE_LANGUAGE:CXX>:$<IF:$<BOOL:$<TARGET_PROPERTY:unoptimized>>,-O0,${deepseek_quick_level}>>
                                 -UNDEBUG)

# deepseek_executable(name SOURCES a.cpp ... [LINK target ...]): into build/bin.
function(deepseek_executable name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINK")
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE deepseek_private deepseek::deepseek ${arg_LINK})
  set_target_properties(${name} PROPERTIES CXX_EXTENSIONS OFF RUNTIME_OUTPUT_DIRECTORY
                                                              ${PROJECT_BINARY_DIR}/bin)
endfunction()

# A target that cannot be built here: configuring goes on, asking for it says what is missing.
function(deepseek_unavailable name needs)
  message(NOTICE "deepseek: ${name} is left out: it needs ${needs}")
  add_custom_target(${name} COMMAND ${CMAKE_COMMAND} -E echo "deepseek: ${name} needs ${needs}"
                    COMMAND ${CMAKE_COMMAND} -E false VERBATIM)
endfunction()
