# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the tests with real file systems that lose power have in common. A test sources this with its
# own arguments, right after `set -u`. Everything happens in a mount namespace of its own, so that
# nothing stays mounted, however the test ends; loop devices are detached by the kernel when their
# file system goes.

skip() { echo "SKIPPED: $*"; exit 77; }
bad() {
    echo "FAILED: $* (seed $seed)"
    if [ -n "${PAWL_KEEP_FAILED:-}" ]; then cp -a "$log" "$acks" "$PAWL_KEEP_FAILED"; fi
    exit 1
}

command_path=$(realpath "${1:-${PAWL_COMMAND:-}}" 2>/dev/null) || skip "no command pawl"
pawl=$command_path
prog=$(dirname "$pawl")/tests/prog_powercut
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
oracle=$here/../oracle/pawl_oracle.py
export PYTHONDONTWRITEBYTECODE=1
PATH=$PATH:/usr/sbin:/sbin

[ -x "$pawl" ] || skip "no command pawl at '$pawl'"
[ -x "$prog" ] || skip "no test programs (libcmocka-dev)"
[ "$(id -u)" -eq 0 ] || skip "needs root: mounts, loop devices"
if [ -z "${PAWL_OWN_MOUNTS:-}" ]; then
    unshare --mount true 2>/dev/null || skip "no mount namespace can be made here"
    PAWL_OWN_MOUNTS=1 exec unshare --mount --propagation private -- bash "$0" "$@"
fi

# The same numbers in each quick run; new ones in a long one.
seed=${PAWL_TORTURE_SEED:-$([ -n "${PAWL_TORTURE_SECONDS:-}" ] && date +%s || echo 1)}
RANDOM=$seed
# Sets `n`: in a subshell, the numbers would not be those of the seed.
between() { n=$(($1 + (RANDOM * 32768 + RANDOM) % ($2 - $1 + 1))); }
# A long run has PAWL_TORTURE_SECONDS, shared out to its parts; a quick one does each part a
# given number of times.
share() { deadline=$((SECONDS + ${PAWL_TORTURE_SECONDS:-0} / $1)); } # share PARTS
more() { # more DONE WANTED
    [ "$1" -lt "$2" ] || { [ -n "${PAWL_TORTURE_SECONDS:-}" ] && [ "$SECONDS" -lt "$deadline" ]; }
}

# Images lie in memory where they can: what a disk makes of its writes is not what is tested here.
scratch=/dev/shm
[ -w "$scratch" ] && [ "$(df --output=avail -k "$scratch" | tail -1)" -gt 524288 ] ||
    scratch=${TMPDIR:-/tmp}
work=$(mktemp -d "$scratch/powercut.XXXXXX") || exit 1
mnt=$work/mnt
log=$mnt/log
acks=$work/acks
mkdir "$mnt"
helpers=()
clean_up() {
    local pid
    cd /
    for pid in "${helpers[@]}"; do kill -9 "$pid" 2>/dev/null; done
    umount_now 2>/dev/null
    if [ "$(type -t clean_up_more)" = function ]; then clean_up_more; fi
    rm -rf --one-file-system -- "$work"
}
trap clean_up EXIT

# io_uring gives its files back some time after the process that used it has ended.
umount_now() {
    local tries
    # not mountpoint(1), which takes a file system that is shut down for none
    grep -qF " $mnt " /proc/self/mounts || return 0
    for ((tries = 0; tries < 200; tries++)); do
        umount "$mnt" 2>"$work/umount.err" && return 0
        sleep 0.05
    done
    cat "$work/umount.err"
    return 1
}

make_fs() { # make_fs ext4|xfs FILE: without what would only take time
    if [ "$1" = ext4 ]; then
        mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0,nodiscard "$2"
    else
        mkfs.xfs -q -f -K "$2"
    fi >"$work/mkfs.log" 2>&1
}

# Sets backend and direct of this round, so that each follows each other in the same log.
variant() { # variant ROUND
    local all=("uring direct" "posix direct" "uring buffered" "posix buffered" "posix direct" \
        "uring buffered" "uring direct" "posix buffered")
    read -r backend direct <<<"${all[$(($1 % 8))]}"
}

# The log as it lies there is well, say verify and audit.
verify_all() { # verify_all WHEN
    "$pawl" verify "$log" >"$work/out" 2>&1 || bad "verify, $1: $(cat "$work/out")"
    "$pawl" audit "$log" >"$work/out" 2>&1 || bad "audit, $1: $(cat "$work/out")"
}

# So does the oracle, which shares no code with the library; and it finds at least as many records
# as were acknowledged.
ask_oracle() { # ask_oracle WHEN
    python3 "$oracle" check "$log" >"$work/out" 2>&1 || bad "the oracle, $1: $(cat "$work/out")"
    local found wanted
    found=$(sed -n 's/.* records=\([0-9]*\) .*/\1/p' "$work/out")
    wanted=$(awk '$3 > n[$1 $2] { n[$1 $2] = $3 } END { for (i in n) sum += n[i] * (i ~ /^in/ ? 2 : 1); print sum + 0 }' "$acks")
    [ "$found" -ge "$wanted" ] || bad "the oracle, $1: $found records, of $wanted acknowledged"
}

# After a cut, with the file system mounted again: everything that was acknowledged to the writer is
# there once, before recovery and after. What the check has seen counts as acknowledged from then
# on.
all_records=0 all_cut_bytes=0
check_everything() { # check_everything [BACKEND DIRECT]
    : >>"$acks"
    if [ -e "$log/0000000000000000.seg" ]; then
        verify_all "before recovery"
        ask_oracle "before recovery"
    elif [ -s "$acks" ]; then
        bad "the log is gone"
    fi
    between 0 7
    variant "$n"
    if [ $# -eq 2 ]; then backend=$1 direct=$2; fi
    "$prog" check "$log" "$acks" 7 "$backend" "$direct" >"$work/check" 2>&1 ||
        bad "what was acknowledged is not there ($backend, $direct): $(cat "$work/check")"
    verify_all "after recovery"
    local acknowledged cut_bytes
    read -r _ _ _ acknowledged _ _ _ cut_bytes _ <"$work/check"
    all_records=$((all_records + acknowledged)) all_cut_bytes=$((all_cut_bytes + cut_bytes))
}
checked() { echo "$all_records acknowledgements checked, $all_cut_bytes bytes of torn tails cut"; }
