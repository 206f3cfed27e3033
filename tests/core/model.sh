#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-label: slow
# test-timeout: 300
#
# The models of docs/model hold in every state that spin can reach, and each deliberate fault in
# them is found. `model.sh --table` prints the table of docs/model/README.md.
set -u
root=${PAWL_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
for tool in spin gcc; do
    if ! command -v "$tool" >/dev/null; then
        echo "SKIPPED: $tool is not installed"
        exit 77
    fi
done
work=$(mktemp -d /tmp/model.XXXXXX) || exit 1
trap 'rm -rf -- "$work"' EXIT
table=0
[ "${1:-}" = --table ] && table=1
failed=0

# check MODEL holds|fails FLAGS...: searches all states.
check() {
    local model=$1 expected=$2 states errors seen
    shift 2
    cp "$root/docs/model/$model.pml" "$work/" && cd "$work" || exit 1
    if ! { spin -a "$@" "$model.pml" && gcc -O1 -DSAFETY -o pan pan.c; } >log 2>&1; then
        cat log
        failed=1
        return
    fi
    ./pan -m1000000 >log
    states=$(awk '/states, stored/ { print $1 }' log)
    errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' log)
    seen=holds
    [ "$errors" = 0 ] || seen=fails
    grep -q 'search depth too small' log && seen='search depth too small'
    if [ "$table" = 1 ]; then
        printf '| %s | %s | %s | %s |\n' "$model" "${*:-as it is}" "$seen" "$states"
    else
        printf '%-9s %-32s %-6s %8s states\n' "$model" "${*:-as it is}" "$seen" "$states"
    fi
    if [ "$seen" != "$expected" ]; then
        echo "WRONG: expected that it $expected"
        cat log
        failed=1
    fi
}

check log holds
for fault in ACK_BEFORE_SYNC ACK_OUT_OF_ORDER NO_NEW_EPOCH OPEN_NOT_DURABLE NO_SYNC_OF_TAIL \
    IGNORE_WITNESS RETRY_FAILED_SYNC; do
    check log fails "-D$fault"
done
check pipeline holds
check pipeline holds -DAT_LEAST_ONCE
check pipeline holds -DAT_MOST_ONCE
check pipeline fails -DAT_LEAST_ONCE -DSTRICT
check pipeline fails -DAT_MOST_ONCE -DSTRICT
for fault in POSITION_SPLIT EFFECT_BEFORE_DECISION NO_RESOLUTION RESOLVE_BY_GUESS \
    STAGE_TWO_UNORDERED; do
    check pipeline fails "-D$fault"
done
exit "$failed"
