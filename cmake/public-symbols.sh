#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# public-symbols.sh HEADER - prints the name of every function that the public header declares, one
# a line, sorted.
set -euo pipefail
sed -n 's/^PAWL_API [^(]*[ *]\(pawl_[a-z0-9_]*\)(.*/\1/p' "$1" | LC_ALL=C sort
