#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test-label: slow test-timeout: 600 guarantees.sh PAWL [ROUNDS] - the three guarantees, seen;
# `./dev guarantees` prints the same table after more kills. At-most-once must lose rows,
# at-least-once double some, exactly-once do neither.
set -u
here=$(cd "$(dirname "$0")" && pwd)
prog=$(dirname "$1")/tests/prog_sink
if [ ! -x "$prog" ]; then echo "SKIPPED: no test programs (libcmocka-dev)"; exit 77; fi
. "$here/../support/lib_postgres.sh"
pg_new
PYTHONDONTWRITEBYTECODE=1 python3 "$here/guarantees.py" "$1" "$prog" "${2:-4}"
