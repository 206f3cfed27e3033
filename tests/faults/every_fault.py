# SPDX-License-Identifier: Apache-2.0
"""Pipelines whose calls to the outside fail one after the other.

every_fault.py PAWL LIBFAULTS [--all] [--pipeline NAME] [--at N] [--choice K] [--for M] [--seed S]

A pipeline runs once to count the calls with which it touches files, databases, sockets and
programs (faults.c says which). Then it runs again for many of these calls, and each time that one
call fails, in one of the ways in which such a call can fail. What must hold, whatever fails:

  - a run that ends with 0 has delivered everything; one that ends otherwise says why;
  - after it, a run without faults ends with 0;
  - then each line is in the output once, in order; verify and audit call the log well.

Without --all, a sample chosen by the seed; --at repeats one case."""

import argparse
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument("pawl")
parser.add_argument("lib")
parser.add_argument("--all", action="store_true")
parser.add_argument("--cases", type=int, default=30, help="of each pipeline and way to fail")
parser.add_argument("--pipeline")
parser.add_argument("--at", type=int)
parser.add_argument("--choice", type=int)
parser.add_argument("--for", type=int, dest="times")
parser.add_argument("--seed", type=int, default=int(os.environ.get("PAWL_TORTURE_SEED", "1")))
options = parser.parse_args()
random.seed(options.seed)

top = tempfile.mkdtemp(prefix="pawl-faults-")
work, log, record = (os.path.join(top, n) for n in ("work", "work/log", "calls"))
LINES = 300
FIRST = ["line %d %x" % (i, i * 40503 % 65521) for i in range(LINES)]
TIMES = [1, 3, 1000000]  # one call; a few in a row; from there on until the run ends

YAML = """
log: {directory: %s, segment_size: 1M, memory: 16M}
drain: 10s
streams: {lines: {partitions: 1}%s}
sources:
  in: {type: %s, to: lines, batch_records: 40, backoff: 1ms, backoff_max: 5ms, %s}
%s
sinks:
  out: {type: %s, from: %s, batch_records: 30, backoff: 1ms, backoff_max: 5ms, %s}
"""


def put(name, lines):
    with open(os.path.join(work, name), "w") as f:
        f.writelines(line + "\n" for line in lines)


def lines_of(names):
    out = []
    for name in names:
        with open(name, errors="replace") as f:
            out += f.read().split("\n")[:-1]
    return out


# ---- pipelines: input, output


def one_file():
    put("in.log", FIRST)


def rotated():
    put("in.log.2", FIRST[:100])
    put("in.log.1", FIRST[100:170])
    put("in.log", FIRST[170:])
    for i, name in enumerate(("in.log.2", "in.log.1", "in.log")):
        os.utime(os.path.join(work, name), (1700000000 + i, 1700000000 + i))


def directory():
    os.mkdir(os.path.join(work, "in"))
    for i in range(3):
        put("in/%d.log" % i, FIRST[i * 100 : (i + 1) * 100])


def from_files():
    d = os.path.join(work, "out")
    names = [n for n in os.listdir(d) if n.endswith(".log")] if os.path.isdir(d) else []
    return lines_of(os.path.join(d, n) for n in sorted(names))


def from_gzip():
    d = os.path.join(work, "out")
    names = sorted(n for n in os.listdir(d) if n.endswith(".gz"))
    r = subprocess.run(["zcat"] + [os.path.join(d, n) for n in names], capture_output=True)
    return r.stdout.decode().split("\n")[:-1]


def new_database():
    c = sqlite3.connect(os.path.join(work, "x.db"))
    c.execute("create table t(line text)")
    c.commit()
    c.close()


def from_sqlite():
    c = sqlite3.connect(os.path.join(work, "x.db"))
    rows = [r[0] for r in c.execute("select line from t order by rowid")]
    c.close()
    return rows


def from_batches():
    """Batches as the program of the exec sink wrote them: one file of each name."""
    d = os.path.join(work, "out")
    names = [n for n in os.listdir(d) if not n.startswith(".")]
    names.sort(key=lambda n: int(n.split("-")[-1]))
    return lines_of(os.path.join(d, n) for n in names)


EXEC = (
    "command: [sh, -c, 'cat >%(w)s/out/.$$ && "
    "mv %(w)s/out/.$$ %(w)s/out/$PAWL_STREAM-$PAWL_FROM']"
)
FILE = "directory: %(w)s/out, rotate_size: 3k, rotate_age: 1h"
PIPELINES = {
    "file-to-file": dict(
        make=one_file, source="file", sets="path: %(w)s/in.log, follow: false",
        sink="file", out=FILE, read=from_files, dirs=["out"]),
    "rotated-to-gzip": dict(
        make=rotated, source="file", sets="path: %(w)s/in.log, start: oldest, follow: false",
        sink="file", out=FILE + ", compress: gzip", read=from_gzip, dirs=["out"]),
    "dir-to-sqlite": dict(
        make=lambda: (directory(), new_database()), source="dir",
        sets="path: %(w)s/in, glob: '*.log', follow: false",
        sink="sqlite", out="path: %(w)s/x.db, table: t, columns: {line: value}",
        read=from_sqlite, unordered=True),
    "file-to-sqlite-journal": dict(
        make=lambda: (one_file(), new_database()), source="file",
        sets="path: %(w)s/in.log, follow: false", sink="sqlite",
        out="path: %(w)s/x.db, table: t, columns: {line: value}, journal: keep",
        read=from_sqlite),
    "file-to-exec": dict(
        make=one_file, source="file", sets="path: %(w)s/in.log, follow: false",
        sink="exec", out=EXEC, read=from_batches, dirs=["out"]),
    "processors-to-file": dict(
        make=one_file, source="file", sets="path: %(w)s/in.log, follow: false",
        streams=", kept: {partitions: 1}, done: {partitions: 1}",
        processors="processors:\n"
        "  keep: {type: filter, from: lines, to: kept, of: value, match: '^line'}\n"
        "  run: {type: exec, from: kept, to: done, command: [cat], backoff: 1ms}\n",
        stream="done", sink="file", out=FILE, read=from_files, dirs=["out"]),
}  # fmt: skip


# ---- a case


def fresh(p):
    shutil.rmtree(work, ignore_errors=True)
    os.mkdir(work)
    for d in p.get("dirs", []):
        os.mkdir(os.path.join(work, d))
    p["make"]()
    w = {"w": work}
    with open(os.path.join(top, "p.yaml"), "w") as f:
        f.write(
            YAML
            % (
                log,
                p.get("streams", ""),
                p["source"],
                p["sets"] % w,
                p.get("processors", ""),
                p["sink"],
                p.get("stream", "lines"),
                p["out"] % w,
            )
        )


def run(at=0, choice=0, times=1):
    if os.path.exists(record):
        os.unlink(record)
    env = dict(os.environ)
    if at >= 0:
        env.update(
            LD_PRELOAD=options.lib,
            FAULTS_UNDER=work,
            FAULTS_EXEMPT=log,
            FAULTS_LOG=record,
            FAULTS_AT=str(at),
            FAULTS_CHOICE=str(choice),
            FAULTS_FOR=str(times),
        )
    child = subprocess.Popen(
        [options.pawl, "run", os.path.join(top, "p.yaml")],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        out, _ = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:  # calls that fail for ever: it goes on trying
        child.send_signal(signal.SIGKILL)
        out, _ = child.communicate()
        return None, out.decode(errors="replace")
    return child.returncode, out.decode(errors="replace")


def injected():
    if not os.path.exists(record):
        return 0, []
    with open(record) as f:
        text = f.read().split("\n")
    n = [int(line.split()[1]) for line in text if line.startswith("calls ")]
    return (n[-1] if n else 0), [line for line in text if "failed" in line]


class Wrong(Exception):
    pass


def expect(condition, what):
    if not condition:
        raise Wrong(what)


def complete(p):
    got = p["read"]()
    if p.get("unordered"):
        got = sorted(got, key=lambda x: int(x.split()[1]) if x.startswith("line ") else -1)
    missing, again = len(set(FIRST) - set(got)), len(got) - len(set(got))
    counts = "%d lines are missing, %d came again, %d in all"
    expect(got == FIRST, counts % (missing, again, len(got)))


def case(p, at, choice, times):
    """Runs one case. The failed calls, the exit codes."""
    fresh(p)
    code, said = run(at, choice, times)
    failed = injected()[1]
    try:
        expect(code is None or code >= 0, "ended by signal %s" % code)
        if code == 0:
            complete(p)
        elif code is not None:
            expect(said.strip() != "", "ended with %d and said nothing" % code)
        else:
            expect(times > 3, "it never ended")
        if code != 0:
            again, words = run(-1)
            said += "---- again\n" + words
            expect(again == 0, "without faults it ended with %s" % again)
            complete(p)
        for command in ("verify", "audit"):
            r = subprocess.run([options.pawl, command, log], capture_output=True)
            expect(r.returncode == 0, command + ": " + r.stdout.decode() + r.stderr.decode())
    except Exception as wrong:
        text = "%s: %s" % (type(wrong).__name__, wrong)
        print("FAILED: call %d, choice %d, for %d: %s" % (at, choice, times, text))
        print("  " + "\n  ".join(failed[:3]))
        print("  " + "\n  ".join(said.split("\n")[-12:]))
        return failed, code, True
    return failed, code, False


def pipeline(name, p):
    global limit
    limit = 60
    fresh(p)
    code, said = run(0)
    if "in this build" in said:
        print("%s: left out, as this build has no such type" % name)
        return 0
    if code != 0:
        sys.exit("%s: ended with %s without a fault: %s" % (name, code, said))
    complete(p)
    total = injected()[0]
    if total < 20:
        sys.exit("%s: %d calls were counted" % (name, total))
    cases = [(n, c, t) for t in TIMES for n in range(1, total + 1) for c in range(6)]
    if not options.all:
        cases = [x for t in TIMES for x in random.sample([y for y in cases if y[2] == t],
                                                         min(options.cases, total))]  # fmt: skip
    if options.at:
        cases = [(options.at, options.choice or 0, options.times or 1)]
    hit, ended, bad, functions = 0, {}, 0, set()
    for at, choice, times in cases:
        limit = 1.5 if times > 3 else 60
        failed, code, wrong = case(p, at, choice, times)
        hit += len(failed) != 0
        bad += wrong
        functions |= {line.split(":")[0] for line in failed}
        ended[code] = ended.get(code, 0) + 1
    print(
        "%s: %d calls, %d runs, %d with a fault in one of %d functions; ends: %s; %d wrong"
        % (
            name,
            total,
            len(cases),
            hit,
            len(functions),
            ", ".join("%s x %d" % ("killed" if c is None else c, n) for c, n in ended.items()),
            bad,
        ),
        flush=True,
    )
    return bad


bad = 0
try:
    for name, p in PIPELINES.items():
        if options.pipeline in (None, name):
            bad += pipeline(name, p)
finally:
    shutil.rmtree(top, ignore_errors=True)
sys.exit(1 if bad else 0)
