#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# test-label: slow
# test-timeout: 120
#
# TLS as libpq does it, on loopback: rows go in over an encrypted connection whose certificate is
# checked; a server with another certificate, or one that doesn't encrypt, is refused by the
# settings that ask for it, and nothing is sent to it.
set -u
here=$(cd "$(dirname "$0")" && pwd)
pawl=$(realpath "${1:-${PAWL_COMMAND:-}}")
[ -x "$pawl" ] || { echo "SKIPPED: no command pawl"; exit 77; }
if ! "$pawl" check --types | grep -q '^sink postgres:'; then echo "SKIPPED: built without libpq"; \
    exit 77; fi
if ! command -v openssl >/dev/null; then echo "SKIPPED: no openssl to make certificates with"; \
    exit 77; fi
. "$here/../support/lib_postgres.sh"
port=$(python3 -c \
    'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
pg_new
bad() { echo "FAILED: $*"; tail -5 "$PG_DIR/err" "$PG_DIR/server.log" 2>/dev/null; exit 1; }
sql() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
cd "$PG_DIR" || exit 1
certificate() { # NAME: a self-signed one for localhost, with its key
    openssl req -new -x509 -days 2 -nodes -newkey rsa:2048 -keyout "$1.key" -out "$1.crt" -subj \
        "/CN=localhost" \
        -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" >/dev/null 2>&1 || bad "openssl"
    chmod 600 "$1.key"
    [ "$(id -u)" -ne 0 ] || chown postgres: "$1.key"
}
certificate ours
certificate other
again() { # OPTIONS: the server anew, with them
    pg_stop
    PG_OPTIONS="-c listen_addresses=127.0.0.1 $*"
    pg_start || bad "the server does not start"
}
export PGPORT=$port # of the socket too
tls="-p $port -c ssl=on -c ssl_cert_file=$PG_DIR/ours.crt -c ssl_key_file=$PG_DIR/ours.key"
again "$tls"
sql -c "CREATE FUNCTION encrypted() RETURNS bool LANGUAGE sql AS 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'" \
    -c "CREATE TABLE t (line text, encrypted bool DEFAULT encrypted())"
"$pawl" init log && "$pawl" stream create log lines || bad "set-up"
seq 1000 | "$pawl" ingest log lines --producer p 2>err || bad ingest
pipeline() { # SETTINGS of the connection
    cat >p.yaml <<Y
log: {directory: log}
drain: 1s
streams: {lines: {}}
sinks:
  t: {type: postgres, from: lines, conninfo: "host=127.0.0.1 port=$port user=postgres dbname=postgres $1", table: t, columns.line: value, backoff: 10ms, backoff_max: 50ms}
Y
}
refused() { # TEXT: it goes on trying, says so, and has sent nothing
    timeout 20 "$pawl" run p.yaml 2>err &
    local child=$! i
    for ((i = 0; i < 200; i++)); do
        grep -q "$1" err && break
        sleep 0.05
    done
    kill -TERM "$child" 2>/dev/null
    wait "$child"
    grep -q "$1" err || bad "not refused: $1"
    [ "$(sql -c 'SELECT count(*) FROM t')" = "$2" ] ||
        bad "rows went to a server that is not trusted"
}
pipeline "sslmode=verify-full sslrootcert=$PG_DIR/other.crt"
refused 'certificate verify failed' 0
pipeline "sslmode=verify-full sslrootcert=$PG_DIR/ours.crt"
"$pawl" run p.yaml --until-idle --quiet 2>err || bad "run"
[ "$(sql -c 'SELECT count(*), count(DISTINCT line), bool_and(encrypted) FROM t')" = '1000|1000|t' \
    ] || bad "rows: $(sql -c 'SELECT count(*), count(DISTINCT line), bool_and(encrypted) FROM t')"
again "-p $port -c ssl=off"
seq 1001 1100 | "$pawl" ingest log lines --producer q 2>err || bad ingest
pipeline "sslmode=require"
refused 'server does not support SSL' 1000
again "$tls"
pipeline "sslmode=require"
"$pawl" run p.yaml --until-idle --quiet 2>err || bad "run again"
[ "$(sql -c 'SELECT count(*), count(DISTINCT line), bool_and(encrypted) FROM t')" = '1100|1100|t' \
    ] || bad "rows in the end"
echo "1100 rows over TLS; a wrong certificate and a server without TLS refused"
