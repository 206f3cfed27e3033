#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test-timeout: 240 Damage as a table {name, damage, expected}: verify reports it, repair mends it,
# everything but the damaged frames stays readable, in order, and the log goes on from there.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
python3 - "$1" <<'PY'
import os, shutil, subprocess, sys, tempfile

pawl = sys.argv[1]
top = tempfile.mkdtemp(prefix="pawl-repair-")
good_log, log = os.path.join(top, "good"), os.path.join(top, "log")

def run(*args, data=None):
    return subprocess.run([pawl, *args], input=data, capture_output=True)

lines = [b"line %d %s" % (i, b"x" * 200) for i in range(12000)]
run("init", good_log, "--segment-size", "1M")
run("stream", "create", good_log, "a")
run("ingest", good_log, "a", "--batch", "7", "--producer", "p", data=b"\n".join(lines) + b"\n")

def segment(n):
    return os.path.join(log, "%016x.seg" % n)

def write(n, at, data):
    with open(segment(n), "r+b") as f:
        f.seek(at)
        f.write(data)

def flip(n, at, count=1):
    with open(segment(n), "r+b") as f:
        f.seek(at)
        old = f.read(count)
        f.seek(at)
        f.write(bytes(b ^ 0x40 for b in old))

def place(text):
    """Segment and offset of a record's bytes: where padding lies between groups depends on timing, records don't."""
    for n in range(len([name for name in os.listdir(log) if name.endswith(".seg")])):
        with open(segment(n), "rb") as f:
            at = f.read().find(text)
        if at >= 0:
            return n, at
    raise SystemExit("no record %r" % text)

def flip_record(text):
    n, at = place(text)
    flip(n, at + 2)

def overwrite(text, size, data):
    n, at = place(text)
    write(n, at // size * size, data)

# name, damage, (verify, repair) exit codes, most records that may be lost
table = [
    ("untouched", lambda: None, (0, 0), 0),
    ("a flipped bit in a payload, oldest segment", lambda: flip_record(b"line 1000 "), (1, 1), 7),
    ("a flipped bit in a payload, newest segment", lambda: flip_record(b"line 11000 "), (1, 1), 7),
    ("a block of zeros", lambda: overwrite(b"line 6000 ", 4096, bytes(4096)), (1, 1), 28),
    ("a sector of garbage", lambda: overwrite(b"line 5000 ", 512, os.urandom(512)), (1, 1), 14),
    ("64 KiB of zeros", lambda: overwrite(b"line 2000 ", 65536, bytes(65536)), (1, 1), 301),
    ("the first header copy", lambda: flip(1, 20), (1, 0), 0),
    ("the second header copy", lambda: flip(1, 4096 + 20), (1, 0), 0),
    ("both header copies", lambda: (flip(1, 20), flip(1, 4096 + 20)), (1, 0), 0),
    ("both header copies of the newest", lambda: (flip(2, 20), flip(2, 4096 + 20)), (1, 0), 0),
    ("a checkpoint's header", lambda: flip(1, 8192 + 30), (1, 0), 0),
    ("a checkpoint's payload in the newest", lambda: flip(2, 8192 + 90), (1, 0), 0),
    ("two places", lambda: (flip_record(b"line 3000 "), flip_record(b"line 10500 ")), (1, 1), 14),
]
wrong = 0
for name, damage, (verify, repair), most in table:
    shutil.rmtree(log, ignore_errors=True)
    shutil.copytree(good_log, log)
    damage()
    answers = [run("verify", log).returncode, run("repair", log).returncode, run("verify", log).returncode,
               run("audit", log).returncode]
    read = run("cat", log, "a").stdout.splitlines()
    lost = len(lines) - len(read)
    rest = iter(lines)
    in_order = all(value in rest for value in read)
    went_on = run("ingest", log, "a", data=b"after\n").returncode == 0 and run("verify", log).returncode == 0
    run("stream", "create", log, "b")
    piped = run("pipe", log, "--name", "up", "--from", "a", "--to", "b", "--", "cat").returncode
    went_on = went_on and piped == 0 and run("cat", log, "b").stdout.splitlines() == read + [b"after"]
    went_on = went_on and run("audit", log).returncode == 0
    ok = answers == [verify, repair, 0, 0] and in_order and lost <= most and (lost > 0) == (most > 0) and went_on
    wrong += not ok
    if not ok:
        print("   in order: %s, pipe: %d, goes on: %s" % (in_order, piped, went_on))
    print("%-45s %s, %d of at most %d records lost%s" % (name, answers, lost, most, "" if ok else "   WRONG"))
shutil.rmtree(top)
sys.exit(1 if wrong else 0)
PY
