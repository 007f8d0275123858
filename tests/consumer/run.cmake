# SPDX-License-Identifier: Apache-2.0
# cmake -DHOW=PACKAGE|SUBDIRECTORY|FETCH -DSOURCE= -DBUILD= -DWORK= -DGENERATOR= -DCOMPILER=
# -DLAUNCHER= -P run.cmake
# PACKAGE installs the library, moves the installed tree elsewhere and uses it from there.

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " words)
    message(FATAL_ERROR "consumer: status ${status} from: ${words}")
  endif()
endfunction()

# Nothing installed may name a folder of this machine, and no header may be missing.
function(check_installed tree)
  file(GLOB scripts ${tree}/share/cmake/deepseek/*.cmake)
  foreach(script IN LISTS scripts)
    file(READ ${script} text)
    foreach(folder ${SOURCE} ${BUILD} ${WORK})
      string(FIND "${text}" "${folder}" at)
      if(NOT at EQUAL -1)
        message(FATAL_ERROR "consumer: ${script} names ${folder}; the tree could not be moved")
      endif()
    endforeach()
  endforeach()
  file(GLOB_RECURSE ours RELATIVE ${SOURCE}/include ${SOURCE}/include/*)
  foreach(header IN LISTS ours)
    if(NOT EXISTS ${tree}/include/${header})
      message(FATAL_ERROR "consumer: ${header} was not installed")
    endif()
  endforeach()
endfunction()

file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK})
set(how -DHOW=${HOW})
# The installed package at the compiler's best; the other two as users have it who debug or who set
# nothing, with assertions and in half the time.
set(type "")
if(HOW STREQUAL "PACKAGE")
  set(type Release)
  run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/installed)
  file(RENAME ${WORK}/installed ${WORK}/moved)
  check_installed(${WORK}/moved)
  list(APPEND how -DCMAKE_PREFIX_PATH=${WORK}/moved)
else()
  list(APPEND how -DDEEPSEEK_SOURCE=${SOURCE})
  if(HOW STREQUAL "SUBDIRECTORY")
    set(type Debug)
  endif()
endif()
# Copied out, so that nothing beside it in the project can be found by accident.
file(COPY ${SOURCE}/tests/consumer/CMakeLists.txt ${SOURCE}/tests/consumer/main.cpp
     DESTINATION ${WORK}/project)
run(${CMAKE_COMMAND} -S ${WORK}/project -B ${WORK}/build -G ${GENERATOR} -DCMAKE_BUILD_TYPE=${type}
    -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER} ${how})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/consumer)
