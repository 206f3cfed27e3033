#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-label: slow
# test-timeout: 900
#
# A disk that loses power for real: ext4 and XFS on a loop device on a FUSE file with a volatile
# write cache (powercut/fuseblock.c). It is cut at the N-th write or flush, while a writer works or
# while it recovers from the cut before; sectors that were not flushed survive by chance. And it
# fails single or all writes or flushes: the writer stops for good (PAWL-7), and what it had
# acknowledged is there when the log is opened again.
set -u
# shellcheck source=tests/support/lib_powercut.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/lib_powercut.sh"

need_disk

work_until() { # work_until COUNT: sets `status`
    status=0
    timeout 60 "$prog" work "$log" "$acks" 7 "$backend" "$direct" "$1" >"$work/out" 2>&1 ||
        status=$?
    [ $status -ne 124 ] || bad "the writer hangs"
}
fresh_log() { rm -rf -- "$log" "$acks"; sync; }

# The cut at the N-th write or flush; now and then another one while recovering from it, soon after
# it, or both.
cut_round() { # cut_round ROUND
    local percents=(50 0 90 100 10) again
    [ $(($1 % 4)) -eq 0 ] && fresh_log
    variant "$1"
    between 1 $(($1 % 2 ? 60 : 700))
    for ((again = 0; again <= $1 % 3; again++)); do
        tell_disk "cut $n ${percents[$((RANDOM % 5))]}"
        work_until 100000
        case $status in 3 | 4) ;; *) bad "the writer ended with $status: $(cat "$work/out")" ;; esac
        cuts=$((cuts + 1))
        power_cycle
        between 1 40
        variant "$n"
    done
    check_everything
}

# One failed write or flush, or all from one on. Where it hit the file system's own, the writer may
# not notice.
fault_round() { # fault_round ROUND
    local what=write count=1
    fresh_log
    variant "$1"
    [ $((RANDOM % 3)) -eq 0 ] && what=flush
    [ $((RANDOM % 4)) -eq 0 ] && count=1000000
    between 20 250
    tell_disk "fail $what $n $count"
    work_until 400
    tell_disk on
    case $status in 3) stopped=$((stopped + 1)) ;; 0) ;; *) bad \
        "the writer ended with $status: $(cat "$work/out")" ;; esac
    faults=$((faults + 1))
    # In the same way on the same file system, if it still can: what the page cache holds may differ
    # from the medium now.
    if touch "$mnt/probe" 2>/dev/null && sync -f "$mnt/probe" 2>/dev/null; then
        check_everything "$backend" "$direct"
        reopened=$((reopened + 1))
    fi
    tell_disk "cut 0 0"
    power_cycle
    check_everything
}

tried=0
for fs in ext4 xfs; do
    fs_is_here $fs || continue
    insert_disk $fs || continue
    tried=$((tried + 1)) cuts=0 faults=0 stopped=0 reopened=0 rounds=0
    share 2
    while more $rounds 12; do
        cut_round $rounds
        if [ $((rounds % 3)) -ne 0 ]; then fault_round $faults; fi
        rounds=$((rounds + 1))
    done
    echo "$fs: power cut $cuts times, $(disk_state lost) sectors lost and $(disk_state kept) kept; $faults faults, stopped for good by $stopped;" \
        "reopened after $reopened without a cut, file system mended by fsck $fs_checks times; $(checked)"
    [ $((stopped * 2)) -ge $faults ] || bad "of $faults faults, $stopped stopped the writer"
    remove_disk
done
[ "$tried" -gt 0 ] || skip "neither ext4 nor XFS can be mounted from a loop device here"
