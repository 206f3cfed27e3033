#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The unit file is one that systemd takes, and leaves little to attack; and `pawl run` speaks its
# protocol: ready, status, signs of life, reloading, stopping.
set -u
pawl=$(realpath "${1:-${PAWL_COMMAND:-}}")
root=${PAWL_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
work=$(mktemp -d) || exit 1
child=
trap '[ -n "$child" ] && kill -9 "$child" 2>/dev/null; rm -rf -- "$work"' EXIT
bad() { echo "FAILED: $*"; cat "$work"/err "$work"/said 2>/dev/null | tail -20; exit 1; }
cd "$work" || exit 1
command -v python3 >/dev/null || { echo "SKIPPED: no python3, which plays the service manager"; \
    exit 77; }

cat >p.yaml <<'Y'
log: {directory: log, segment_size: 1M}
streams: [a]
sinks: {out: {type: file, from: a, directory: out}}
Y
cat >manager.py <<'P'
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
out = open("said", "a", buffering=1)
while True:
    out.write(s.recv(4096).decode() + "\n")
P
python3 manager.py "$work/notify" &
manager=$!
trap 'kill "$manager" 2>/dev/null; [ -n "$child" ] && kill -9 "$child" 2>/dev/null; rm -rf -- "$work"' EXIT
says() { # until the manager has heard it
    local n
    for ((n = 0; n < 400; n++)); do grep -q "$1" said 2>/dev/null && return; sleep 0.05; done
    bad "never said: $1"
}
for ((n = 0; n < 400; n++)); do [ -S notify ] && break; sleep 0.05; done
NOTIFY_SOCKET=$work/notify WATCHDOG_USEC=600000 "$pawl" run p.yaml 2>err &
child=$!
says '^READY=1'
says '^WATCHDOG=1'
kill -HUP "$child"
says '^RELOADING=1'
says '^MONOTONIC_USEC='
kill -TERM "$child"
says '^STOPPING=1'
wait "$child" || bad "it ended with $?"
child=
echo "the protocol: well"

if ! command -v systemd-analyze >/dev/null; then
    echo "SKIPPED in part: systemd-analyze is not installed, so the unit file is not looked into"
    exit 0
fi
mkdir -p unit
sed "s|/usr/bin/pawl|$pawl|" "$root/packaging/pawl@.service" >unit/pawl@.service
systemd-analyze verify "$work/unit/pawl@test.service" >verify.txt 2>&1
# Its own status counts the man page, which may not be installed.
grep -i 'pawl@' verify.txt | grep -v "'man pawl(1)'" && bad "systemd-analyze verify"
# The bar is 2.0 of 10; --threshold takes tenths. Older ones have no --offline.
if ! systemd-analyze --help | grep -q -- --offline; then
    echo "SKIPPED in part: this systemd-analyze has no --offline, so the exposure isn't known"
    exit 0
fi
exposure() { # exposure DIRECTORY: does the unit in it keep to the bar?
    systemd-analyze security --offline=yes --threshold=20 "$1/pawl@test.service" >security.txt 2>&1
}
exposure "$work/unit" || bad "systemd-analyze security: $(grep -v '✓' security.txt)"
sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\).*/the unit file: exposure \1 of 10/p' \
    security.txt
# The bar has to be one: the same unit as root, with all of its system calls, is above it.
mkdir -p open
grep -v '^DynamicUser\|^SystemCallFilter\|^NoNewPriv\|^CapabilityB' unit/pawl@.service \
    >open/pawl@.service
exposure "$work/open" && bad "a unit with everything open keeps to the bar"
exit 0
