#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-label: slow
# test-timeout: 900
#
# ext4 and XFS, shut down without flushing their journal while a writer works: what was not synced
# is gone, as after a power cut with a device that keeps what it was given. Then mounted again and
# looked at: every acknowledged record is there once.
set -u
# shellcheck source=tests/support/lib_powercut.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/lib_powercut.sh"

cuts=0
# Runs a command until the file system goes down at the N-th event in the log's directory. Sets
# `status`.
run_and_cut() { # run_and_cut modify|rename N COMMAND...
    begin_cutter "$log" "$1" "$2"
    status=0
    timeout 60 "${@:3}" >"$work/out" 2>&1 || status=$?
    [ $status -ne 124 ] || bad "it hangs: ${*:3}"
    end_cutter
}

# A new log every few rounds keeps it small enough for the oracle, and cuts creation too.
writer_round() { # writer_round ROUND
    local event=modify
    [ $(($1 % 4)) -eq 0 ] && rm -rf -- "$log" "$acks"
    between 1 300
    [ $(($1 % 3)) -eq 2 ] && event=rename && between 1 4
    variant "$1"
    run_and_cut $event "$n" "$prog" work "$log" "$acks" 7 "$backend" "$direct" 100000
    case $status in 3 | 4) ;; *) cat "$work/out"; bad "the writer ended with $status" ;; esac
    remount
    # shellcheck disable=SC2119 # with no argument: any backend
    check_everything
}

# The command itself: ingest and pipe, cut again and again, put every line into the log once.
command_rounds() { # command_rounds ROUNDS
    local round io
    rm -rf -- "$log"
    : >"$acks"
    "$pawl" init "$log" --segment-size 1M && "$pawl" stream create "$log" lines &&
        "$pawl" stream create "$log" out || bad init
    for ((round = 0; round < $1; round++)); do
        variant "$round"
        io=(--backend "$backend" --direct "$([ "$direct" = direct ] && echo on || echo off)")
        between 1 90
        run_and_cut modify "$n" "$pawl" ingest "${io[@]}" "$log" lines --producer p --batch 20 \
            "$work/lines"
        remount
        between 1 30
        run_and_cut modify "$n" "$pawl" pipe "${io[@]}" "$log" --name up --from lines --to out \
            --batch 300 -- tr a-z A-Z
        remount
        verify_all "before recovery"
    done
    "$pawl" ingest "$log" lines --producer p "$work/lines" >"$work/out" 2>&1 ||
        bad "ingest: $(cat "$work/out")"
    "$pawl" pipe "$log" --name up --from lines --to out -- tr a-z A-Z >"$work/out" 2>&1 ||
        bad "pipe: $(cat "$work/out")"
    "$pawl" cat "$log" lines | cmp - "$work/lines" || bad "the lines are not those of the file"
    tr a-z A-Z <"$work/lines" | cmp - <("$pawl" cat "$log" out) ||
        bad "the output is not that of the lines"
    verify_all "at the end"
    ask_oracle "at the end"
}

seq 6000 | awk '{ printf("line %d of the file, %x\n", $1, ($1 * 40503) % 65521) }' >"$work/lines"
tried=0
for fs in ext4 xfs; do
    fs_is_here $fs || continue
    insert_image $fs || continue
    tried=$((tried + 1)) cuts=0 rounds=0
    share 2
    while more $rounds 10; do
        writer_round $rounds
        rounds=$((rounds + 1))
        if [ $((rounds % 10)) -eq 0 ]; then command_rounds 3; fi
    done
    remove_image
    echo "$fs: cut $cuts times, nothing acknowledged lost or doubled; $(checked)"
    [ $cuts -ge $rounds ] || bad "$fs was cut $cuts times only in $rounds rounds"
done
[ "$tried" -gt 0 ] || skip "neither ext4 nor XFS can be mounted from a loop device here"
