#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# sinks.sh PROGRAM [RECORDS] - starts a PostgreSQL server with fsync in a temporary directory, and
# runs build/bench/sinks against it.
set -u
here=$(cd "$(dirname "$0")" && pwd)
PG_OPTIONS="-c fsync=on -c shared_buffers=128MB -c max_wal_size=4GB"
export PG_OPTIONS
. "$here/../tests/support/lib_postgres.sh"
pg_new
mkdir "$PG_DIR/bench"
"$1" "$PG_DIR/bench" "${@:2}"
