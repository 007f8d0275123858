#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The one list of Debian and Ubuntu packages, by purpose. Installs what is missing and says so;
# when nothing is missing it touches neither the network nor anything else.
# usage: cmake/packages.sh base|demo|programs|test|bench|peers|neon|ci
set -eu

base="g++ cmake ninja-build libeigen3-dev"
text="nlohmann-json3-dev libpcre2-dev libutf8proc-dev"
demo="$base $text libcli11-dev liblzma-dev"
programs="$base $text libcli11-dev libssl-dev"
test="$demo libssl-dev doctest-dev librandom123-dev libboost-context-dev python3"
bench="$base libbenchmark-dev libopenblas-dev python3 python3-matplotlib"
peers="$bench libdnnl-dev"
neon="$test g++-aarch64-linux-gnu qemu-user"
ci="$neon libbenchmark-dev libopenblas-dev clang libclang-rt-dev"

case "${1:-}" in
  base) wanted=$base ;;
  demo) wanted=$demo ;;
  programs) wanted=$programs ;;
  test) wanted=$test ;;
  bench) wanted=$bench ;;
  peers) wanted=$peers ;;
  neon) wanted=$neon ;;
  ci) wanted=$ci ;;
  *)
    echo "usage: $0 base|demo|programs|test|bench|peers|neon|ci" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "packages: this is not Debian or Ubuntu; install what these packages hold: $wanted"
  exit 0
fi

missing=""
for package in $wanted; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "packages: missing:$missing; run as root: apt-get install$missing" >&2
    exit 1
  fi
  as_root=sudo
fi
echo "packages: installing with apt-get:$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086  # a list of packages and an optional word
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
