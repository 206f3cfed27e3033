#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# `pawl run` gives up system calls and new privileges where no part runs foreign code, and works as
# before, as an ordinary user too. A reload can't add what the sandbox has no room for. Under the
# system calls that the unit file allows it has io_uring and runs programs.
# shellcheck disable=SC2094 # the output isn't read there
set -u
export LC_ALL=C
# where pawl is built so, the search for leaks uses ptrace, which the sandbox denies
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
pawl=$(realpath "${1:-${PAWL_COMMAND:-}}")
root=${PAWL_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
build=${PAWL_BUILD_DIR:-$(dirname "$pawl")}
[ -x "$pawl" ] || { echo "SKIPPED: no command pawl"; exit 77; }
work=$(mktemp -d) || exit 1
child=
trap '[ -n "$child" ] && kill -9 "$child" 2>/dev/null; rm -rf -- "$work"' EXIT
bad() { echo "FAILED: $*"; tail -8 "$work/err" 2>/dev/null; exit 1; }
cd "$work" || exit 1
wait_for() { # until the command succeeds, for at most 30 seconds
    local n
    for ((n = 0; n < 600; n++)); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done
    bad "in vain: $*"
}
lines_are() { [ "$(cat out/* 2>/dev/null | wc -l)" -ge "$1" ]; }
of() { awk -v n="$1:" '$1 == n { print $2 }' "/proc/$child/status"; } # of FIELD

pipeline() { # pipeline [SINK]
    cat <<Y
log: {directory: log, segment_size: 1M}
streams: [a]
sources: {in: {type: file, path: in, to: a}}
sinks:
  out: {type: file, from: a, directory: out}
  ${1:-}
Y
}

"$pawl" run p.yaml --sandbox maybe 2>err
[ $? = 2 ] || bad "a mode that there isn't"
cp "$pawl" ./pawl
user=()
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    chmod 777 "$work"
    user=(setpriv --reuid 65534 --regid 65534 --clear-groups)
fi
"${user[@]}" ./pawl run p.yaml --help >/dev/null 2>&1 || { user=(); chmod 700 "$work"; }

run() { # run ARGS...: starts it, as an ordinary user where that is possible
    rm -rf log out in
    seq 100 >in
    chmod 644 in p.yaml
    "${user[@]}" ./pawl run p.yaml "$@" 2>err &
    child=$!
    wait_for lines_are 100
}
ends() {
    kill -TERM "$child"
    wait "$child" || bad "it ended with $?"
    child=
}

# With a sanitizer the default is off: it looks into the process itself.
pipeline >p.yaml
run
default=$(of Seccomp)
ends
run --sandbox on || exit 1
mode=$(of Seccomp)
if [ "$mode" != 2 ]; then
    grep -q 'libseccomp' err && { echo "SKIPPED: this build has no libseccomp"; exit 77; }
    bad "--sandbox on, and no filter"
fi
[ "$(of NoNewPrivs)" = 1 ] || bad "new privileges"
"${user[@]}" ./pawl status log >status || bad "no status"
grep -q 'running' status || bad "status: $(cat status)"
ends
if [ "$default" = 0 ]; then
    echo "SKIPPED in part: the default is off in this build (a sanitizer)"
    exit 0
fi
[ "$default" = 2 ] || bad "the default sets no filter"

# A reload may change what is there, and can't add a program.
run
seq 101 150 >>in
pipeline '# a comment' >p.yaml
kill -HUP "$child"
wait_for grep -q ': reloaded' err
seq 151 200 >>in
wait_for lines_are 200
pipeline 'more: {type: exec, from: a, command: cat}' >p.yaml
kill -HUP "$child"
wait_for grep -q 'a restart is needed to change the sandbox' err
seq 201 300 >>in
wait_for lines_are 300
[ "$(of Seccomp)" = 2 ] || bad "the filter went"
ends

# With a program: no filter by default, since nobody knows what it needs; with `on` it inherits it.
program='cat >>seen; grep Seccomp: /proc/self/status >kept'
pipeline "more: {type: exec, from: a, command: \"$program\"}" >p.yaml
run
wait_for test -s kept
[ "$(of Seccomp)" = 0 ] || bad "a filter around a program that nobody knows"
grep -q '0$' kept || bad "the program has a filter: $(cat kept)"
ends
rm -f kept seen
run --sandbox on
wait_for test -s kept
grep -q '2$' kept || bad "the program has no filter: $(cat kept)"
ends
run --sandbox off
[ "$(of Seccomp) $(of NoNewPrivs)" = "0 0" ] || bad "--sandbox off"
ends
echo "the sandbox: well"

# ---- the unit's system calls
command -v systemd-analyze >/dev/null && [ -x "$build/tests/prog_filter" ] || {
    echo "SKIPPED in part: no systemd-analyze, which knows the groups of system calls"; exit 0; }
python3 - "$root/packaging/pawl@.service" >calls <<'P' || bad "the unit's system calls"
import re, subprocess, sys
text = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True,
                      check=True).stdout
groups, name = {}, None
for line in text.splitlines():
    if re.match(r"@[a-z-]+$", line):
        name = line
        groups[name] = []
    elif line.startswith("    ") and name and not line.strip().startswith("#"):
        groups[name].append(line.strip())
def calls(word):
    return set().union(*map(calls, groups[word])) if word in groups else {word}
allowed = calls("@default")
for line in open(sys.argv[1]):
    if line.startswith("SystemCallFilter="):
        value = line.split("=", 1)[1].strip()
        named = set().union(*map(calls, value.lstrip("~").split()))
        allowed = allowed - named if value.startswith("~") else allowed | named
print("\n".join(sorted(allowed)))
P
[ "$(wc -l <calls)" -gt 200 ] || bad "only $(wc -l <calls) system calls were found"
grep -q '^ptrace$' calls && bad "the unit allows ptrace"
rm -rf log out in kept seen
seq 100 >in
"$build/tests/prog_filter" calls ./pawl run p.yaml 2>err &
child=$!
wait_for lines_are 100
wait_for test -s kept
[ "$(wc -l <seen)" = 100 ] || bad "the program got $(wc -l <seen) lines"
./pawl status log >status || bad "no status"
inside=$(sed -n 's/.*\(io_uring\|posix\).*/\1/p' status | head -1)
ends
rm -rf log out kept seen
"./pawl" run p.yaml 2>err &
child=$!
wait_for lines_are 100
./pawl status log >status
outside=$(sed -n 's/.*\(io_uring\|posix\).*/\1/p' status | head -1)
ends
[ -n "$outside" ] && [ "$inside" = "$outside" ] || bad "backend $outside, in the unit $inside"
echo "the unit's system calls: well, $inside"
