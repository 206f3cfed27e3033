# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# A PostgreSQL server of a test's own: in a temporary directory, on a Unix socket in it, never on
# the network. Only processes that were started here are ever ended. Sourced by a test; or, from
# within one, as a command on the server that PG_DIR names:
#   bash lib_postgres.sh start | kill | stop | restart
# After pg_new, psql and libpq find the server by PGHOST, PGUSER and PGDATABASE. Settings for it:
# PG_OPTIONS="-c name=value ...".

pg_skip() { echo "SKIPPED: $*"; exit 77; }

pg_programs() { # the newest version that is installed
    local initdb
    initdb=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb /usr/local/pgsql/bin/initdb |
        while read -r initdb; do [ ! -x "$initdb" ] || echo "$initdb"; done | sort -V | tail -1)
    [ -n "$initdb" ] || initdb=$(command -v initdb) || return 1
    PG_BIN=$(dirname "$initdb")
    export PG_BIN
    PATH=$PG_BIN:$PATH
}

# The server refuses to run as root: then it is run as the user of the distribution's package.
pg_as() {
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"
    else
        "$@"
    fi
}

pg_new() {
    pg_programs || pg_skip "PostgreSQL is not installed (Debian package: postgresql-15)"
    if [ "$(id -u)" -eq 0 ] && ! id postgres >/dev/null 2>&1; then pg_skip \
        "PostgreSQL can't run as root, and there is no user postgres"; fi
    PG_DIR=$(mktemp -d "${TMPDIR:-/tmp}/pawl-pg.XXXXXX") || exit 1
    export PG_DIR PGHOST=$PG_DIR PGUSER=postgres PGDATABASE=postgres PGPORT=5432
    unset PGPASSWORD PGSERVICE PGHOSTADDR PGSSLMODE PGOPTIONS
    [ "$(id -u)" -ne 0 ] || chown postgres: "$PG_DIR"
    chmod 755 "$PG_DIR"
    trap pg_remove EXIT
    (cd / && pg_as "$PG_BIN/initdb" -D "$PG_DIR/data" -U postgres -A trust -E UTF8 --no-locale -N) \
        >"$PG_DIR/initdb.log" 2>&1 ||
        { cat "$PG_DIR/initdb.log"; pg_skip "initdb does not work here"; }
    pg_start || { echo "the server does not start"; tail -20 "$PG_DIR/server.log"; exit 1; }
}

pg_start() {
    local i
    # What is killed here is processes, never the machine: nothing needs to be synced. PG_OPTIONS
    # may say otherwise. Shared memory is in files of the cluster, and goes with it: a server that is
    # killed leaves its segments in /dev/shm for ever.
    # shellcheck disable=SC2086,SC2093
    (
        cd /
        set -- "$PG_BIN/postgres" -D "$PG_DIR/data" -k "$PG_DIR" -p 5432 -c listen_addresses= \
            -c max_prepared_transactions=20 -c fsync=off -c max_connections=40 \
            -c shared_buffers=32MB -c dynamic_shared_memory_type=mmap ${PG_OPTIONS:-}
        [ "$(id -u)" -ne 0 ] || set -- setpriv --reuid=postgres --regid=postgres --init-groups -- \
            "$@"
        exec "$@"
    ) >>"$PG_DIR/server.log" 2>&1 </dev/null &
    echo $! >"$PG_DIR/pid" # exec all the way: it is the server's own
    disown                 # the shell says nothing of its end
    for ((i = 0; i < 600; i++)); do
        "$PG_BIN/pg_isready" -q && return 0
        kill -0 "$(cat "$PG_DIR/pid")" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

pg_gone() { # pg_gone PID...: until none of them lives
    local pid
    for pid in "$@"; do
        while kill -0 "$pid" 2>/dev/null &&
            [ "$(ps -o stat= -p "$pid" 2>/dev/null | cut -c1)" != Z ]; do sleep 0.02; done
    done
}

# kill -9 of the server and all of its processes
pg_kill() {
    local server children
    server=$(cat "$PG_DIR/pid")
    children=$(ps -o pid= --ppid "$server")
    # shellcheck disable=SC2086
    kill -9 "$server" $children 2>/dev/null
    # shellcheck disable=SC2086
    pg_gone $server $children
    # A dead server whose parent does not ask for its end would look alive to the next one.
    rm -f "$PG_DIR/data/postmaster.pid" "$PG_DIR/.s.PGSQL.5432" "$PG_DIR/.s.PGSQL.5432.lock"
}

# kill -9 of one session of the server: it then ends all others, and recovers
pg_kill_backend() {
    local pid
    pid=$(psql -XAtc "SELECT pid FROM pg_stat_activity WHERE application_name = 'pawl' LIMIT 1" \
        2>/dev/null)
    if [ -n "$pid" ]; then kill -9 "$pid" 2>/dev/null; fi
    return 0
}

pg_stop() {
    local server
    server=$(cat "$PG_DIR/pid")
    kill -INT "$server" 2>/dev/null
    pg_gone "$server"
}

pg_remove() {
    if [ -n "${PG_DIR:-}" ] && [ -d "$PG_DIR" ]; then
        [ ! -f "$PG_DIR/pid" ] || pg_kill
        rm -rf --one-file-system -- "$PG_DIR"
    fi
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    [ -d "${PG_DIR:-}" ] || exit 2
    case $1 in
    start) pg_start ;;
    kill) pg_kill ;;
    stop) pg_stop ;;
    restart) pg_kill && pg_start ;;
    backend) pg_kill_backend ;;
    *) exit 2 ;;
    esac
fi
