#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the project with one deliberate fault at a time, and looks which test catches it.

    run.py --apply            only: does each fault still match the sources exactly?
    run.py [NAME...]          try all, or those named; exit code 1 if one is not caught
    run.py --table FILE [NAME...]  and write the table into FILE, between its two markers; rows of others stay
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
from table import MUTANTS  # noqa: E402

LIMIT_S = 180  # of a machine that does other things too; none takes more than 60 on one that doesn't
C_TESTS = [
    "pace", "seam_faults", "one_writer", "processors", "positions", "producers", "full_disk",
    "transactions", "bit_flips", "decision_table", "recycling", "after_repair", "repair_kinds",
    "followers",
    "committers", "recent_reads", "retention", "edges", "scars", "other_history", "features", "any",
    "lock_free_io", "catalog", "sink_runtime", "fence", "split", "decompress", "source_packed",
    "source_text", "sink_file_lost", "age",
    "failed_processor", "frame", "syslog_parse", "source_socket", "source_syslog", "source_tls",
    "net_peer", "listen",
]


def catchers(build):
    sim = os.path.join(build, "tests/sim/sim")
    yield "sim_kept_plans", [sim, "replay", os.path.join(ROOT, "tests/sim/kept.plans")]
    yield "sim_walk", [sim, "walk", "--from", "1", "--count", "80", "--jobs", "2"]
    for name in C_TESTS:
        yield name, [os.path.join(build, "tests/test_" + name)]
    yield "sim_walk, longer", [sim, "walk", "--from", "81", "--count", "100000", "--seconds", "40", "--jobs", "2"]


def apply_all():
    wrong = 0
    for name, _, path, old, new in MUTANTS:
        text = open(os.path.join(ROOT, path)).read()
        if old not in text or old == new:
            print("%s: its text is not in %s any more" % (name, path))
            wrong += 1
    names = [m[0] for m in MUTANTS]
    if len(set(names)) != len(names):
        print("two faults have one name")
        wrong += 1
    print("%d deliberate faults, %d don't match the sources" % (len(MUTANTS), wrong))
    return 1 if wrong else 0


def copy_tree(to):
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    names = files.stdout.split("\n") if files.returncode == 0 else []
    if not names:
        sys.exit("run.py: needs a git checkout")
    for name in names:
        if name and os.path.isfile(os.path.join(ROOT, name)):
            os.makedirs(os.path.join(to, os.path.dirname(name)), exist_ok=True)
            shutil.copy2(os.path.join(ROOT, name), os.path.join(to, name))


def build_in(source, build):
    targets = ["sim"] + ["test_" + name for name in C_TESTS]
    return subprocess.run(["ninja", "-C", build] + targets, capture_output=True, text=True)


def stopped(process):
    process.kill()
    process.wait()


def caught_by(build, cwd):
    """Name of the first test that fails, seconds it took; (None, seconds) if all pass."""
    for name, command in catchers(build):
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cwd)
        try:
            code = process.wait(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            stopped(process)
            return name + " (did not end)", LIMIT_S
        if code not in (0, 77):
            return name, time.monotonic() - begun
    return None, 0


def try_mutant(mutant, source, build):
    name, promise, path, old, new = mutant
    where = os.path.join(source, path)
    text = open(where).read()
    try:
        open(where, "w").write(text.replace(old, new, 1))
        made = build_in(source, build)
        if made.returncode != 0:
            return None, "it does not compile"
        return caught_by(build, source)
    finally:
        open(where, "w").write(text)


def write_table(path, rows):
    begin, end = "<!-- mutants: begin -->\n", "<!-- mutants: end -->"
    text = open(path).read()
    head, rest = text.split(begin)
    old, tail = rest.split(end)
    known = {}
    for line in old.split("\n"):
        cells = [cell.strip(" `") for cell in line.split("|")]
        if len(cells) == 6:
            known[cells[1]] = tuple(cells[1:5])
    known.update((row[0], row) for row in rows)
    rows = [known[m[0]] for m in MUTANTS if m[0] in known]
    lines = ["| fault | breaks | in | caught by |\n|---|---|---|---|\n"]
    lines += ["| %s | %s | `%s` | %s |\n" % row for row in rows]
    open(path, "w").write(head + begin + "".join(lines) + end + tail)


def main(args):
    if args == ["--apply"]:
        return apply_all()
    table = None
    if args[:1] == ["--table"]:
        table = os.path.abspath(args[1])
        args = args[2:]
    wanted = [m for m in MUTANTS if not args or m[0] in args]
    rows, missed = [], 0
    with tempfile.TemporaryDirectory(prefix="pawl-mutants-") as tmp:
        source, build = os.path.join(tmp, "source"), os.path.join(tmp, "build")
        copy_tree(source)
        subprocess.run(["cmake", "-G", "Ninja", "-S", source, "-B", build, "-DPAWL_BENCH=OFF", "-DPAWL_EXAMPLES=OFF",
                        "-DCMAKE_COMPILE_WARNING_AS_ERROR=OFF"], check=True, capture_output=True)
        made = build_in(source, build)
        if made.returncode != 0:
            sys.exit(made.stdout)
        healthy, _ = caught_by(build, source)
        if healthy is not None:
            print("without any fault, %s fails: nothing can be said" % healthy)
            return 1
        for mutant in wanted:
            test, took = try_mutant(mutant, source, build)
            print("%-40s %-8s %s" % (mutant[0], mutant[1], "caught by %s in %.1f s" % (test, took) if test else "NOT CAUGHT"),
                  flush=True)
            missed += test is None
            rows.append((mutant[0], mutant[1], mutant[2], test or "**nothing**"))
    if table:
        write_table(table, rows)
    print("%d faults, %d not caught" % (len(wanted), missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
