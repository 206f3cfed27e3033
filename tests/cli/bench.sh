#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# bench.sh - shows that the bench runs: every case with every contender, a few milliseconds each;
# that no result is missing and records are counted right; that a contender that doesn't sync is
# found out; and that nothing is left behind, also when it is interrupted. Timings are not looked
# at. test-label: slow test-timeout: 600
set -uo pipefail
export LC_ALL=C
pawl=$1
bench=${PAWL_BUILD_DIR:-$(dirname "$pawl")}/bench/bench
# beside the build: /tmp may have no O_DIRECT
work=$(mktemp -d "$(dirname "$pawl")/bench-test.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
bad=0

fail() {
    echo "$*"
    bad=1
}

skip() {
    echo "SKIPPED: $*"
    exit 77
}

command -v python3 >/dev/null || skip "python3 is not there"
[ -x "$bench" ] || skip "built without the bench"
mkdir "$work/disk"

# ---- the bench

if ! "$bench" --tiny --json "$work/bench.json" "$work/disk" >"$work/out" 2>"$work/errors"; then
    grep -q 'O_DIRECT' "$work/errors" && skip "$(cat "$work/errors")"
    cat "$work/errors"
    grep failed "$work/out"
    fail "the bench failed"
fi
[ -z "$(ls "$work/disk")" ] || fail "the bench left behind: $(ls "$work/disk")"
"$bench" --list >"$work/list" || fail "--list failed"
python3 - "$work/bench.json" "$work/list" <<'PYTHON' || bad=1
import json, sys

result = json.load(open(sys.argv[1]))
listed = [line.split()[0] for line in open(sys.argv[2])]
bad = []
cases = {c["name"]: c for c in result["cases"]}
if list(cases) != listed:
    bad.append(f"cases are missing: {set(listed) ^ set(cases)}")
for field in ("date", "kernel", "processor", "file_system", "floor"):
    if not result.get(field):
        bad.append(f"no {field}")
for name, case in cases.items():
    record = int(name.split("-")[1]) if "-" in name and name.split("-")[1].isdigit() else None
    for side in case["contenders"]:
        who = f"{name}, {side['name']}"
        if "failed" in side:
            bad.append(f"{who}: {side['failed']}")
            continue
        if not side["value"] > 0:
            bad.append(f"{who}: no value")
        for turn in side["turns"]:
            if case["unit"] in ("records/s", "commits/s") and not (turn["records"] > 0 and turn["commits"] > 0):
                bad.append(f"{who}: it did nothing")
            if record and turn["records"] and turn["payload_bytes"] % (turn["records"] * record):
                bad.append(f"{who}: {turn['payload_bytes']} bytes are not {turn['records']} records of {record}")
            if "latency_ns" in turn:
                l = turn["latency_ns"]
                if not 0 < l["p50"] <= l["p99"] <= l["p99.9"] <= l["max"]:
                    bad.append(f"{who}: latencies {l}")
    for ratio in case["ratios"]:
        if "median" not in ratio and "peer" not in ratio["measured_in"]:
            bad.append(f"{name}: no ratio {ratio['measured_in']}")
for line in bad:
    print(line)
print(f"{len(cases)} cases, {sum(len(c['contenders']) for c in cases.values())} contenders")
sys.exit(bool(bad))
PYTHON

# ---- one that doesn't sync

if "$bench" --tiny --tune --seconds 0.1 --json "$work/tune.json" "$work/disk" F1 SQLite-1 \
    >"$work/out" 2>&1; then
    if grep -q '^SQLite-1:' "$work/out"; then
        sed -n '/^SQLite-1:/,/^$/p' "$work/out" | grep 'synchronous=OFF' | grep -q 'NOT DURABLE' ||
            fail "SQLite with synchronous=OFF passes for durable: $(sed -n '/^SQLite-1:/,/^$/p' "$work/out")"
    fi
else
    cat "$work/out"
    fail "the comparison of settings failed"
fi

# ---- the command

"$pawl" bench "$work/disk" --case commit-100 --rounds 1 --time 50ms --json >"$work/pawl.json" ||
    fail "pawl bench failed"
python3 -c 'import json, sys; assert [c["name"] for c in json.load(open(sys.argv[1]))["cases"]] == ["commit-100"]' "$work/pawl.json" ||
    fail "pawl bench: other cases than asked for"
"$pawl" bench "$work/disk" --case commit-100 --rounds 1 --time 50ms >"$work/text" ||
    fail "pawl bench failed"
grep -q 'x F1' "$work/text" && grep -q 'goals are reached' "$work/text" ||
    fail "pawl bench says: $(cat "$work/text")"
"$pawl" bench "$work/disk" --case nonsense 2>/dev/null
[ $? -eq 2 ] || fail "a case that there isn't: exit code $?"

# Interrupted when it has begun: its directory is there.
set -m
"$pawl" bench "$work/disk" >/dev/null 2>"$work/errors" &
pid=$!
while [ -z "$(ls "$work/disk")" ] && kill -0 $pid 2>/dev/null; do sleep 0.02; done
kill -INT $pid
wait $pid
code=$?
[ "$code" -eq 1 ] && grep -q stopped "$work/errors" ||
    fail "interrupted: exit code $code, $(cat "$work/errors")"
[ -z "$(ls "$work/disk")" ] || fail "interrupted, it left behind: $(ls "$work/disk")"
exit $bad
