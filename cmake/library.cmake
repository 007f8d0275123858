# SPDX-License-Identifier: Apache-2.0
# deepseek::deepseek (headers, Eigen, threads), deepseek::io (adds JSON and PCRE2) and, when asked for,
# deepseek::cuda. No target sets an architecture or an optimization flag.

find_package(Eigen3 3.4 REQUIRED NO_MODULE)
find_package(Threads REQUIRED)

file(GLOB_RECURSE deepseek_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/deepseek/*.hpp
     ${PROJECT_SOURCE_DIR}/include/deepseek/*.cuh)

add_library(deepseek INTERFACE)
add_library(deepseek::deepseek ALIAS deepseek)
target_sources(deepseek INTERFACE FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES
                                  ${deepseek_headers})
target_compile_features(deepseek INTERFACE cxx_std_20)
target_link_libraries(deepseek INTERFACE Eigen3::Eigen Threads::Threads)
if(NOT PROJECT_IS_TOP_LEVEL)
  # The warnings of the project that includes us are not for our headers.
  target_include_directories(deepseek SYSTEM
                             INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>)
endif()

# Declared also where its libraries are absent: only who links it needs them. utf8proc is asked for
# where the target is used, so that an installed tree fits machines with and without it.
include(${CMAKE_CURRENT_LIST_DIR}/text_libraries.cmake)
add_library(deepseek_io INTERFACE)
add_library(deepseek::io ALIAS deepseek_io)
set_target_properties(deepseek_io PROPERTIES EXPORT_NAME io)
target_link_libraries(deepseek_io INTERFACE deepseek nlohmann_json::nlohmann_json PCRE2::8BIT
                                            $<TARGET_NAME_IF_EXISTS:utf8proc::utf8proc>)
target_compile_definitions(
  deepseek_io INTERFACE $<$<TARGET_EXISTS:utf8proc::utf8proc>:DEEPSEEK_HAS_UTF8PROC>)

if(DEEPSEEK_CUDA)
  find_program(DEEPSEEK_NVCC nvcc PATHS /usr/local/cuda/bin)
  if(NOT DEFINED CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX} AND DEEPSEEK_NVCC)
    set(CMAKE_CUDA_COMPILER ${DEEPSEEK_NVCC})
  endif()
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90-virtual)
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  find_package(CCCL QUIET HINTS ${CUDAToolkit_LIBRARY_DIR}/cmake)
  add_library(deepseek_cuda INTERFACE)
  add_library(deepseek::cuda ALIAS deepseek_cuda)
  set_target_properties(deepseek_cuda PROPERTIES EXPORT_NAME cuda)
  # CMake before 3.26 knows no C++20 for nvcc and would drop a standard property in silence.
  target_compile_options(deepseek_cuda INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>)
  target_link_libraries(deepseek_cuda INTERFACE deepseek CUDA::cudart_static CUDA::cublasLt
                                                $<TARGET_NAME_IF_EXISTS:CCCL::CCCL>)
endif()
