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
    if [ -n "${loop:-}" ]; then losetup -d "$loop" 2>/dev/null; fi
    if [ -n "${disk:-}" ]; then umount "$disk" 2>/dev/null; fi
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

fs_is_here() { # fs_is_here ext4|xfs: says it if not
    grep -qw "$1" /proc/filesystems && command -v "mkfs.$1" >/dev/null && return 0
    echo "SKIPPED: no $1 here"
    return 1
}
fs_mib() { if [ "$1" = xfs ]; then echo 320; else echo 96; fi; } # the least that it takes

# ---- a disk that loses power (powercut/fuseblock.c), and a file system on it, mounted at $mnt

# Whether it can be had at all. Sets `disk`, the directory of its two files.
need_disk() {
    fuseblock=$(dirname "$prog")/powercut_fuseblock
    [ -x "$fuseblock" ] || skip "the disk that loses power was not built (libfuse3-dev)"
    [ -w /dev/fuse ] || skip "no /dev/fuse here"
    disk=$work/disk loop=
    mkdir "$disk"
}
tell_disk() { echo "$1" >"$disk/control"; }
disk_state() { sed "s/.* $1 \([0-9a-z]*\).*/\1/" "$disk/control"; }
power_is_off() { grep -q '^power off' "$disk/control"; }
attach_disk() { loop=$(losetup --find --show "$disk/disk" 2>"$work/loop.err"); }
mount_disk() { mount -o noatime "$loop" "$mnt" 2>"$work/mount.err"; }

# A new disk with this file system, `fs`. fsck had to mend it `fs_checks` times.
insert_disk() { # insert_disk ext4|xfs
    local tries
    fs=$1
    "$fuseblock" "$disk" "$(fs_mib "$1")" "$seed" 2>"$work/fuse.err" &
    helpers=($!) fs_checks=0
    for ((tries = 0; tries < 200; tries++)); do
        [ -e "$disk/control" ] && break
        kill -0 "${helpers[0]}" 2>/dev/null || break
        sleep 0.05
    done
    [ -e "$disk/control" ] || skip "FUSE does not work here: $(cat "$work/fuse.err")"
    attach_disk && make_fs "$1" "$loop" && mount_disk && return 0
    echo "SKIPPED: no $1 on a loop device on FUSE:" \
        "$(cat "$work"/*.err "$work/mkfs.log" 2>/dev/null)"
    return 1
}
remove_disk() {
    umount_now || bad "can't unmount"
    losetup -d "$loop"
    loop=
    umount "$disk" || bad "can't unmount the disk"
    wait "${helpers[0]}"
    helpers=()
}
power_cycle() {
    umount_now || bad "can't unmount"
    losetup -d "$loop" || bad "can't detach $loop"
    tell_disk on
    attach_disk || bad "can't attach the disk again: $(cat "$work/loop.err")"
    mount_disk && return
    # ext4 can't mount with half a superblock written; as at any boot, its fsck takes another copy.
    if [ "$fs" = ext4 ]; then e2fsck -fy "$loop" >"$work/fsck" 2>&1; fi
    mount_disk || bad "can't mount $fs again: $(cat "$work/mount.err" "$work/fsck" 2>/dev/null)"
    fs_checks=$((fs_checks + 1))
}

# ---- a file system in an image, mounted at $mnt, that is shut down without flushing its journal

mount_image() { mount -o loop,noatime "$image" "$mnt" 2>"$work/mount.err"; }
insert_image() { # insert_image ext4|xfs: sets `fs` and `image`
    fs=$1 image=$work/$1.image
    truncate -s "$(fs_mib "$1")M" "$image"
    make_fs "$1" "$image" || bad "mkfs.$1: $(cat "$work/mkfs.log")"
    mount_image && return 0
    echo "SKIPPED: no $1 on a loop device: $(cat "$work/mount.err")"
    return 1
}
remove_image() {
    umount_now || bad "can't unmount"
    rm -f "$image"
}
remount() {
    umount_now || bad "can't unmount"
    mount_image || bad "can't mount $fs again: $(cat "$work/mount.err")"
}

# Shuts it down at the N-th event in a directory, until end_cutter, which counts in `cuts`.
begin_cutter() { # begin_cutter DIRECTORY modify|rename N
    local line
    mkdir -p "$1"
    exec 3< <(exec "$prog" cut "$mnt" "$1" "$2" "$3")
    cutter=$!
    helpers=("$cutter")
    read -r line <&3
    [ "$line" = ready ] || bad "the cutter: $line"
}
end_cutter() {
    kill -9 "$cutter" 2>/dev/null # done with, or left over: there were fewer events
    cat <&3 >/dev/null            # until it is gone
    exec 3<&-
    helpers=()
    touch "$mnt" 2>/dev/null || cuts=$((cuts + 1))
}

# ---- what is written, and what must be there

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
