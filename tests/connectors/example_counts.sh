#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-timeout: 300
#
# The examples that count: failed logins by address, messages by module, words of a text; each as a
# program and as a pipeline file, on an input of our own and on real logs where they are there. Each
# is killed with -9 again and again and run again. In the end its counts are what awk counts, and
# what SQLite counts; and of each key each count was emitted once, in order.
set -u
export LC_ALL=C
pawl=$(realpath "${1:-${PAWL_COMMAND:-}}")
root=${PAWL_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
examples=$(dirname "$pawl")/examples
data=${PAWL_EXAMPLE_DATA:-$root/../shared/data}
[ -x "$pawl" ] && [ -x "$examples/count_words" ] || {
    echo "SKIPPED: the command or the examples are not built"
    exit 77
}
work=$(mktemp -d) || exit 1
child=
trap '[ -n "$child" ] && kill -9 "$child" 2>/dev/null; [ -n "${KEEP:-}" ] || rm -rf -- "$work"' EXIT
bad() { echo "FAILED: $*"; [ -s err ] && tail -5 err; exit 1; }
cd "$work" || exit 1
types=$("$pawl" check --types)

# ---- the inputs

awk 'BEGIN {
    srand(3); split("root admin oracle guest", user, " ")
    split("jk2_init mod_jk workerEnv mod_ssl", module, " ")
    for (i = 0; i < 3000; i++) {
        who = user[1 + int(rand() * 4)]; from = "203.0.113." int(rand() * rand() * 40)
        if (i % 97 == 0) who = "x from 192.0.2.1 port 1 ssh2"       # it must not choose the address
        when = sprintf("Dec 10 %02d:%02d:%02d host sshd[%d]:", i / 3600, i / 60 % 60, i % 60, i)
        if (i % 4 == 0) what = "Invalid user " who " from " from
        else what = "Failed password for " who " from " from " port " i + 1024 " ssh2"
        print when, what >"logins"
        when = sprintf("[Sun Dec 04 %02d:%02d:%02d 2005]", i / 3600, i / 60 % 60, i % 60)
        if (i % 5 == 0) what = "[error] [client 192.0.2.7] Directory index forbidden"
        else what = "[notice] " module[1 + int(rand() * rand() * 4)] "() ok"
        print when, what >"modules"
    }
    for (i = 0; i < 20000; i++) {
        line = ""
        for (k = 0; k < 10; k++)
            line = line sprintf("%c%c", 97 + rand() * rand() * 26, 65 + rand() * 3) \
                (rand() < 0.5 ? "x" : "") (k % 4 == 3 ? ", " : " ")
        print line >"words"
    }
}'

# What is counted, a key a line.
keys_logins() { sed -n 's/.*Failed password for .* from \([^ ]*\) port [0-9].*/\1/p'; }
keys_modules() { awk '$7 !~ /^\[/ { sub(/[^A-Za-z0-9_].*/, "", $7); print $7 }'; }
keys_words() { grep -o '[A-Za-z]*[A-Za-z]'; }

# ---- NAME INPUT: what awk and SQLite count, as "count key", sorted

expect() {
    "keys_$1" <"$2" >keys
    [ "$(wc -l <keys)" -gt 100 ] || bad "there is little to count in $2"
    awk '{ n[$1]++ } END { for (k in n) print n[k], k }' keys | sort >want
    python3 - <<'P' || bad "SQLite counts otherwise than awk"
import sqlite3
db = sqlite3.connect(":memory:")
db.execute("CREATE TABLE keys (key TEXT)")
db.executemany("INSERT INTO keys VALUES (?)", ((l.rstrip("\n"),) for l in open("keys")))
rows = db.execute("SELECT count(*), key FROM keys GROUP BY key").fetchall()
want = sorted(l.rstrip("\n") for l in open("want"))
assert sorted(f"{n} {key}" for n, key in rows) == want
P
}

# Runs a command until it ends by itself, killing it after a random time below $1 ms in each of the
# first $2 rounds.
killed=0
until_done() {
    local most=$1 rounds=$2 status=137
    shift 2
    for ((; rounds > 0; rounds--)); do
        "$@" >got 2>err &
        child=$!
        sleep "0.$(printf '%03d' $((RANDOM % most + 1)))"
        kill -9 "$child" 2>/dev/null
        wait "$child" 2>/dev/null
        status=$?
        child=
        [ "$status" = 137 ] || [ "$status" = 0 ] || bad "$* ended with $status"
        [ "$status" = 137 ] && killed=$((killed + 1))
    done
    "$@" >got 2>err || bad "$*"
}

program() { # NAME INPUT
    rm -rf log
    until_done 90 12 "$examples/count_$1" log "$2"
    awk '{ print $1, $2 }' got | sort | cmp -s - want || bad "the program count_$1 counts otherwise"
    "$examples/count_$1" log "$2" | awk '{ print $1, $2 }' | sort | cmp -s - want ||
        bad "count_$1 counts again"
    "$pawl" audit log >/dev/null || bad "audit of count_$1"
}

# ---- a pipeline; $3 1: each count was emitted

emitted() {
    "$pawl" cat "$1" counts --format json | python3 -c '
import json, sys
n = {}
for line in sys.stdin:
    r = json.loads(line)
    key, value = r["key"], int(r["value"])
    before = n.get(key, 0)
    assert value == before + 1 if sys.argv[1] == "1" else value > before, (key, before, value)
    n[key] = value
for key in n:
    print(n[key], key)' "$2" | sort
}

pipeline() { # NAME INPUT EACH
    local file=$1.yaml log=$1-log
    rm -rf ./*-log words modules.out ./*.db* out
    # smaller batches, so that there is something to kill; and all is kept, so that it can be checked
    sed -e 's/retention: {consumed: true}/retention: {}/' \
        -e 's/type: count/type: count\n    batch_records: 100/' \
        "$root/examples/count_$1.yaml" >"$file"
    "$pawl" check --quiet "$root/examples/count_$1.yaml" 2>err || bad "check of count_$1.yaml"
    export LOG=$2 TEXT=$2
    until_done 200 8 "$pawl" run "$file" --until-idle
    emitted "$log" "$3" | cmp -s - want || bad "count_$1.yaml emits otherwise"
    "$pawl" audit "$log" >/dev/null || bad "audit of count_$1.yaml"
    case $1 in
    logins)
        python3 - <<'P' | sort | cmp -s - want || bad "the rows of count_logins.yaml"
import sqlite3
for address, n in sqlite3.connect("logins.db").execute("SELECT address, failures FROM failures"):
    print(n, address)
P
        ;;
    words)
        cat words/*.jsonl | python3 -c '
import json, sys
n = {}
for line in sys.stdin:
    r = json.loads(line)
    n[r["key"]] = r["value"]
for key in n:
    print(n[key], key)' | sort | cmp -s - want || bad "the files of count_words.yaml"
        ;;
    esac
}

try() { # NAME INPUT EACH
    expect "$1" "$2"
    program "$1" "$2"
    if [ "$1" = logins ] && ! grep -q '^sink sqlite:' <<<"$types"; then
        echo "count_logins.yaml: passed over, this build has no SQLite"
    else
        pipeline "$1" "$2" "$3"
    fi
    echo "$1: $(wc -l <keys) of $(wc -l <"$2") lines' texts counted, $(wc -l <want) keys"
}

if "$pawl" check "$root/examples/count_modules.yaml" 2>&1 | grep -q 'no regular expressions'; then
    echo "SKIPPED: built without PCRE2"
    exit 77
fi
mv words words.in; mv logins logins.in; mv modules modules.in
try logins "$work/logins.in" 1
try modules "$work/modules.in" 0
try words "$work/words.in" 0
if [ -r "$data/OpenSSH_2k.log" ] && [ -r "$data/Apache_2k.log" ]; then
    # a file that is followed may go on where its last line has no end
    { cat "$data/OpenSSH_2k.log"; echo; } >ssh.in
    { cat "$data/Apache_2k.log"; echo; } >apache.in
    try logins "$work/ssh.in" 1
    try modules "$work/apache.in" 0
    for ((i = 0; i < 10; i++)); do cat "$data"/*.log; done >all.in # a large text
    try words "$work/all.in" 0
else
    echo "the real logs: passed over, there is no $data"
fi
[ "$killed" -ge 10 ] || bad "only $killed kills"
echo "killed with -9 $killed times: every count is exact"
