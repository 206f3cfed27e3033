#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# test-label: slow test-timeout: 400
#
# Each record is led back to the bytes that it was read from: origins.py.
set -u
pawl=$(realpath "${1:-${PAWL_COMMAND:-}}")
root=${PAWL_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
[ -x "$pawl" ] || { echo "SKIPPED: no command pawl"; exit 77; }
PAWL_COMMAND=$pawl PYTHONDONTWRITEBYTECODE=1 python3 "$root/tests/connectors/origins.py"
