#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-label: slow
# test-timeout: 600
#
# Pipelines of the command, whose calls to files, databases and programs fail one after the other:
# nothing is lost or doubled (faults/every_fault.py). PAWL_TORTURE_SECONDS tries every call in every
# way, which takes hours.
set -u
pawl=${1:-${PAWL_COMMAND:-}}
faults=$(dirname "$pawl")/tests/libpawl_faults.so
here=$(cd "$(dirname "$0")" && pwd)
[ -x "$pawl" ] || { echo "SKIPPED: no command pawl at '$pawl'"; exit 77; }
[ -r "$faults" ] || { echo "SKIPPED: calls can't be made to fail in this build"; exit 77; }
command -v python3 >/dev/null || { echo "SKIPPED: no python3"; exit 77; }
export PYTHONDONTWRITEBYTECODE=1
exec python3 "$here/../faults/every_fault.py" "$pawl" "$faults" \
    ${PAWL_TORTURE_SECONDS:+--all} --cases 6
