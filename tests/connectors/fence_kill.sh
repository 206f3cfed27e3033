#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# test-label: slow
#
# The sink exec, the processor exec and `pawl pipe` with a slow program, killed again and again at
# random: no two programs ever work for them at once (PAWL-15), and in the end each batch has had
# its effect once. The program hands its work to a process of its own session, as daemons do.
set -u
pawl=$1
work=$(mktemp -d "${TMPDIR:-/var/tmp}/fence.XXXXXX") || exit 1
trap 'rm -rf -- "$work"' EXIT
cd "$work" || exit 1
failures=0
bad() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}
RANDOM=7

# program NAME: waits for the lock of NAME, which whoever works holds; then the batch's effect is a
# file, made by a rename. The parent only waits.
cat >program <<'END'
#!/usr/bin/env bash
name=$1 input=$(mktemp "$WORK/input.XXXXXX")
cat >"$input"
setsid bash -c '
    exec 9>"$WORK/$0.busy"
    flock -n 9 || echo "$PAWL_FROM" >>"$WORK/$0.overlaps"
    sleep 0.06
    mv "$1" "$WORK/$0.$PAWL_STREAM.$PAWL_PARTITION.$PAWL_FROM"' "$name" "$input" &
wait
cat "$WORK/$name.$PAWL_STREAM.$PAWL_PARTITION.$PAWL_FROM"
END
chmod +x program
export WORK=$work

seq 1 100 >lines
cat >pipeline.yaml <<END
log: {directory: $work/log, segment_size: 1M}
streams: {lines: {}, done: {}}
sources: {in: {type: file, path: $work/lines, to: lines, follow: false}}
processors:
  proc: {type: exec, from: lines, to: done, command: [./program, proc], batch_records: 4,
         environment: [WORK]}
sinks:
  out: {type: exec, from: done, command: [./program, sink], batch_records: 5, environment: [WORK]}
END

# killed COMMAND...: runs it, and kills it after 50 to 450 ms
killed() {
    "$@" >>output 2>&1 &
    local pid=$!
    sleep "0.$((RANDOM % 41 + 5))"
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
}

# whole NAME STREAM FILE: the effects together are the file, once, and nobody overlapped
whole() {
    [ -e "$1.overlaps" ] && bad "$1: two programs at once, at $(sort -u "$1.overlaps" | xargs)"
    cat "$1.$2".* | sort -n | cmp - "$3" || bad "$1: the effects are not each record's, once"
}

for _ in 1 2 3 4 5 6; do
    killed "$pawl" run pipeline.yaml --quiet
done
"$pawl" run pipeline.yaml --until-idle --quiet >>output 2>&1 || bad "pawl run: $(tail -n 3 output)"
whole proc lines lines
whole sink "done" lines

"$pawl" init "$work/log2" --segment-size 1M >>output 2>&1 &&
    "$pawl" stream create "$work/log2" a >>output 2>&1 &&
    "$pawl" stream create "$work/log2" b >>output 2>&1 &&
    "$pawl" ingest "$work/log2" a <lines >>output 2>&1 || bad "a log for pawl pipe: $(cat output)"
pipe=("$pawl" pipe "$work/log2" --name p --from a --to b --batch 5 -- ./program pipe)
for _ in 1 2 3 4 5 6; do
    killed "${pipe[@]}"
done
"${pipe[@]}" >>output 2>&1 || bad "pawl pipe: $(tail -n 3 output)"
whole pipe a lines

[ "$failures" -eq 0 ] && echo "18 kills: one program at a time"
exit "$((failures > 0))"
