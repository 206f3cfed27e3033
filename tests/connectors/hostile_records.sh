#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# test-label: slow test-timeout: 500
#
# Hostile records through every source, processor and sink: hostile_records.py. PostgreSQL's sink
# takes part where a server can be started.
set -u
here=$(cd "$(dirname "$0")" && pwd)
pawl=$(realpath "${1:-${PAWL_COMMAND:-}}")
[ -x "$pawl" ] || { echo "SKIPPED: no command pawl"; exit 77; }
. "$here/../support/lib_postgres.sh"
# pg_new ends the shell with 77 where there is no server: asked in a shell of its own first
if (pg_new) >/dev/null 2>&1; then pg_new; else unset PGHOST; fi
PAWL_COMMAND=$pawl PYTHONDONTWRITEBYTECODE=1 python3 "$here/hostile_records.py"
