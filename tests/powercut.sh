#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-label: slow
# test-timeout: 600
#
# A real kernel's file systems, cut with the shutdown ioctl without a log flush while a writer is at work: every acknowledged record is there, once and whole.
# PAWL_TORTURE_SECONDS: go on for so long.
set -u
pawl=${1:-${PAWL_COMMAND:-}}
program=$(dirname "$pawl")/tests/prog_powercut
PATH=$PATH:/usr/sbin:/sbin
skip() { echo "SKIPPED: $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip "mounting needs root"
[ -x "$program" ] || skip "there is no program $program"
work=$(mktemp -d /var/tmp/powercut.XXXXXX) || exit 1
device= writer=
clean() {
    [ -n "$writer" ] && kill -9 "$writer" 2>/dev/null && wait "$writer" 2>/dev/null
    mountpoint -q "$work/mnt" && unmount
    [ -n "$device" ] && losetup -d "$device"
    rm -rf -- "$work"
}
trap clean EXIT
# A ring that died with its process lets go of its files a little later: the kernel rings no bell for it.
unmount() {
    local tries
    for ((tries = 0; tries < 200; tries++)); do
        umount "$work/mnt" 2>"$work/umount" && return 0
        grep -q busy "$work/umount" || break
        sleep 0.05
    done
    cat "$work/umount"
    return 1
}
bad() { echo "FAILED: $*"; exit 1; }
mkdir "$work/mnt"

# rounds FILESYSTEM BACKEND DIRECT COUNT
rounds() {
    local kind=$1 backend=$2 direct=$3 count=$4 acknowledged=0 i status
    for ((i = 1; i <= count; i++)); do
        "$program" write "$work/mnt/log" "$backend" "$direct" >>"$work/acknowledged" 2>"$work/error" &
        writer=$!
        sleep "0.$((RANDOM % 4))$((RANDOM % 10))" # how long it works before the power goes: by chance, on purpose
        "$program" cut "$work/mnt" || bad "$kind: the file system could not be cut"
        wait "$writer"
        status=$?
        writer=
        [ "$status" = 3 ] || [ "$status" = 1 ] || bad "$kind: the writer ended with $status: $(cat "$work/error")"
        [ -s "$work/acknowledged" ] && acknowledged=$(($(tail -n 1 "$work/acknowledged") + 1))
        unmount || bad "$kind: umount"
        mount "$device" "$work/mnt" || bad "$kind: mount again"
        [ -e "$work/mnt/log" ] || { [ "$acknowledged" = 0 ] && continue; bad "$kind: the log is gone"; }
        "$program" check "$work/mnt/log" "$acknowledged" >"$work/said" 2>&1 || bad "$kind, $backend, $direct, round $i: $(cat "$work/said")"
        "$pawl" verify "$work/mnt/log" >"$work/said" 2>&1 || bad "$kind: verify: $(cat "$work/said")"
        cuts=$((cuts + 1))
    done
    echo "$kind, backend $backend, direct $direct: $count cuts, $acknowledged acknowledged records, none lost"
}

cuts=0
until_second=$((SECONDS + ${PAWL_TORTURE_SECONDS:-0}))
while :; do
    for kind in ext4 xfs; do
        if ! command -v "mkfs.$kind" >/dev/null; then
            echo "not tried: mkfs.$kind is not installed"
            continue
        fi
        for variant in "1 1" "2 1" "1 2" "2 2"; do
            : >"$work/acknowledged"
            truncate -s 0 "$work/image" && truncate -s 400M "$work/image"
            options=(-q)
            [ "$kind" = ext4 ] && options+=(-F)
            "mkfs.$kind" "${options[@]}" "$work/image" >/dev/null 2>&1 || bad "mkfs.$kind"
            device=$(losetup -f --show "$work/image") || { device=; skip "no loop device"; }
            mount "$device" "$work/mnt" 2>/dev/null || skip "this machine does not mount $kind"
            # shellcheck disable=SC2086
            rounds "$kind" $variant 3
            unmount && losetup -d "$device" && device=
        done
    done
    [ "$SECONDS" -lt "$until_second" ] || break
done
[ "$cuts" -gt 0 ] || skip "no file system to cut"
echo "$cuts cuts, every acknowledged record was there"
