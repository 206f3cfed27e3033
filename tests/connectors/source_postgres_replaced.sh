#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test-label: slow test-timeout: 300 What can become of a table that the PostgreSQL source reads,
# while it runs and while it doesn't: made anew, emptied, numbered from 1 again, another database's.
# Rows that it would never read are said, and nothing else stops it.
set -u
here=$(cd "$(dirname "$0")" && pwd)
pawl=$1
prog=$(dirname "$1")/tests/prog_source
if [ ! -x "$prog" ]; then echo "SKIPPED: no test programs (libcmocka-dev)"; exit 77; fi
. "$here/../support/lib_postgres.sh"
pg_new
work=$PG_DIR/work
mkdir "$work" || exit 1
failed=0
bad() { echo "FAILED: $*"; tail -3 "$work/err.txt"; failed=1; }
sql() { psql -XAtq -v ON_ERROR_STOP=1 -c "$*"; }
db=postgres
host=$PG_DIR
table=ev
start() { # in the background, as $child, with these settings
    "$prog" "$work/log" lines postgres "conninfo=host=$host user=postgres dbname=$db" poll=10ms \
        table=$table column=id value=body "$@" 2>>"$work/err.txt" &
    child=$!
}
# What the rows were read from, by the log's own word: no gap and no overlap.
audited() { "$pawl" audit "$work/log" >"$work/err.txt" 2>&1 || bad "$name: audit"; }
thing() { # OFFSET: what the record was read from, without the row
    "$pawl" explain "$work/log" lines "$1" | sed -n 's/.*outside *\([^,]*\),.*/\1/p'
}
got() { "$pawl" cat "$work/log" lines 2>/dev/null | tr '\n' ' '; }
until_true() { # CONDITION...: at most 20 s
    local i
    for ((i = 0; i < 400; i++)); do
        "$@" && return 0
        sleep 0.05
    done
    return 1
}
has() { [ "$(got)" = "$1" ]; }
gone() { ! kill -0 "$child" 2>/dev/null; }
said() { grep -q -- "$1" "$work/err.txt"; }
add() { # TEXT...: a row each
    local v
    for v in "$@"; do sql "INSERT INTO ev (body) VALUES ('$v')"; done
}
begin() {
    rm -rf "$work/log"
    : >"$work/err.txt"
    sql "SET client_min_messages = error; DROP TABLE IF EXISTS ev"
    sql "CREATE TABLE ev (id serial PRIMARY KEY, body text)"
    add a b c d
    start "$@"
    until_true has "a b c d " || bad "$name: the first rows"
}
stop() { kill -TERM "$child" 2>/dev/null; wait "$child"; }

# name, what must be said ("": the source goes on) or the lines at the end, what happens
more() { add e f; }
vacuum_full() { sql "VACUUM FULL ev"; more; }
truncated() { sql "TRUNCATE ev"; more; }
truncated_and_restarted() { sql "TRUNCATE ev RESTART IDENTITY"; more; }
truncated_and_filled_past() {
    sql "TRUNCATE ev RESTART IDENTITY; INSERT INTO ev (body) SELECT generate_series(1, 9)"
}
all_deleted() { sql "DELETE FROM ev"; more; }
last_deleted() { sql "DELETE FROM ev WHERE body = 'd'"; sleep 0.1; more; }
first_deleted_and_vacuumed() { sql "DELETE FROM ev WHERE body = 'a'"; vacuum_full; }
sequence_set_back_below_a_row_that_stays() {
    sql "DELETE FROM ev WHERE body <> 'a'; ALTER SEQUENCE ev_id_seq RESTART WITH 2"
    more
}
sequence_set_back() { sql "DELETE FROM ev; ALTER SEQUENCE ev_id_seq RESTART"; more; }
made_anew() { sql "DROP TABLE ev; CREATE TABLE ev (id serial PRIMARY KEY, body text)"; more; }
updated() { sql "UPDATE ev SET id = id WHERE true"; more; }
other_columns() { sql "ALTER TABLE ev ADD more int; CREATE INDEX i ON ev (body)"; more; }
cases() {
    cat <<'TABLE'
more                       ok   a b c d e f
vacuum_full                ok   a b c d e f
truncated                  ok   a b c d e f
all_deleted                ok   a b c d e f
last_deleted               ok   a b c d e f
first_deleted_and_vacuumed ok   a b c d e f
updated                    ok   a b c d e f
other_columns              ok   a b c d e f
truncated_and_restarted    said its numbers began anew
truncated_and_filled_past  said its numbers began anew
sequence_set_back          said its numbers began anew
sequence_set_back_below_a_row_that_stays said its numbers began anew
made_anew                  said the position is of another table: its oid was
TABLE
}
count=0
while read -r name what text; do
    for when in up down; do
        begin
        if [ "$when" = down ]; then stop; fi
        "$name"
        if [ "$when" = down ]; then
            start
        fi
        if [ "$what" = ok ]; then
            until_true has "$text " || bad "$name, $when: $(got)"
            gone && bad "$name, $when: it has stopped"
            stop
            audited
        else
            until_true gone || bad "$name, $when: it goes on: $(got)"
            wait "$child" && bad "$name, $when: it ended well"
            said "$text" || bad "$name, $when: not said"
            has "a b c d " || bad "$name, $when: read on: $(got)"
        fi
        count=$((count + 1))
    done
done < <(cases)

# ---- the answers
for name in truncated_and_restarted truncated_and_filled_past made_anew; do
    want=$([ $name = truncated_and_filled_past ] && echo "1 2 3 4 5 6 7 8 9 " || echo "e f ")
    for when in up down; do
        begin on_replaced=read
        if [ "$when" = down ]; then stop; fi
        "$name"
        if [ "$when" = down ]; then
            start on_replaced=read
        fi
        until_true has "a b c d $want" || bad "$name, read, $when: $(got)"
        add g
        until_true has "a b c d ${want}g " || bad "$name, read, $when: $(got)"
        stop
        said "it is read from the start" || bad "$name, read, $when: not said"
        start # without an answer: it was given
        add h
        until_true has "a b c d ${want}g h " || bad "$name, read, later: $(got)"
        stop
        audited
        count=$((count + 1))
    done
done
name=adopt
begin on_replaced=adopt
truncated_and_restarted
until_true said "goes on from its position" || bad "adopt: not said"
add g h i
until_true has "a b c d i " || bad "adopt: $(got)"
stop
audited

# ---- the name of what was read is the table's identity
name=identity
begin
first=$(thing 0)
[[ $first =~ ^postgres\ [0-9]+/[0-9]+/[0-9]+$ ]] || bad "the thing: $first"
stop
sql "ALTER TABLE ev RENAME TO ev2"
ln -s "$PG_DIR" "$work/alias"
host=$work/alias
table=ev2
start
sql "INSERT INTO ev2 (body) VALUES ('e')"
until_true has "a b c d e " || bad "renamed: $(got)"
stop
[ "$(thing 4)" = "$first" ] || bad "another name, and another way there: $(thing 4)"
audited
# A table that takes its place goes on where it ended, by another name; also one that was adopted
# while the source ran.
sql "DROP TABLE ev2; CREATE TABLE ev2 (id serial PRIMARY KEY, body text)"
start on_replaced=adopt
until_true said "goes on from its position" || bad "adopted: not said"
sql "INSERT INTO ev2 VALUES (6, 'f')"
until_true has "a b c d e f " || bad "adopted: $(got)"
sql "DROP TABLE ev2; CREATE TABLE ev2 (id serial PRIMARY KEY, body text)"
sql "INSERT INTO ev2 VALUES (7, 'g')"
until_true has "a b c d e f g " || bad "adopted, up: $(got)"
stop
[ "$(thing 5)" != "$first" ] || bad "a table made anew has the old one's name"
[ "$(thing 6)" != "$(thing 5)" ] || bad "a table made anew has the old one's name"
audited
# Another database: what the rows before were named can't be told from there.
sql "CREATE DATABASE c TEMPLATE postgres"
db=c
start on_replaced=adopt
psql -XAtq -d c -c "INSERT INTO ev2 VALUES (8, 'h')"
until_true has "a b c d e f g h " || bad "another database: $(got)"
stop
audited
"$pawl" audit "$work/log" | grep -q "another cluster or database" || bad "not listed as passed over"
psql -XAtq -d postgres -c "DROP DATABASE c"
db=postgres
host=$PG_DIR
table=ev
sql "DROP TABLE ev2"

# ---- another database, the columns' types
name=database
begin
stop
sql "CREATE DATABASE b TEMPLATE postgres"
db=b
start
wait "$child" && bad "another database: it ended well"
said "another cluster or database" || bad "another database: not said"
db=postgres
sql "ALTER TABLE ev DROP id; ALTER TABLE ev ADD id timestamptz DEFAULT now()"
start
wait "$child" && bad "another type: it ended well"
said "other types" || bad "another type: not said"
[ "$failed" = 0 ] || exit 1
echo "$((count + 3)) cases"
