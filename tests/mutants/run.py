#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the project with one deliberate fault at a time, and looks which test catches it.

    run.py --apply                  only: does each fault still match the sources exactly?
    run.py --list [NAME or PATH...] one line for each: name, promise, file, what is changed, tests
    run.py --sample N [SEED]        try N of them at random; the same SEED (1) takes the same ones
    run.py [NAME or PATH...]        try all, or those that are named, or that are in files whose
                                    paths begin so; exit code 1 if one is not caught

A fault in the core (table.py) is sought with the simulator and the test programs below; one of
keyed state (table_state.py), of time (table_time.py) or outside the core (table_connect.py) with
the tests of ctest that belong to its file.
"""
import glob
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import table  # noqa: E402
import table_connect  # noqa: E402
import table_state  # noqa: E402
import table_time  # noqa: E402

MUTANTS = table.MUTANTS + table_state.MUTANTS + table_time.MUTANTS + table_connect.MUTANTS
# On a machine that does other things too; none takes more than 60 on one that doesn't. The tests of
# ctest have limits of their own.
LIMIT_S = 180
DID_NOT_END = " (did not end)"
C_TESTS = [
    "pace", "zeros", "seam_faults", "one_writer", "processors", "positions", "producers",
    "full_disk", "transactions", "bit_flips", "decision_table", "recycling", "after_repair",
    "repair_kinds",
    "followers", "forged_limits",
    "committers", "recent_reads", "retention", "edges", "scars", "other_history", "features", "any",
    "lock_free_io", "catalog", "sink_runtime", "fence", "split", "decompress", "source_packed",
    "source_text", "sink_file_lost", "age", "keys", "forged_frames",
    "failed_processor", "decoders", "seam_calls",
    "feeds", "frame", "syslog_parse", "source_socket", "source_syslog",
    "source_tls", "net_peer", "listen", "log_plants", "state_expiry",
]
FUZZ_TESTS = ["fuzz_forged_open", "fuzz_forged_check", "fuzz_forged_repair"]  # their corpora


def core_catchers(build):
    sim = os.path.join(build, "tests/sim/sim")
    yield "sim_kept_plans", [sim, "replay", os.path.join(ROOT, "tests/sim/kept.plans")]
    yield "sim_walk", [sim, "walk", "--from", "1", "--count", "80", "--jobs", "2"]
    for name in FUZZ_TESTS:
        yield name, [os.path.join(build, "tests/fuzz/" + name),
                     os.path.join(ROOT, "tests/fuzz/corpus/" + name[len("fuzz_"):])]
    for name in C_TESTS:
        yield name, [os.path.join(build, "tests/test_" + name)]
    yield "sim_walk, longer", [sim, "walk", "--from", "81", "--count", "100000", "--seconds", "40",
                               "--jobs", "2"]


def tests_of(path):
    """The names of the tests of ctest that belong to a file; None for one of the core."""
    for prefix, names in table_state.CATCHERS + table_time.CATCHERS + table_connect.CATCHERS:
        if path.startswith(prefix):
            return names
    return None


def catchers(build, names):
    if names is None:
        return core_catchers(build)
    ctest = ["ctest", "--test-dir", build, "--no-tests=error", "-R"]
    return [(name, ctest + ["^%s$" % name]) for name in names]


def targets(names):
    """What these tests need: their own programs; a script needs the command and what helps it."""
    if names is None:
        return ["sim"] + ["test_" + name for name in C_TESTS] + FUZZ_TESTS
    programs = set()
    for name in names:
        if glob.glob(os.path.join(ROOT, "tests/*/test_%s.c" % name)):
            programs.add("test_" + name)
        elif name.startswith("fuzz_"):
            programs.add(name)
        else:
            programs.update(["pawl", "prog_sink", "prog_source", "prog_powercut", "pawl_faults",
                             "powercut_fuseblock"])
    return sorted(programs)


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


def one_line(text, most=60):
    text = " ".join(text.split())
    return repr(text if len(text) <= most else text[:most - 3] + "...")


def list_all(wanted):
    for name, breaks, path, old, new in wanted:
        begin = max(0, len(os.path.commonprefix([old, new])) - 20)
        rest = len(os.path.commonprefix([old[begin + 20:][::-1], new[begin + 20:][::-1]]))
        end = -max(0, rest - 20) or None
        names = tests_of(path)
        print("%s: %s, %s: %s becomes %s; %s" %
              (name, breaks, path, one_line(old[begin:end]), one_line(new[begin:end]),
               "the simulator and the tests of the core" if names is None else ", ".join(names)))
    return 0


def copy_tree(to):
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT,
                           capture_output=True, text=True)
    names = files.stdout.split("\n") if files.returncode == 0 else []
    if not names:
        sys.exit("run.py: needs a git checkout")
    for name in names:
        if name and os.path.isfile(os.path.join(ROOT, name)):
            os.makedirs(os.path.join(to, os.path.dirname(name)), exist_ok=True)
            shutil.copy2(os.path.join(ROOT, name), os.path.join(to, name))


def build_in(build, names):
    """names: of tests, as tests_of() gives them."""
    return subprocess.run(["ninja", "-C", build] + targets(names), capture_output=True, text=True)


def stopped(process):
    os.killpg(process.pid, signal.SIGKILL)  # ctest and the tests that it has started
    process.wait()


def caught_by(build, cwd, names, only=None):
    """Name of the first test that fails, seconds it took; (None, 0) if all pass."""
    for name, command in catchers(build, names):
        if only not in (None, name, name + DID_NOT_END):
            continue
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   cwd=cwd, start_new_session=True,
                                   env=dict(os.environ, PAWL_SOURCE_DIR=cwd))
        try:
            code = process.wait(timeout=LIMIT_S if names is None else None)
        except subprocess.TimeoutExpired:
            stopped(process)
            return name + DID_NOT_END, LIMIT_S
        if code not in (0, 77):
            return name, time.monotonic() - begun
    return None, 0


def try_mutant(mutant, source, build):
    _, _, path, old, new = mutant
    where = os.path.join(source, path)
    text = open(where).read()
    names = tests_of(path)
    try:
        open(where, "w").write(text.replace(old, new, 1))
        made = build_in(build, names)
        if made.returncode != 0:
            return None, "it does not compile"
        return caught_by(build, source, names)
    finally:
        open(where, "w").write(text)


def sound(caught, source, build):
    """Do the tests that have caught something pass without any fault? Else they prove nothing."""
    good = True
    tests = {(tests_of(path) is None, test): tests_of(path) for path, test in caught}
    for (_, test), names in sorted(tests.items(), key=lambda item: item[0]):
        made = build_in(build, names)
        if made.returncode != 0:
            sys.exit(made.stdout)
        failed, _ = caught_by(build, source, names, only=test)
        if failed is not None:
            print("without any fault, %s fails: what it caught means nothing" % failed)
            good = False
    return good


def main(args):
    if args == ["--apply"]:
        return apply_all()
    if args[:1] == ["--sample"]:
        names = sorted(m[0] for m in MUTANTS)
        args = random.Random(int((args + ["1"])[2])).sample(names, int(args[1]))
    listed = args[:1] == ["--list"]
    args = args[1:] if listed else args
    wanted = [m for m in MUTANTS if not args or m[0] in args or m[2].startswith(tuple(args))]
    if listed:
        return list_all(wanted)
    caught, missed = [], 0
    with tempfile.TemporaryDirectory(prefix="pawl-mutants-") as tmp:
        source, build = os.path.join(tmp, "source"), os.path.join(tmp, "build")
        os.chmod(tmp, 0o755)  # a test runs its program as another user
        copy_tree(source)
        subprocess.run(["cmake", "-G", "Ninja", "-S", source, "-B", build, "-DPAWL_BENCH=OFF",
                        "-DPAWL_EXAMPLES=OFF", "-DCMAKE_COMPILE_WARNING_AS_ERROR=OFF"], check=True,
                       capture_output=True)
        for mutant in wanted:
            test, took = try_mutant(mutant, source, build)
            told = "caught by %s in %.1f s" % (test, took) if test else "NOT CAUGHT"
            if took == "it does not compile":
                told += ": " + took
            print("%-40s %-8s %s" % (mutant[0], mutant[1], told), flush=True)
            missed += test is None
            if test:
                caught.append((mutant[2], test))
        if not sound(caught, source, build):
            return 1
    print("%d faults, %d not caught" % (len(wanted), missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
