#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# places.sh - what is said of where a log lies: too small a file system gets the segment size that
# fits, one in memory the word that nothing is durable there; and prepared segments count as space.
set -u
pawl=$(realpath "${1:-${PAWL_COMMAND:-}}")
[ -x "$pawl" ] || { echo "SKIPPED: no command pawl"; exit 77; }
work=$(mktemp -d) || exit 1
shm=
trap 'rm -rf -- "$work" $shm' EXIT
bad() { echo "FAILED: $*"; [ -s "$work/err" ] && tail -5 "$work/err"; exit 1; }

"$pawl" init "$work/log" --segment-size 1M 2>"$work/err" || bad init
"$pawl" stream create "$work/log" s || bad stream
seq 300000 | "$pawl" ingest "$work/log" s 2>"$work/err" || bad ingest
files=$(find "$work/log" -name '*.seg' | wc -l)
last=$("$pawl" status "$work/log" --json | sed -n 's/.*"last_segment": *\([0-9]*\).*/\1/p')
[ "$files" -gt $((last + 1)) ] || bad "no segment is prepared: $files files, the last is $last"
"$pawl" status "$work/log" | grep -q "^space  *$files MiB on disk" ||
    bad "of $files files, status counts: $("$pawl" status "$work/log" | grep '^space')"

if [ "$(stat -f -c %T /dev/shm 2>/dev/null)" = tmpfs ] && shm=$(mktemp -d /dev/shm/places.XXXXXX); then
    "$pawl" init "$shm/log" --segment-size 1M 2>"$work/err" || bad "init in memory"
    grep -q 'remark: .* is on tmpfs, in memory' "$work/err" || bad "init says nothing of memory"
    "$pawl" status "$shm/log" | grep -q '^place  *in memory' || bad "status says nothing of memory"
    echo "in memory: told"
else
    echo "SKIPPED in part: /dev/shm is no tmpfs"
fi

small() {
    mount -t tmpfs -o size=64m none "$1" || exit 77
    "$2" init "$1/log" 2>"$3"
    [ $? = 3 ] && grep -q -- '--segment-size 8M' "$3" || exit 1
    "$2" init "$1/log" --segment-size 8M 2>"$3" || exit 1
    "$2" init "$1/large" --segment-size 32M 2>"$3" || exit 1
    grep -q 'less than four segments of 32 MiB.*--segment-size 8M suits' "$3" || exit 1
}
export -f small
mkdir "$work/small"
unshare --mount bash -c 'small "$@"' - "$work/small" "$pawl" "$work/err" 2>/dev/null
case $? in
0) echo "a small file system: told" ;;
1) [ "$(id -u)" -ne 0 ] || bad "a small file system"
    echo "SKIPPED in part: mounting a small file system needs root" ;;
*) echo "SKIPPED in part: no small file system can be mounted here" ;;
esac
