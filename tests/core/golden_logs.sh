#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Golden logs, good and bad, written by the oracle from docs/format.md alone: the command reads from
# them exactly what was put in, and refuses or reports what is not right. Then the other way round:
# logs written by the command, read by the oracle, agree byte for byte.
set -euo pipefail
pawl=$1
oracle=$PAWL_SOURCE_DIR/tests/oracle
dir=$(mktemp -d "${TMPDIR:-/tmp}/golden.XXXXXX")
trap 'rm -rf "$dir"' EXIT

export PYTHONDONTWRITEBYTECODE=1
python3 "$oracle/make_golden.py" "$dir/golden" >/dev/null
python3 - "$pawl" "$dir/golden" <<'PY'
import base64, glob, json, os, struct, subprocess, sys

pawl, folder = sys.argv[1:]
wrong = []

def run(*args):
    return subprocess.run([pawl, *args], capture_output=True)

# Logs that name runs without having their files: nothing else may be wrong with them.
WITHOUT_RUNS = ("tables-with-runs", "lost-state-flushed", "run-hash-left-out")

def verify(name, log):
    """The exit code, as if no run were missing."""
    done = run("verify", log)
    if name not in WITHOUT_RUNS:
        return done.returncode
    told = done.stdout.decode().splitlines()[:-1]
    problems = [line for line in told if not line.startswith("remark: ")]
    missing = [line for line in problems if line.startswith("run-missing: ")]
    return 0 if done.returncode == 1 and missing and missing == problems else 2

def values(raw):
    at, found = 0, []
    while at < len(raw):
        size, = struct.unpack_from("<I", raw, at)
        found.append(raw[at + 4:at + 4 + size])
        at += 4 + size
    return found

names = sorted(glob.glob(os.path.join(folder, "*.json")))
for path in names:
    expect = json.load(open(path))
    name, log = expect["name"], path[:-len(".json")]
    verified = verify(name, log)
    good = expect["expected"] in ("ok", "torn")
    # One bad header copy is reported by verify and does no harm to a reader.
    if (verified == 0) != (good and not name.startswith("header-block")):
        wrong.append("%s: verify answers %d where %s was expected" % (name, verified, expect["expected"]))
    if not good:
        opened = run("cat", log, "s")
        if opened.returncode == 0 and name not in ("damaged-old-segment", "state-out-of-order"):
            wrong.append("%s: cat says nothing" % name)
        continue
    for stream, partitions in expect["streams"].items():
        for partition, encoded in partitions.items():
            want = [base64.b64decode(v) for v in encoded]
            first = expect.get("first", {}).get(stream, {}).get(partition, 0)
            got = run("cat", log, stream, "--partition", partition, "--from", str(first), "--format", "raw")
            if values(got.stdout) != want and not name.startswith("lost"):
                wrong.append("%s: %s/%s: %d values, not %d: %s" % (name, stream, partition, len(values(got.stdout)), len(want),
                                                                   got.stderr.decode()[:200]))
            if name.startswith("lost") and not set(values(got.stdout)) <= set(want):
                wrong.append("%s: %s/%s: a value that nobody wrote" % (name, stream, partition))
    if name == "forked" and bytes(range(16)).hex() not in run("status", log).stdout.decode():
        wrong.append("forked: status doesn't tell the identity")
    if name in ("features-to-write", "features-to-ignore"):
        told = run("status", log).stdout.decode()
        bits = "0x0 to read, 0x%x to write, 0x%x that" % ((1 << 63, 0) if name == "features-to-write" else (0, 1 << 63 | 1))
        if bits not in told:
            wrong.append("%s: status doesn't tell the features: %s" % (name, told[:300]))
    # A log that is not for writing by this version stays as it is, byte for byte.
    if not expect.get("writable", True):
        def content():
            return {file: open(os.path.join(log, file), "rb").read() for file in os.listdir(log) if file.endswith(".seg")}
        before = content()
        for command in (["stream", "create", log, "new-stream"], ["repair", log]):
            refused = run(*command)
            if refused.returncode == 0 or b"may read the log but not write to it" not in refused.stderr + refused.stdout:
                wrong.append("%s: %s is not refused: %s" % (name, command[0], refused.stderr.decode()[:200]))
        if content() != before:
            wrong.append("%s: a writer that was refused changed the log" % name)
        continue
    # A writer recovers it, goes on from there, and what was there stays.
    if name == "tables":
        pass  # its retention settings drop old segments as soon as a writer comes
    elif expect["streams"]:
        stream = sorted(expect["streams"])[0]
        before = run("cat", log, stream).stdout
        subprocess.run([pawl, "ingest", log, stream], input=b"one more\n", capture_output=True)
        after = run("cat", log, stream).stdout
        if verify(name, log) != (1 if name.startswith("header-block") else 0):
            wrong.append("%s: verify finds fault after a writer went on: %s" % (name, run("verify", log).stdout.decode()[:300]))
        if sorted(after.splitlines()) != sorted(before.splitlines() + [b"one more"]) and not name.startswith("lost"):
            wrong.append("%s: appending after recovery changed what was there" % name)
    else:
        made = run("stream", "create", log, "new-stream")
        if made.returncode != 0 or verify(name, log) != (1 if name.startswith("header-block") else 0):
            wrong.append("%s: a writer can't go on: %s" % (name, made.stderr.decode()[:300]))
        again = run("stream", "create", log, "another")
        if again.returncode != 0:
            wrong.append("%s: a writer can't go on twice: %s" % (name, again.stderr.decode()[:300]))
print("%d golden logs read, %d disagreements" % (len(names), len(wrong)))
print("\n".join(wrong))
sys.exit(1 if wrong or len(names) < 40 else 0)
PY

# The command's own logs, read by the oracle.
log=$dir/log
"$pawl" init "$log" --segment-size 1M
"$pawl" stream create "$log" lines --partitions 3
"$pawl" stream create "$log" out
for round in 1 2 3; do
    seq "$((round * 7000))" "$((round * 7000 + 6999))" |
        sed 's/$/ a line of some length, so that segments fill/' >>"$dir/input"
    "$pawl" ingest "$log" lines --producer p --batch 37 "$dir/input" 2>/dev/null
    "$pawl" pipe "$log" --name up --from lines --to out --batch 500 -- tr a-z A-Z 2>/dev/null
done
for stream in lines out; do
    "$pawl" cat "$log" "$stream" >"$dir/ours"
    python3 "$oracle/pawl_oracle.py" cat "$log" "$stream" >"$dir/theirs"
    cmp "$dir/ours" "$dir/theirs"
    [ "$(wc -l <"$dir/ours")" -eq 21000 ]
done
python3 "$oracle/pawl_oracle.py" check "$log"
