#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test-label: slow test-timeout: 300 The PostgreSQL source: rows written by several sessions, out of
# order, some rolled back, come once each while source and server are killed; what polling by a
# sequence alone misses, and txid doesn't; ties, lag, bad settings.
set -u
here=$(cd "$(dirname "$0")" && pwd)
pawl=$1
prog=$(dirname "$1")/tests/prog_source
if [ ! -x "$prog" ]; then echo "SKIPPED: no test programs (libcmocka-dev)"; exit 77; fi
. "$here/../support/lib_postgres.sh"
pg_new
work=$PG_DIR/work
mkdir "$work" || exit 1
bad() { echo "FAILED: $*"; tail -5 "$work/err.txt" 2>/dev/null; exit 1; }
sql() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
fixed=(lines postgres "conninfo=host=$PG_DIR user=postgres dbname=postgres" poll=10ms)
run() { "$prog" "$work/$log" "${fixed[@]}" "$@" 2>>"$work/err.txt"; }
start() { # in the background, as $child; the pipe to a waiting session is not the source's
    "$prog" "$work/$log" "${fixed[@]}" "$@" 2>>"$work/err.txt" 7>&- &
    child=$!
}
end() { kill -TERM "$child"; wait "$child" || bad "the source ended with $?"; }
got() { "$pawl" cat "$work/$log" lines; }
lines() { [ -d "$work/$log" ] && "$pawl" cat "$work/$log" lines 2>/dev/null | wc -l || echo 0; }
until_lines() { # N: waits for them
    local i
    for ((i = 0; i < 600; i++)); do
        [ "$(lines)" -ge "$1" ] && return
        sleep 0.05
    done
    bad "$(lines) lines instead of $1"
}

# ---- a smaller number that commits later
sql -c "CREATE TABLE ev (id bigserial PRIMARY KEY, tx xid8 NOT NULL DEFAULT pg_current_xact_id(), body text)"
for way in id txid; do
    log=gap-$way
    sql -c "TRUNCATE ev RESTART IDENTITY"
    mkfifo "$work/late"
    psql -XAtq <"$work/late" >"$work/late.out" 2>&1 &
    late=$!
    exec 7>"$work/late"
    echo "BEGIN; INSERT INTO ev (body) VALUES ('late'); SELECT 'inserted';" >&7
    while ! grep -q inserted "$work/late.out"; do sleep 0.02; done
    sql -c "INSERT INTO ev (body) VALUES ('early')"
    if [ $way = id ]; then
        start table=ev column=id value=body
        until_lines 1
    else
        start table=ev column=id txid=tx value=body
        sleep 0.3
        [ "$(lines)" = 0 ] || bad "a row behind an open transaction was read"
    fi
    echo "COMMIT;" >&7
    exec 7>&-
    wait "$late"
    rm "$work/late"
    sql -c "INSERT INTO ev (body) VALUES ('last')"
    until_lines "$([ "$way" = id ] && echo 2 || echo 3)"
    end
    want=$([ $way = id ] && echo "early last" || echo "late early last") # the order of txid
    [ "$(got | tr '\n' ' ')" = "$want " ] || bad "$way: $(got | tr '\n' ' ')"
done
echo "a smaller number that commits later: missed by the column alone, seen by txid"

# ---- many writers, kills of both sides
log=kills
sql -c "TRUNCATE ev RESTART IDENTITY"
writer() {
    local i
    for ((i = 0; i < 150; i++)); do
        psql -XAtq >/dev/null 2>&1 <<SQL
BEGIN;
INSERT INTO ev (body) SELECT 'writer $1 piece $i line ' || g FROM generate_series(1, 7) g;
SELECT pg_sleep($((RANDOM % 20)) / 1000.0);
INSERT INTO ev (body) VALUES ('writer $1 piece $i end');
$([ $((RANDOM % 5)) = 0 ] && echo ROLLBACK || echo COMMIT);
SQL
    done
}
writers=()
for n in 1 2 3; do writer $n & writers+=($!); done
killed=0
for ((round = 0; round < 30; round++)); do
    PROG_SOURCE_BATCH=20 start table=ev column=id txid=tx fetch=13 record_key=id value=body
    sleep "0.$(printf '%03d' $((RANDOM % 300 + 50)))"
    kill -9 "$child" 2>/dev/null && killed=$((killed + 1))
    wait "$child" 2>/dev/null
    if [ $round = 12 ]; then pg_kill; pg_start || bad "the server doesn't come again"; fi
done
wait "${writers[@]}"
start table=ev column=id txid=tx fetch=13 record_key=id value=body
until_lines "$(sql -c 'SELECT count(*) FROM ev')"
pg_kill # a server that goes away under the source, and comes again
pg_start || bad "the server doesn't come again"
sql -c "INSERT INTO ev (body) VALUES ('after the server')"
until_lines "$(sql -c 'SELECT count(*) FROM ev')"
end
sql -c "SELECT body FROM ev ORDER BY tx, id" >"$work/want"
got >"$work/got"
cmp "$work/got" "$work/want" || bad "rows differ: $(wc -l <"$work/got") of $(wc -l <"$work/want")"
[ "$killed" -ge 20 ] || bad "killed $killed times only"
"$pawl" audit "$work/$log" | grep -q 'of 1 thing outside join' || bad "audit of the rows"
rows=$(sql -c 'SELECT count(*) FROM ev')
for at in 0 1 $((rows / 2)) $((rows - 1)); do # each leads back to its row
    row=$(sql -c "SELECT tx FROM ev ORDER BY tx, id OFFSET $at LIMIT 1")
    "$pawl" explain "$work/$log" lines "$at" |
        grep -q "^outside *postgres [0-9/]*, row $row, ev by tx at" ||
        bad "offset $at is led back to $("$pawl" explain "$work/$log" lines "$at"), not to row $row"
done
echo "three writers, source killed $killed times, server twice: $(wc -l <"$work/want") rows once, in order"

# ---- ties, with and without a key; time, JSON
sql -c "CREATE TABLE ti (at timestamptz, n int, \"a \"\"b\" text)" \
    -c "INSERT INTO ti SELECT timestamptz '2026-01-01' + (g / 4) * interval '1.000001 s', g, 'x' FROM generate_series(0, 99) g" \
    -c "INSERT INTO ti VALUES (NULL, -1, ''), ('infinity', -2, ''), ('-infinity', -3, '')"
for key in "" key=n; do
    log=ties$key
    # shellcheck disable=SC2086
    start table=ti column=at value=n fetch=7 $key
    until_lines 100
    end
    [ "$(got | sort -n | tr '\n' ' ')" = "$(seq 0 99 | tr '\n' ' ')" ] ||
        bad "ties $key: $(got | tr '\n' ' ')"
done
log=json
sql -c "DELETE FROM ti WHERE n <> 5"
start table=ti column=at schema=public
until_lines 1
end
[ "$(got)" = '{"at":"2026-01-01T00:00:01.000001+00:00","n":5,"a \"b":"x"}' ] || bad "JSON: $(got)"
log=lag
sql -c "INSERT INTO ti VALUES (now() + interval '1 hour', 6, 'young')"
start table=ti column=at lag=30m value=n
until_lines 1
end
[ "$(got)" = 5 ] || bad "lag: $(got)"

# ---- what stops it
stops() { # TEXT SETTINGS...
    local text=$1
    shift
    : >"$work/err.txt"
    log=stops
    rm -rf "$work/stops"
    run "$@" && bad "$* did not stop"
    grep -q "$text" "$work/err.txt" || bad "$*: $(cat "$work/err.txt")"
}
stops 'does not exist' table=nothing column=id
stops 'does not exist' table=ev column=nothing
stops 'must be an integer or timestamptz' table=ev column=body
stops 'lag needs' table=ev column=id lag=1s
sql -c 'CREATE TABLE ties (n int)' -c 'INSERT INTO ties SELECT 1 FROM generate_series(1, 5)'
stops 'have the same n' table=ties column=n fetch=3
stops 'must be xid8' table=ev column=id txid=body
sql -c "CREATE ROLE nobody_here LOGIN"
fixed[2]="conninfo=host=$PG_DIR user=nobody_here dbname=postgres"
stops 'permission denied' table=ev column=id
fixed[2]="conninfo=host=$PG_DIR user=nobody_there dbname=postgres"
stops 'does not exist' table=ev column=id
echo "ties, lag, JSON, and what stops it: as described"
