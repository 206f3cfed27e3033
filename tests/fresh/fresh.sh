#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# fresh.sh [all] - the README's two commands on a machine that has nothing: a bare Debian 12, made
# by debootstrap in a temporary directory and removed afterwards. As an ordinary user with sudo and
# as root, with Debian's limits on descriptors and locked memory.
#
# Without `all` root works in the user's tree, and only the tests run that have something to do with
# the machine. With it, each has a machine of his own and all tests run.
#
# Exit code 77: no such machine can be made here; the last line says why.
set -euo pipefail
tests_quick='^(seam|seam_faults|every_call|backends|denied|full_disk|one_writer|run_service'
tests_quick+='|layering|installed_library_works|source_postgres|symbol_map|sink_file|skips|man_pages)$'
locked_kib=8192 descriptors=1024

cannot() {
    echo "fresh machine: SKIPPED: $*"
    exit 77
}

# ---- outside: a namespace of mounts and processes, so that nothing can be left behind

outside() {
    [ "$(id -u)" -eq 0 ] || cannot "needs root"
    local tool
    for tool in debootstrap unshare chroot git tar; do
        command -v "$tool" >/dev/null || cannot "no $tool"
    done
    unshare --mount --pid --fork true 2>/dev/null || cannot "no namespaces can be made here"
    work=$(mktemp -d "${TMPDIR:-/var/tmp}/pawl-fresh.XXXXXX")
    trap 'rm -rf --one-file-system -- "$work"' EXIT
    trap 'exit 130' INT TERM
    local status=0
    unshare --mount --pid --fork --kill-child --propagation private \
        bash "${BASH_SOURCE[0]}" --inside "$work" "$@" || status=$?
    return "$status"
}

# ---- inside

# The machine's own way to Debian's packages: its mirrors, and what leads there.
copy_sources() { # copy_sources ROOT
    local format='deb $(REPO_URI) $(CODENAME) $(COMPONENT)'
    apt-get indextargets --format "$format" 'Created-By: Packages' |
        grep -E ' bookworm(-[a-z]+)? ' | sort -u >"$1/etc/apt/sources.list"
    apt-config dump | grep -E '^Acquire::(https?::|Retries|Check-)[^ ]* "..*";$' \
        >"$1/etc/apt/apt.conf.d/90machine" || true
    cp /etc/hosts /etc/resolv.conf "$1/etc/"
}

make_base() { # make_base ROOT
    local mirror
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
        'Codename: bookworm' 'Component: main' | head -n 1)
    [ -n "$mirror" ] || cannot "apt knows no mirror of Debian 12"
    debootstrap --variant=minbase bookworm "$1" "$mirror" >"$work/debootstrap.log" 2>&1 ||
        cannot "debootstrap: $(grep -E '^[EW]:' "$work/debootstrap.log" | tail -n 1)"
    copy_sources "$1"
}

# On a machine that runs, these are there.
boot() { # boot ROOT
    mount --bind "$1" "$1"
    mount -t proc proc "$1/proc"
    mount --rbind --make-rslave /sys "$1/sys"
    mount --rbind --make-rslave /dev "$1/dev"
}

as() { # as USER DIRECTORY COMMAND...: with what a login has, and not more
    local user=$1 directory=$2 home=/root path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
    shift 2
    if [ "$user" != root ]; then
        home=/home/$user path=/usr/local/bin:/usr/bin:/bin:/usr/games
    fi
    chroot "$root" /usr/bin/env -i HOME="$home" USER="$user" LOGNAME="$user" PATH="$path" \
        LANG=C.UTF-8 SHELL=/bin/bash setpriv --reuid "$user" --regid "$user" --init-groups \
        bash -c 'ulimit -n "$1" && ulimit -l "$2" && cd "$3" && shift 3 && exec "$@"' - \
        "$descriptors" "$locked_kib" "$directory" "$@" </dev/null
}

copy_tree() { # copy_tree USER DIRECTORY
    mkdir -p "$root$2"
    git -C "$source_dir" ls-files -co --exclude-standard -z |
        (cd "$source_dir" && xargs -0 ls -d 2>/dev/null | tar -cf - -T -) | tar -xf - -C "$root$2"
    chroot "$root" chown -R "$1:$1" "$2"
}

add_user() { # add_user NAME
    chroot "$root" useradd --create-home --shell /bin/bash "$1"
}

failed=()
step() { # step NAME COMMAND...
    local name=$1 begun=$SECONDS status=0
    shift
    echo "-- $name"
    "$@" || status=$?
    if [ "$status" -eq 0 ]; then
        echo "-- $name: well ($((SECONDS - begun)) s)"
    else
        echo "-- $name: FAILED with code $status ($((SECONDS - begun)) s)"
        failed+=("$name")
    fi
}

# Whoever may not become root is told what to install, and gets no list of sudo's complaints only.
refused() {
    local said status=0
    said=$(as plain /home/plain/pawl ./dev demo 2>&1) || status=$?
    [ "$status" -ne 0 ] && grep -q 'As root: apt-get install .*cmake' <<<"$said" ||
        { echo "$said"; return 1; }
}

no_such_log() {
    local said status=0
    said=$(as "$1" "$2" ./dev demo /no/such.log 2>&1) || status=$?
    [ "$status" -ne 0 ] && grep -q '/no/such.log' <<<"$said" || { echo "$said"; return 1; }
}

# What the tests need is installed without making a database server of the system's.
no_cluster() {
    ! ls "$root"/etc/postgresql/*/main 2>/dev/null
}

install_sudo() {
    chroot "$root" apt-get update >"$work/sudo.log" 2>&1 &&
        chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y \
            --no-install-recommends sudo >>"$work/sudo.log" 2>&1 ||
        { cat "$work/sudo.log"; cannot "sudo can't be installed into the fresh machine"; }
}

user_machine() { # user_machine TEST_ARGS...
    install_sudo
    add_user plain
    add_user user
    echo 'user ALL=(ALL:ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/user"
    chmod 0440 "$root/etc/sudoers.d/user"
    copy_tree plain /home/plain/pawl
    copy_tree user /home/user/pawl
    step "sudo refuses" refused
    step "user: ./dev demo" as user /home/user/pawl ./dev demo
    step "user: ./dev demo of a file that is not there" no_such_log user /home/user/pawl
    step "user: ./dev test" as user /home/user/pawl ./dev test "$@"
    step "no cluster is left" no_cluster
}

inside() {
    work=$1
    shift
    source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    local begun=$SECONDS
    root=$work/first
    make_base "$root"
    echo "-- a bare Debian 12 ($((SECONDS - begun)) s)"
    [ "${1:-}" != all ] || cp -a "$root" "$work/second"
    boot "$root"
    if [ "${1:-}" = all ]; then
        user_machine
        root=$work/second
        boot "$root"
        copy_tree root /root/pawl
        step "root: ./dev demo" as root /root/pawl ./dev demo
        step "root: ./dev test" as root /root/pawl ./dev test
        step "no cluster is left" no_cluster
    else
        user_machine -R "$tests_quick"
        step "root: ./dev demo" as root /home/user/pawl ./dev demo
        step "root: ./dev test" as root /home/user/pawl ./dev test -R "$tests_quick"
    fi
    if [ "${#failed[@]}" -gt 0 ]; then
        printf 'fresh machine: FAILED: %s\n' "${failed[@]}"
        return 1
    fi
    echo "fresh machine: all well ($((SECONDS - begun)) s)"
}

if [ "${1:-}" = --inside ]; then
    shift
    inside "$@"
else
    outside "$@"
fi
