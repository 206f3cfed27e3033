#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-timeout: 240
#
# One failed part of a pipeline ends no other: it is said and shown, the others go on, and the exit
# code is 1 in the end. A pipeline whose sources are finite ends by itself when all is delivered.
set -u
export LC_ALL=C
pawl=$(realpath "${1:-${PAWL_COMMAND:-}}")
[ -x "$pawl" ] || { echo "SKIPPED: no command pawl"; exit 77; }
work=$(mktemp -d) || exit 1
child=
trap '[ -n "$child" ] && kill -9 "$child" 2>/dev/null; rm -rf -- "$work"' EXIT
bad() { echo "FAILED: $*"; [ -s err ] && tail -8 err; exit 1; }
cd "$work" || exit 1
wait_for() { # until the command succeeds, for at most 30 seconds
    local n
    for ((n = 0; n < 600; n++)); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done
    bad "in vain: $*"
}
# state NAME: what `pawl status` says of a part
state() { "$pawl" status log | awk -v n="$1" '$2 == n && NF == 7 { print $4 }'; }
state_is() { [ "$(state "$1")" = "$2" ]; }
lines_are() { [ -e "$1" ] && [ "$(wc -l <"$1")" -ge "$2" ]; }
fresh() { rm -rf log out got* err; }
run() { "$pawl" run p.yaml >stdout 2>err & child=$!; }
# ended CODE WHAT: it ends by itself
ended() {
    local code n
    for ((n = 0; n < 600; n++)); do kill -0 "$child" 2>/dev/null || break; sleep 0.05; done
    kill -0 "$child" 2>/dev/null && bad "$2: it doesn't end"
    wait "$child"
    code=$?
    child=
    [ "$code" = "$1" ] || bad "$2: ended with $code"
}
top() { printf 'log: {directory: log, segment_size: 1M}\nstreams: [a, b, c]\n'; }
more() { seq -f 'line %.0f' "$1" "$2" >>in; }

# ---- a source, a processor and a sink fail; their neighbours go on

: >in
{ top; cat <<Y; } >p.yaml
sources:
  good-source: {type: file, path: in, to: a, line_max: 100k}
  bad-source: {type: socket, address: unix:/nowhere/at/all, to: b, line_max: 100k}
processors:
  good: {type: filter, from: a, to: b, match: line}
  bad: {type: json, from: a, to: c, fields: {x: y}, on_error: stop}
sinks:
  good-sink: {type: exec, from: b, command: 'cat >>got'}
  bad-sink: {type: exec, from: a, command: 'exit 78'}
Y
run
wait_for test -S log/run.sock
more 1 100
wait_for lines_are got 100
wait_for state_is bad failed
wait_for state_is bad-sink failed
more 101 200
wait_for lines_are got 200
state_is good-source idle || state_is good-source running || bad "the good source"
state_is good running || bad "the good processor"
"$pawl" status log | grep -q 'the value is not JSON: ' || bad "why the processor failed"
"$pawl" status log | grep -q '^pipeline p.yaml .*: running, ' || bad "the pipeline's own state"
grep -q 'p.yaml/bad: processor bad refuses the record at offset 0' err ||
    bad "the processor's message"
grep -q 'p.yaml/bad-sink: ' err || bad "the sink's message"
kill -TERM "$child"
ended 1 "three failed parts"
"$pawl" audit log >/dev/null || bad audit
[ "$(sort -u got | wc -l)" = 200 ] && [ "$(wc -l <got)" = 200 ] || bad "the good sink's lines"
echo "three failed parts, and the others: well"

# ---- on_failure: end

fresh
more 1 10
sed '/^sources:/i on_failure: end' p.yaml >q.yaml && mv q.yaml p.yaml
run
ended 1 "on_failure: end"
grep -q 'on_failure is end' err || bad "on_failure: end, the message"
echo "on_failure: end: well"

# ---- the last part that could go on has failed

fresh
{ seq 10; printf '%02000d\n' 0; } >in
{ top; echo 'sources: {f: {type: file, path: in, to: a, on_error: stop, line_max: 1k}}'; } >p.yaml
echo "sinks: {k: {type: exec, from: a, command: 'exit 78'}}" >>p.yaml
run
ended 1 "no part is left"
grep -q 'no part is left that could go on' err || bad "no part is left, the message"
echo "no part is left: well"

# ---- one pipeline of two can't start

fresh
: >in
{
    top
    echo 'sources: {s: {type: file, path: in, to: a, line_max: 100k}}'
    echo "sinks: {k: {type: exec, from: a, command: 'cat >>got'}}"
    echo '---'
    top | sed 's|directory: log|directory: no/log|'
    echo "sinks: {k: {type: exec, from: a, command: 'cat >>got'}}"
} >p.yaml
run
wait_for test -S log/run.sock
more 1 10
wait_for lines_are got 10
kill -TERM "$child"
ended 3 "a pipeline that can't start"
grep -q 'cannot open the log no/log' err || bad "the pipeline that can't start"
echo "two pipelines, one can't start: well"

# ---- finite sources

fresh
rm in && more 1 3000
mkdir -p dir && cp in dir/one && seq 500 >dir/two
{ top; cat <<'Y'; } >p.yaml
sources:
  f: {type: file, path: in, to: a, follow: false, line_max: 100k}
  d: {type: dir, path: dir, to: a, follow: false, line_max: 100k}
  i: {type: stdin, to: b, line_max: 100k}
processors:
  one: {type: filter, from: a, to: b, match: .}
  two: {type: filter, from: b, to: c, match: .}
sinks:
  two-phase: {type: file, from: c, directory: out, rotate_age: 0}
  slow: {type: exec, from: c, command: 'sleep 0.3; cat >>got'}
Y
"$pawl" run p.yaml 2>err < <(seq 100) || bad "finite sources: ended with $?"
[ "$(cat out/two-phase-* | wc -l)" = 6600 ] || bad "finite: $(cat out/two-phase-* | wc -l) in files"
[ "$(wc -l <got)" = 6600 ] || bad "finite: the slow sink"
"$pawl" verify log | grep -q 'closed in good order' || bad "finite: not closed in good order"
echo "finite sources: well"

# ---- finite, with a sink that retries: it goes on retrying, and says so

fresh
{ top; cat <<'Y'; } >p.yaml
sources: {f: {type: file, path: in, to: a, follow: false, line_max: 100k}}
sinks: {k: {type: exec, from: a, backoff_max: 200ms, command: 'test -e go && cat >>got'}}
Y
run
wait_for grep -q 'p.yaml/k: the sources have ended; this sink has 3000 records to deliver' err
kill -0 "$child" || bad "it ended with a sink that retries"
touch go
ended 0 "a sink that retried"
[ "$(wc -l <got)" = 3000 ] || bad "what the sink that retried has got"
rm go
echo "finite, with a sink that retries: well"

# ---- finite, with a part that fails: 1, after the others are done

fresh
{ top; cat <<'Y'; } >p.yaml
sources: {f: {type: file, path: in, to: a, follow: false, line_max: 100k}}
processors:
  bad: {type: json, from: a, to: c, fields: {x: y}, on_error: stop}
  good: {type: filter, from: a, to: b, match: .}
sinks:
  bad-sink: {type: exec, from: a, command: 'exit 78'}
  k: {type: exec, from: b, command: 'sleep 0.2; cat >>got'}
  after-bad: {type: exec, from: c, command: 'cat >>got-c'}
Y
run
ended 1 "finite, with failed parts"
[ "$(wc -l <got)" = 3000 ] || bad "finite, with failed parts: $(wc -l <got)"
echo "finite, with failed parts: well"

# ---- a stream keeps its partitions, and a decided batch of a sink that is gone is said

fresh
echo 'one line' >one
{ top; cat <<'Y'; } >p.yaml
sources: {f: {type: file, path: one, to: a, follow: false, line_max: 100k}}
sinks: {k: {type: file, from: a, directory: out}}
Y
run
ended 0 "set-up"
for n in 2 4; do
    rm -rf other && "$pawl" init other --segment-size 1M &&
        "$pawl" stream create other a --partitions 3 || bad "set-up"
    printf 'log: {directory: other}\nstreams: {a: {partitions: %s}}\n' $n >q.yaml
    printf 'sources: {f: {type: file, path: one, to: a, follow: false}}\n' >>q.yaml
    "$pawl" run q.yaml >stdout 2>err && bad "$n partitions instead of 3 are taken"
    grep -q "the stream has 3 partitions in the log and $n" err || bad "partitions: $(cat err)"
done
rm -rf out log
"$pawl" init log --segment-size 1M && "$pawl" stream create log a && "$pawl" stream create log b &&
    "$pawl" stream create log c && "$pawl" ingest log a one >/dev/null || bad "set-up"
"$(dirname "$pawl")/tests/prog_sink" log gone a file 'at=batch-decided:1:kill -9 $PPID' : \
    directory=out >/dev/null 2>&1
{ top; cat <<'Y'; } >p.yaml
sources: {f: {type: file, path: one, to: b, follow: false, line_max: 100k}}
Y
"$pawl" run p.yaml >stdout 2>err || bad "without the sink: $?"
grep -q 'the batch pawl-.* was decided and is not settled' err || bad "unsettled: not said"
"$pawl" processor forget log gone 2>err && bad "a sink with a decided batch is forgotten"
echo "partitions, and a decided batch: well"

# ---- a slow program and its pauses delay no neighbour

fresh
{ top; cat <<'Y'; } >p.yaml
sources: {f: {type: file, path: in, to: a, line_max: 100k}}
processors:
  hangs: {type: exec, from: a, to: c, command: 'touch hangs; exec sleep 1000'}
  again: {type: exec, from: a, to: c, command: 'touch again; exit 3', retries: 1000, backoff: 1h}
  good: {type: filter, from: a, to: b, match: .}
sinks: {k: {type: exec, from: b, command: 'cat >>got'}}
Y
run
wait_for test -e hangs
wait_for test -e again
more 3001 3100
wait_for lines_are got 3100
kill -TERM "$child"
sleep 0.2
kill -TERM "$child"
wait "$child"
child=
echo "a program that hangs, one that is tried again: well"
