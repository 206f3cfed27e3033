#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# `pawl table` shows tables, pairs and digests in each format, also beside a writer; what it can't
# show is a clear error and never another answer.
set -u
pawl=$1
dir=$(mktemp -d "${TMPDIR:-/tmp}/table.XXXXXX")
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
wrong=0

fail() {
    echo "$*"
    wrong=1
}
same() { # same WHAT EXPECTED ARGUMENTS...: standard output is EXPECTED
    local what=$1 expected=$2
    shift 2
    "$pawl" table "$@" >out 2>err </dev/null || fail "$what: ended with $?: $(cat err)"
    [ "$(cat out)" = "$(printf '%b' "$expected")" ] || fail "$what: $(cat out)"
}
refused() { # refused CODE WORDS ARGUMENTS...
    local code=$1 words=$2 got
    shift 2
    "$pawl" table "$@" >out 2>err </dev/null
    got=$?
    [ "$got" -eq "$code" ] && grep -qF -- "$words" err && [ ! -s out ] ||
        fail "pawl table $*: $got: $(cat err) $(cat out)"
}

"$PAWL_BUILD_DIR"/tests/prog_table log make || exit 1
few='few\towner\t1 partition\tversion 7\t5 pairs\t21 bytes'
many='many\towner\t4 partitions\tversion 0\t400 pairs\t4980 bytes'
same "list" "$few\n$many" list log
same "get" 'one' get log few a
same "get, hex" '6f6e65' get log few a --format hex
same "get, a key in hex" '\\u0000\\t\\n' get log few 00ff --hex
pairs='\\u0000\\xff\t\\u0000\\t\\n\na\tone\nab\ttwo\nb\t\nz\\t\tlast'
same "scan" "$pairs" scan log few
same "scan, prefix" 'a\tone\nab\ttwo' scan log few --prefix a
same "scan, range, reverse" 'ab\ttwo\na\tone' scan log few --from a --to b --reverse
same "scan, limit" 'z\\t\tlast' scan log few --reverse --limit 1
objects='{"partition":0,"key_base64":"AP8=","value":"\\u0000\\t\\n"}\n'
objects+='{"partition":0,"key":"a","value":"one"}\n'
objects+='{"partition":0,"key":"ab","value":"two"}\n'
objects+='{"partition":0,"key":"b","value":""}\n'
objects+='{"partition":0,"key":"z\\t","value":"last"}'
same "export" "$objects" export log few
[ "$("$pawl" table get log few a --format raw)" = one ] || fail "raw"
[ "$("$pawl" table scan log many | wc -l)" -eq 400 ] || fail "not all partitions"
for key in k0 k17 k399; do # its partition is found
    [ "$("$pawl" table get log many $key)" = "value ${key#k}" ] || fail "get $key"
done
"$pawl" table list log --format json | python3 -c '
import json, sys
rows = [json.loads(line) for line in sys.stdin]
assert [r["name"] for r in rows] == ["few", "many"], rows
assert rows[1]["pairs"] == 400, rows' || fail "json"
"$pawl" table digest log many >before || fail "digest"
[ "$(wc -l <before)" -eq 4 ] || fail "digests of four partitions"
"$pawl" table digest log many --partition 2 | cmp -s - <(sed -n 3p before) || fail "one digest"

refused 1 "there is no table 'none' in log" get log none a
refused 1 "no pair with this key" get log few nothing
refused 1 "has 4 partitions, from 0 on" scan log many --partition 4
refused 1 "no table" get log "$(printf 'x\033[31m')" a
refused 3 "cannot open elsewhere" list elsewhere
refused 2 "get takes DIR, NAME and KEY" get log few
refused 2 "an argument is empty" get log few ''
refused 2 "two hexadecimal digits" get log few 0g --hex
refused 2 "two hexadecimal digits" get log few 0 --hex
refused 2 "--limit doesn't go with get" get log few a --limit 1
refused 2 "--format takes text, hex, json or raw" scan log few --format xml
refused 2 "--format takes text or json" list log --format hex
refused 2 "is not list, get, scan, export or digest" drop log few

# beside a writer, which has flushed and goes on
mkfifo go
"$PAWL_BUILD_DIR"/tests/prog_table log hold <go &
writer=$!
exec 9>go
for _ in $(seq 200); do
    [ -e log/held ] && break
    sleep 0.05
done
beside=$("$pawl" table get log few a)
[ "$beside" = "beside" ] || fail "beside a writer: $beside"
exec 9>&-
wait "$writer" || fail "the writer"
"$pawl" verify log >out || fail "verify: $(cat out)"

# a damaged run: what isn't in it is shown, the rest is an error
runs=(log/*.run)
run=${runs[0]}
printf 'xxxx' | dd of="$run" bs=1 seek=5000 conv=notrunc status=none
"$pawl" table get log few a >/dev/null || fail "memory and newer runs are shown"
"$pawl" table export log many >out 2>err && fail "a damaged run is an error"
grep -q "${run#log/}" err && grep -q "pawl verify log" err || fail "which run: $(cat err)"
"$pawl" verify log >out 2>err && fail "verify says nothing"
grep -q "^run-damaged: .*${run#log/}, 4096 bytes at offset 4096" out || fail "$(cat out)"

# deleted, and made anew
"$PAWL_BUILD_DIR"/tests/prog_table log again || exit 1
same "the new table is empty" '' scan log few
refused 1 "no pair with this key" get log few a
exit $wrong
