#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-label: slow
# test-timeout: 900
#
# What sinks write, on a disk that loses power (powercut/fuseblock.c): one stream goes into plain
# files, compressed files, and SQLite in both journal modes, in one pipeline. The power is cut at
# the N-th write or flush, while the pipeline works or while it recovers from the cut before. The
# log lies on the same disk, or on one that keeps its power: then it knows what was delivered, and
# the sinks' targets must still have it. At the end each line is in each target once, in order.
set -u
# shellcheck source=tests/support/lib_powercut.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/lib_powercut.sh"

command -v python3 >/dev/null || skip "no python3"
"$pawl" check --types | grep -q '^sink sqlite' || skip "built without SQLite"

lines=3000
need_disk

pipeline() { # pipeline LOG: on the disk, or beside it
    local sink="batch_records: 100, backoff: 1ms, backoff_max: 5ms"
    local files="type: file, from: lines, rotate_size: 20k, rotate_age: 1h, directory: $mnt"
    local rows="type: sqlite, from: lines, table: t, columns: {line: value}, $sink"
    cat <<END
log: {directory: $1, segment_size: 1M, memory: 16M}
drain: 5s
streams: {lines: {partitions: 1}}
sources:
  in: {type: file, path: $work/in, follow: false, to: lines, batch_records: 150, backoff: 1ms}
sinks:
  plain: {$files/plain, $sink}
  packed: {$files/packed, compress: gzip, $sink}
  wal: {$rows, path: $mnt/wal.db}
  journal: {$rows, path: $mnt/journal.db, journal: keep}
END
}

# Runs the pipeline until it ends, or until the power is gone and a while later it is still there.
# Sets `status`; 137 where it was killed.
run_it() {
    "$pawl" run "$work/p.yaml" >"$work/out" 2>&1 &
    local runner=$!
    helpers+=("$runner")
    while kill -0 "$runner" 2>/dev/null; do
        if power_is_off; then
            kill -9 "$runner" 2>/dev/null
            break
        fi
        sleep 0.02
    done
    status=0
    wait "$runner" 2>/dev/null || status=$?
    helpers=("${helpers[0]}") # the disk
}

rows() {
    python3 -c 'import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute("select line from t order by rowid"):
    print(row[0])' "$1"
}
complete() {
    cat "$mnt"/plain/*.log | cmp - "$work/in" || bad "$how, plain: not the lines of the input"
    zcat "$mnt"/packed/*.gz | cmp - "$work/in" || bad "$how, packed: not the lines of the input"
    rows "$mnt/wal.db" | cmp - "$work/in" || bad "$how, wal: not the lines of the input"
    rows "$mnt/journal.db" | cmp - "$work/in" || bad "$how, journal: not the lines of the input"
    verify_all "$how"
}

# A new log and new targets; the power is cut $2 times; then the pipeline runs to its end.
round() { # round LOG CUTS
    local i percents=(50 0 90 100 10)
    log=$1
    rm -rf -- "$log" "${mnt:?}"/*
    mkdir "$mnt/plain" "$mnt/packed"
    python3 -c 'import sqlite3, sys
for name in sys.argv[1:]:
    c = sqlite3.connect(name)
    c.execute("create table t(line text)")
    c.commit()' "$mnt/wal.db" "$mnt/journal.db" || bad "no database"
    sync -f "$mnt"
    pipeline "$log" >"$work/p.yaml"
    for ((i = 0; i < $2; i++)); do
        between 1 $((i % 2 ? 60 : 600))
        tell_disk "cut $n ${percents[$((RANDOM % 5))]}"
        run_it
        if power_is_off; then
            cuts=$((cuts + 1))
        else # there were fewer writes
            [ "$status" -eq 0 ] || bad "$how: ended with $status: $(cat "$work/out")"
            tell_disk "cut 0 50"
        fi
        power_cycle
    done
    tell_disk on
    run_it
    [ "$status" -eq 0 ] || bad "$how: ended with $status after the last cut: $(cat "$work/out")"
    complete
}

seq $lines | awk '{ printf("line %d of the file, %x\n", $1, ($1 * 40503) % 65521) }' >"$work/in"
tried=0
for fs in ext4 xfs; do
    fs_is_here $fs || continue
    insert_disk $fs || continue
    tried=$((tried + 1)) cuts=0 rounds=0
    share 2
    while more $rounds 4; do
        how="$fs, round $rounds"
        if [ $((rounds % 2)) -eq 0 ]; then round "$mnt/log" 4; else round "$work/log" 4; fi
        rounds=$((rounds + 1))
    done
    echo "$fs: power cut $cuts times in $rounds rounds, $(disk_state lost) sectors lost and" \
        "$(disk_state kept) kept; each of $lines lines in each of 4 targets once"
    [ $cuts -ge $((rounds * 2)) ] || bad "$fs was cut $cuts times only in $rounds rounds"
    remove_disk
done
[ "$tried" -gt 0 ] || skip "neither ext4 nor XFS can be mounted from a loop device here"
