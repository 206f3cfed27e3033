#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-label: slow
# test-timeout: 600
#
# A pipeline whose log and whose file sink are on ext4 or XFS, shut down without flushing its
# journal at the N-th change in either directory: what was not synced is gone, names included. In
# the end each record is in one visible file, once, and nothing was called lost.
set -u
# shellcheck source=tests/support/lib_powercut.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/lib_powercut.sh"

# Runs the pipeline until the file system goes down at the N-th event in a directory.
run_and_cut() { # run_and_cut DIRECTORY modify|rename N
    local pid
    begin_cutter "$@"
    "$pawl" run "$work/p.yaml" --quiet --until-idle >"$work/out" 2>&1 &
    pid=$!
    helpers+=("$pid")
    while kill -0 "$pid" 2>/dev/null && touch "$mnt" 2>/dev/null; do sleep 0.02; done
    kill -9 "$pid" 2>/dev/null # the power is off for it too
    wait "$pid" 2>/dev/null
    grep -q 'lost:' "$work/out" && bad "it takes for lost: $(cat "$work/out")"
    end_cutter
    return 0
}

seq 30000 | awk '{ printf("line %d of the file, %x\n", $1, ($1 * 40503) % 65521) }' >"$work/lines"
cat >"$work/p.yaml" <<END
log: {directory: $log, segment_size: 1M}
streams: {lines: {}}
sources: {in: {type: file, path: $work/lines, to: lines, follow: false, batch_records: 500}}
sinks:
  out: {type: file, from: lines, directory: $mnt/out, rotate_size: 100k, batch_records: 300}
END

tried=0
for fs in ext4 xfs; do
    fs_is_here $fs || continue
    insert_image $fs || continue
    tried=$((tried + 1)) cuts=0 rounds=0 logs=0
    share 2
    while more $rounds 24; do
        [ $((rounds % 8)) -eq 0 ] && rm -rf -- "$log" "$mnt/out" && logs=$((logs + 1))
        case $((rounds % 3)) in
            0) between 1 40 && run_and_cut "$mnt/out" modify "$n" ;;
            1) between 1 3 && run_and_cut "$mnt/out" rename "$n" ;;
            2) between 1 60 && run_and_cut "$log" modify "$n" ;;
        esac
        remount
        rounds=$((rounds + 1))
        if [ $((rounds % 8)) -eq 0 ]; then
            timeout 60 "$pawl" run "$work/p.yaml" --quiet --until-idle >"$work/out" 2>&1 ||
                bad "after all cuts: $(cat "$work/out")"
            cat "$mnt"/out/*.log | cmp - "$work/lines" || bad "not each record, once"
            [ -z "$(ls "$mnt"/out/*.part 2>/dev/null)" ] || bad "a part is left"
        fi
    done
    remove_image
    echo "$fs: cut $cuts times in $logs logs; each record in one file, once"
    [ $((cuts * 4)) -ge $rounds ] || bad "$fs was cut $cuts times only in $rounds rounds"
done
[ "$tried" -gt 0 ] || skip "neither ext4 nor XFS can be mounted from a loop device here"
