#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# kernel.sh - as root, with debootstrap and qemu: the quick tests on Debian 12 with its own kernel,
# Linux 6.1, in a virtual machine that is made for it and thrown away.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source_dir=$PWD
work=$(mktemp -d)
root=$work/root disk=$work/disk.img
trap 'rm -rf -- "$work"' EXIT

packages=(linux-image-amd64 systemd-sysv udev bash git ca-certificates cmake ninja-build gcc g++
    libc6-dev pkg-config python3 mandoc liburing-dev libxxhash-dev libjansson-dev libyaml-dev
    libpcre2-dev libssl-dev zlib1g-dev libzstd-dev liblzma-dev libbz2-dev libsqlite3-dev
    libcmocka-dev util-linux e2fsprogs)
printf -v include '%s,' "${packages[@]}"
debootstrap --variant=minbase --include="${include%,}" bookworm "$root" >"$work/debootstrap.log" ||
    { tail -50 "$work/debootstrap.log"; exit 1; }

mkdir "$root/pawl"
git -c safe.directory="$source_dir" -C "$source_dir" archive HEAD | tar -x -C "$root/pawl"
cat >"$root/pawl-test" <<'SCRIPT'
#!/bin/bash
cd /pawl
{
    uname -r
    cmake -G Ninja -S . -B build -DPAWL_BENCH=OFF >/dev/null && cmake --build build --parallel &&
        ctest --test-dir build --output-on-failure -j"$(nproc)" -L quick
    echo "status $?"
} >/dev/ttyS0 2>&1
systemctl poweroff --force
SCRIPT
chmod 755 "$root/pawl-test"
cat >"$root/etc/systemd/system/pawl-test.service" <<'UNIT'
[Service]
ExecStart=/pawl-test
LimitMEMLOCK=infinity
[Install]
WantedBy=multi-user.target
UNIT
chroot "$root" systemctl enable pawl-test.service >/dev/null 2>&1

mkfs.ext4 -q -d "$root" "$disk" 12G
acceleration=(-cpu max)
[ ! -e /dev/kvm ] || acceleration=(-cpu "host,arch-capabilities=off" -enable-kvm)
timeout 3000 qemu-system-x86_64 "${acceleration[@]}" -m 4G -smp "$(nproc)" -no-reboot -nographic \
    -kernel "$(echo "$root"/boot/vmlinuz-*)" -initrd "$(echo "$root"/boot/initrd.img-*)" \
    -append "root=/dev/vda rw console=ttyS0 quiet" \
    -drive file="$disk",format=raw,if=virtio,cache=none -nic none | tee "$work/console.log"
tr -d '\r' <"$work/console.log" | grep -q '^status 0$'
