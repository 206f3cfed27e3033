#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-timeout: 240
#
# Real parts together: a followed file that is rotated, through a regular expression into files and
# SQLite, killed with -9; a pattern that explodes; a program and a shared object as processors; what
# SQL counts is what awk counts.
set -u
export LC_ALL=C
pawl=$(realpath "${1:-${PAWL_COMMAND:-}}")
root=${PAWL_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
[ -x "$pawl" ] || { echo "SKIPPED: no command pawl"; exit 77; }
work=$(mktemp -d) || exit 1
child=
trap '[ -n "$child" ] && kill -9 "$child" 2>/dev/null; rm -rf -- "$work"' EXIT
bad() { echo "FAILED: $*"; [ -s err ] && tail -5 err; exit 1; }
cd "$work" || exit 1
types=$("$pawl" check --types)
has() { grep -q "^$1:" <<<"$types"; }

# ---- a followed file, files and a database

if has 'source file' && has 'sink sqlite'; then
    cat >p.yaml <<'Y'
log: {directory: log, segment_size: 4M, retention: {consumed: true}}
streams: {lines: {}, parsed: {partitions: 2}}
sources: {app: {type: file, path: app.log, start: oldest, to: lines}}
processors: {parse: {type: regex, from: lines, to: parsed, pattern: '^(?<n>\d+) (?<word>\w+)$', key: word}}
sinks:
  files: {type: file, from: parsed, directory: out, batch_records: 400, rotate_size: 50k}
  db:
    type: sqlite
    from: parsed
    path: db
    table: rows
    setup: CREATE TABLE IF NOT EXISTS rows (n INTEGER, word TEXT, id TEXT UNIQUE)
    columns: {n: $.n, word: $.word, id: id}
    batch_records: 400
Y
    "$pawl" check --quiet p.yaml 2>err || bad "check"
    n=0 killed=0
    : >app.log
    for ((i = 0; i < 12; i++)); do
        "$pawl" run p.yaml 2>err &
        child=$!
        for ((k = 0; k < 3; k++)); do
            seq $((n + 1)) $((n + 400)) | awk '{ print $1, "w" $1 % 7 }' | tee -a all >>app.log
            n=$((n + 400))
            sleep "0.0$((RANDOM % 9 + 1))"
        done
        [ $((i % 4)) = 3 ] && mv app.log "app.log-2026010$((i / 4))" && : >app.log
        kill -9 "$child" 2>/dev/null
        wait "$child" 2>/dev/null
        [ $? = 137 ] && killed=$((killed + 1)) || bad "it ended by itself"
    done
    child=
    "$pawl" run p.yaml --until-idle 2>err || bad "the last run"
    awk '{ printf("{\"n\":\"%s\",\"word\":\"%s\"}\n", $1, $2) }' all | sort >want
    cat out/files-* | sort | cmp - want || bad "files"
    python3 - <<'P' || bad "the database"
import sqlite3
want = [(int(a), b) for a, b in (l.split() for l in open("all"))]
got = sqlite3.connect("db").execute("SELECT CAST(n AS INTEGER), word FROM rows ORDER BY 1").fetchall()
assert got == want, (len(got), len(want))
P
    "$pawl" audit log >/dev/null || bad audit
    echo "killed $killed times, rotated 3 times: $n lines are in files and database, each once"
else
    echo "this build has no file source or no SQLite: passed over"
fi

# ---- a pattern that explodes; a program; a record too odd

rm -rf log
cat >q.yaml <<'Y'
log: {directory: log, segment_size: 1M}
streams: [lines, a, up, dead]
processors:
  slow: {type: regex, from: lines, to: a, pattern: '^(?<x>(a+)+)$', match_limit: 20000, dead_letter: dead}
  upper: {type: exec, from: lines, to: up, command: 'tr a-z A-Z; test -n "$PAWL_TO"'}
sinks: {d: {type: exec, from: dead, command: 'cat >>dead.txt'}}
Y
"$pawl" init log --segment-size 1M && "$pawl" stream create log lines || bad "set-up"
printf 'aaa\n%sb\naa\n' "$(printf 'a%.0s' $(seq 60))" >in
"$pawl" ingest log lines in 2>err || bad ingest
"$pawl" run q.yaml --until-idle 2>err || bad "run q"
[ "$(wc -l <dead.txt)" = 1 ] && grep -q b dead.txt || bad "dead letters"
"$pawl" cat log dead --format json | grep -q match_limit || bad "the reason"
"$pawl" cat log a | tr '\n' ' ' | grep -qF '{"x":"aaa"} {"x":"aa"} ' || bad "the others"
"$pawl" cat log up | cmp - <(tr a-z A-Z <in) || bad "the program"
echo "a pattern that explodes costs its record; a program works"

# ---- a window of ids, and a record that fails in the middle of a batch

rm -rf log
cat >d.yaml <<'Y'
log: {directory: log, segment_size: 1M}
streams: [lines, out, dead]
processors: {once: {type: dedup, from: lines, to: out, id: json:x, window: 2, dead_letter: dead}}
Y
"$pawl" init log --segment-size 1M && "$pawl" stream create log lines || bad "set-up"
printf '%s\n' '{"x":1}' '{"x":2}' odd '{"x":1}' '{"y":0}' '{"x":3}' '{"x":3}' '{"x":1}' '{"x":4}' \
    >in
"$pawl" ingest log lines in 2>err && "$pawl" run d.yaml --until-idle 2>err || bad "run d"
echo '{"x":4}' | "$pawl" ingest log lines 2>err && "$pawl" run d.yaml --until-idle 2>err ||
    bad "run d again"
"$pawl" cat log out | cmp - <(printf '{"%s}\n' x\":1 x\":2 y\":0 x\":3 x\":1 x\":4) ||
    bad "the window: $("$pawl" cat log out | tr '\n' ' ')"
[ "$("$pawl" cat log dead)" = odd ] || bad "the record that failed"
"$pawl" audit log >/dev/null || bad "audit of the window"
echo "a window of ids: well"

# ---- a failing part ends its pipeline, with 1

cat >r.yaml <<'Y'
log: {directory: log, segment_size: 1M}
streams: [lines, a, up, dead, x]
processors: {fails: {type: exec, from: lines, to: x, command: exit 3, retries: 1, on_error: stop}}
Y
"$pawl" run r.yaml 2>err
[ $? = 1 ] && grep -q 'ended with status 3' err || bad "a failing program"
sed -i 's/exit 3, retries: 1, on_error: stop/exit 78/' r.yaml
"$pawl" run r.yaml 2>err
[ $? = 1 ] && grep -q "can't go on: .* ended with status 78" err || bad "a broken program"
sed -i 's/lines, a/lines, {partitions: 2}, a/; s/\[lines.*/{lines: {partitions: 2}, a: {}, up: {}, dead: {}, x: {}}/' r.yaml
"$pawl" run r.yaml 2>err
[ $? = 1 ] && grep -q 'has 1 partitions in the log and 2 in r.yaml:2' err || bad "other partitions"
mkdir locked && "$pawl" init locked/log 2>err && echo 'log: {directory: nowhere/log}
streams: [a]
sinks: {o: {type: stdout, from: a}}' >s.yaml
"$pawl" run s.yaml 2>err
[ $? = 3 ] || bad "a log that can't be opened"
echo "failures: well"

# ---- a shared object

if command -v cc >/dev/null; then
    cat >plug.c <<'C'
#include <pawl_connect.h>
#include <stdlib.h>
#include <string.h>
static uint32_t out;
int twice(pawl_context *ctx, const pawl_record *records, size_t count, void *arg);
int twice_open(pawl *log, const pawl_settings *options, void **arg, pawl_error *err);
void twice_close(void *arg);
int twice_open(pawl *log, const pawl_settings *options, void **arg, pawl_error *err)
{
    pawl_stream_info info;
    (void)err;
    *arg = calloc(1, 1);
    out = pawl_stream_find(log, options->items[0].value, &info) == 0 ? info.id : 0;
    return strcmp(options->items[0].name, "into") == 0 ? 0 : PAWL_INVALID;
}
void twice_close(void *arg) { free(arg); }
int twice(pawl_context *ctx, const pawl_record *records, size_t count, void *arg)
{
    (void)arg;
    for (size_t i = 0; i < 2 * count; i++) {
        int code = pawl_emit(ctx, out, 0, &records[i / 2]);
        if (code < 0)
            return code;
    }
    return 0;
}
C
    cc -shared -fPIC -I"$root/include" plug.c -o plug.so || bad "compiling"
    cat >t.yaml <<'Y'
log: {directory: log, segment_size: 1M}
streams: [lines, a, up, dead, two]
processors: {two: {type: plugin, from: lines, library: ./plug.so, symbol: twice, outputs: [two], options: {into: two}}}
Y
    "$pawl" run t.yaml --until-idle 2>err || bad "the shared object"
    [ "$("$pawl" cat log two | wc -l)" = 20 ] || bad "what the shared object emitted"
    sed -i 's/symbol: twice/symbol: thrice/' t.yaml
    "$pawl" run t.yaml --until-idle 2>err && bad "a function that isn't there was found"
    grep -q 'has no function thrice' err || bad "the message"
    echo "a shared object works"

    # one that was built against the headers of the first release, without tables
    mkdir -p old && sed 's/#include "pawl.h"/#include "pawl-0.1.0.h"/' \
        "$root/tests/frozen/pawl_connect-0.1.0.h" >old/pawl_connect.h
    cp "$root/tests/frozen/pawl-0.1.0.h" old/pawl-0.1.0.h
    cc -shared -fPIC -Iold plug.c -o plug.so || bad "compiling against the first release"
    sed -i 's/thrice/twice/; s/two: {type/again: {type/' t.yaml
    "$pawl" run t.yaml --until-idle 2>err || bad "a shared object of the first release"
    [ "$("$pawl" cat log two | wc -l)" = 40 ] || bad "what the older one emitted"

    # one that keeps state
    cat >keeps.c <<'C'
#include "pawl_connect.h"
#include "pawl_state.h"
static uint32_t table;
int keeps_open(pawl *log, const pawl_settings *options, void **arg, pawl_error *err)
{
    pawl_table_info t = PAWL_TABLE_INFO_INIT;
    (void)err, (void)arg, (void)options;
    int code = pawl_table_find(log, "lengths", &t);
    table = t.id;
    return code;
}
int keeps(pawl_context *ctx, const pawl_record *records, size_t count, void *arg)
{
    (void)arg;
    for (size_t i = 0; i < count; i++) {
        int code = pawl_state_add(ctx, table, "all", 3, records[i].value_len, NULL);
        if (code < 0)
            return code;
    }
    return 0;
}
C
    cc -shared -fPIC -I"$root/include" keeps.c -o keeps.so || bad "compiling what keeps state"
    cat >k.yaml <<'Y'
log: {directory: log, segment_size: 1M}
streams: [lines, a, up, dead, two]
processors: {lengths: {type: plugin, from: lines, library: ./keeps.so, symbol: keeps, outputs: [two], tables: [lengths], table_keys: any}}
Y
    "$pawl" check k.yaml 2>err | grep -q 'lengths (plugin): lines -> two and the table lengths$' ||
        bad "check of what keeps state"
    "$pawl" run k.yaml --until-idle 2>err || bad "what keeps state"
    sed -i 's/table_keys: any/table_keys: partition/' k.yaml
    "$pawl" run k.yaml --until-idle 2>err && bad "a table of other keys was taken"
    grep -q 'table lengths has 1 partitions and table_keys "any"' err || bad "the table's message"
    sed -i 's/{lengths: {type/{other: {type/; s/partition}/any}/' k.yaml
    "$pawl" run k.yaml --until-idle 2>err && bad "the table of another processor was taken"
    grep -q 'the table lengths belongs to processor lengths' err || bad "the owner's message"
    sed -i 's/library: /guarantee: at-most-once, library: /' k.yaml
    "$pawl" check k.yaml 2>err && bad "state at most once"
    "$pawl" processor forget log lengths 2>err && bad "forgotten with its table"
    grep -q 'keeps the table lengths, of 1 pairs' err || bad "what is kept"
    "$pawl" processor forget log lengths --tables 2>err || bad "forgetting it with its table"
    echo "shared objects with and without state work"
fi
