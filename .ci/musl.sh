#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# musl.sh - on Alpine Linux, as root: builds everything with musl, and runs the quick tests.
set -eu
cd "$(dirname "$0")/.."

apk add --no-cache bash cmake samurai pkgconf gcc g++ musl-dev linux-headers git python3 mandoc \
    liburing-dev xxhash-dev jansson-dev yaml-dev pcre2-dev openssl-dev zlib-dev zstd-dev xz-dev \
    bzip2-dev libseccomp-dev sqlite-dev cmocka-dev util-linux-misc

cmake -G Ninja -S . -B build-musl -DPAWL_BENCH=OFF
cmake --build build-musl

# refusals knows the texts of glibc's errors, abi_library the types of its headers.
ctest --test-dir build-musl --output-on-failure -j"$(nproc)" -L quick -E '^(refusals|abi_library)$'
