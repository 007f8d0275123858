#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Puts the headers and CMake files of Eigen, doctest and Google Benchmark into one folder, for a
# machine where they are not installed (pass it there as CMAKE_PREFIX_PATH).
# usage: cmake/carry.sh FOLDER
set -eu
to=${1:?usage: cmake/carry.sh FOLDER}
libraries=/usr/lib/$(gcc -print-multiarch)
mkdir -p "$to/include" "$to/share" "$to/lib/cmake"
cp -r /usr/include/eigen3 "$to/include/"
cp -r /usr/share/eigen3 "$to/share/"
cp -r /usr/include/doctest "$to/include/"
cp -r /usr/lib/cmake/doctest "$to/lib/cmake/"
# Debian's file says /usr; here it is wherever the folder lies.
sed -i 's|^set(_IMPORT_PREFIX "/usr")|get_filename_component(_IMPORT_PREFIX "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)|' \
  "$to/lib/cmake/doctest/doctestTargets.cmake"
if [ -d "$libraries/cmake/benchmark" ]; then
  cp -r /usr/include/benchmark "$to/include/"
  mkdir -p "$to/lib/$(basename "$libraries")/cmake"
  cp -r "$libraries/cmake/benchmark" "$to/lib/$(basename "$libraries")/cmake/"
  cp "$libraries"/libbenchmark* "$to/lib/$(basename "$libraries")/"
fi
