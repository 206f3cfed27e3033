#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-label: slow
# test-timeout: 300
#
# `pawl run` on a whole pipeline, killed with -9 again and again: log lines through a regular
# expression, a filter, a route and a window of ids into rotating files, compared with what sed, awk
# and sort say. Then its signals: a drain, a second one, a reload; and its status.
set -u
export LC_ALL=C
pawl=$(realpath "${1:-${PAWL_COMMAND:-}}")
[ -x "$pawl" ] || { echo "SKIPPED: no command pawl"; exit 77; }
work=$(mktemp -d) || exit 1
child=
trap '[ -n "$child" ] && kill -9 "$child" 2>/dev/null; rm -rf -- "$work"' EXIT
bad() { echo "FAILED: $*"; [ -s err ] && tail -5 err; exit 1; }
cd "$work" || exit 1

seq 60000 | awk '{ s = ($1 * 7919) % 1000; if (s % 3 == 2) printf("noise %d\n", ($1 * 37) % 5000); else printf("t=%d user=u%d %s \"x%d\\\"\n", $1, s % 50, (s % 3 == 0 ? "fail" : "ok"), ($1 * 31) % 2000) }' >input
cat >p.yaml <<'Y'
name: whole
log: {directory: log, segment_size: 4M, retention: {consumed: true}}
streams: {lines: {partitions: 2}, parsed: {partitions: 3}, fails: {}, oks: {}, rest: {partitions: 2}, ids: {partitions: 2}, tagged: {}, dead: {}}
processors:
  parse:
    type: regex
    from: lines
    to: parsed
    pattern: '^t=(?<t>\d+) user=(?<user>\S+) (?<what>fail|ok) "(?<x>.*)"$'
    key: user
    rest: rest
  split: {type: route, from: parsed, by: json:what, routes: {fail: fails, ok: oks}}
  pick: {type: json, from: fails, to: tagged, fields: {who: user, x: x}}
  once: {type: dedup, from: rest, to: ids, id: value, window: 100000}
  nothing: {type: filter, from: oks, to: dead, of: json:user, equals: nobody}
sinks:
  fails: &no
Y
"$pawl" check p.yaml 2>err && bad "an anchor was taken"
grep -q '^p.yaml:17: ' err || bad "the anchor's line"
sed -i '$d' p.yaml
cat >>p.yaml <<'Y'
  to-tagged: {type: file, from: tagged, directory: out, name: tagged, rotate_size: 100k, batch_records: 500}
  to-oks: {type: file, from: oks, directory: out, name: oks, rotate_size: 200k, compress: none, batch_records: 700}
  to-ids: {type: file, from: ids, directory: out, name: ids, rotate_size: 100k, batch_records: 300}
  to-dead: {type: file, from: dead, directory: out, name: dead}
Y
"$pawl" check p.yaml >told 2>err || bad "check"
grep -q 'processor parse (regex): lines -> parsed, rest' told || bad "check explains nothing"

# the oracle
sed -nE 's/^t=([0-9]+) user=(\S+) fail "(.*)"$/\2 \3/p' input | sed 's/\\/\\\\/g; s/"/\\"/g' |
    awk '{ printf("{\"who\":\"%s\",\"x\":\"%s\"}\n", $1, $2) }' | sort >want.tagged
grep -c ' ok ' input >want.oks
grep noise input | sort -u >want.ids

"$pawl" init log --segment-size 4M && "$pawl" stream create log lines --partitions 2 || bad "set-up"
"$pawl" ingest log lines --producer p input 2>err || bad ingest

killed=0
for ((i = 0; i < 12; i++)); do
    "$pawl" run p.yaml --until-idle 2>err &
    child=$!
    sleep "0.$(printf '%03d' $((RANDOM % 250 + 20)))"
    kill -9 "$child" 2>/dev/null
    wait "$child" 2>/dev/null
    case $? in
    137) killed=$((killed + 1)) ;;
    0) [ "$killed" -ge 6 ] && break ;;
    *) bad "run ended by itself" ;;
    esac
done
child=
"$pawl" run p.yaml --until-idle 2>err || bad "the last run"
[ "$killed" -ge 5 ] || bad "killed $killed times only"
find out -mindepth 1 \( -name '.*' -o -name '*.part' -o -name '*.aside*' \) | grep . &&
    bad "leftovers"
cat out/tagged-* | sort | cmp - want.tagged || bad "tagged"
[ "$(cat out/oks-* | wc -l)" = "$(cat want.oks)" ] &&
    [ "$(cat out/oks-* | sort -u | wc -l)" = "$(cat want.oks)" ] || bad "oks"
# a window is of one partition: each holds each id at most once
cat out/ids-ids-0-* | sort >ids.0
cat out/ids-ids-1-* | sort >ids.1
for p in 0 1; do [ -z "$(uniq -d ids.$p)" ] || bad "an id came twice in partition $p"; done
sort -u ids.0 ids.1 | cmp - want.ids || bad "ids"
"$pawl" audit log >/dev/null || bad audit
echo "killed $killed times: $(wc -l <want.tagged) picked, $(cat want.oks) routed, $(wc -l <want.ids) ids, each once"

# ---- status, reload, drain

wait_for() { # until the command succeeds, for at most 20 seconds
    local n
    for ((n = 0; n < 400; n++)); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done
    bad "in vain: $*"
}
running() { "$pawl" status log | grep -q '^pipeline whole .*: running'; }
"$pawl" run p.yaml 2>err &
child=$!
wait_for running
"$pawl" status log --json | grep -q '"type": "regex"' || bad "status --json"
"$pawl" status log | grep -Eq \
    '^writes +[0-9]+ groups of frames, .*(each goes at once|waits for [0-9]+)$' ||
    bad "status: how groups are chosen"
sed -i 's/equals: nobody/equals: u1/' p.yaml
kill -HUP "$child"
wait_for grep -q reloaded err
sed -i 's/type: filter/type: filtre/' p.yaml
kill -HUP "$child"
wait_for grep -q 'did you mean "filter"' err
wait_for grep -q 'everything goes on as it was' err
running || bad "it ended with a wrong file"
kill -TERM "$child"
wait "$child" || bad "SIGTERM: status $?"
child=
"$pawl" status log | grep -q '^pipeline' && bad "the socket answers after the end"
"$pawl" verify log | grep -q 'closed in good order' || bad "not closed in good order"

# ---- a sink that fails for good while it is drained

sed -i 's/filtre/filter/' p.yaml
cat >>p.yaml <<'Y'
  last: {type: exec, from: rest, command: ': >took; while [ ! -e go ]; do sleep 0.02; done; exit 78'}
Y
echo 'noise for the last' | "$pawl" ingest log lines 2>err || bad "ingest for the last"
"$pawl" run p.yaml 2>err &
child=$!
wait_for test -e took
kill -TERM "$child"
sleep 0.5 # where it isn't draining yet, this shows nothing, and fails nothing
touch go
wait "$child"
[ $? = 1 ] && grep -q 'ended with status 78' err || bad "a sink that fails while it is drained"
child=
sed -i '$d' p.yaml

# ---- a second signal: a sink that hangs

echo "  hang: {type: exec, from: lines, start: beginning, command: 'echo \$\$ >hang; exec sleep 100', timeout: 1h}" >>p.yaml
echo 'one more noise' | "$pawl" ingest log lines 2>err || bad "ingest one more"
"$pawl" run p.yaml 2>err &
child=$!
wait_for test -s hang
kill -TERM "$child"
sleep 0.3
kill -TERM "$child"
wait "$child"
[ $? = 1 ] && grep -q 'told to stop twice' err || bad "a second SIGTERM"
child=
kill -9 "$(cat hang)"
sed -i '$d' p.yaml
"$pawl" processor list log >/dev/null && "$pawl" run p.yaml --until-idle 2>err ||
    bad "after the hard end"
"$pawl" audit log >/dev/null || bad "audit in the end"
echo "signals: well"
