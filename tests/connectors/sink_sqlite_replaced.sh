#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test-label: slow test-timeout: 300 What can become of a SQLite file under a sink, while it runs
# and while it doesn't: removed, replaced, restored, emptied, another's. Each case ends with every
# record in the file that has the name, once, or the sink stops and says what changed.
set -euo pipefail
prog=$(dirname "$1")/tests/prog_sink
if [ ! -x "$prog" ]; then echo "SKIPPED: no test programs (libcmocka-dev)"; exit 77; fi
python3 -c 'import sqlite3' 2>/dev/null || { echo "SKIPPED: no Python with sqlite3"; exit 77; }
exec python3 - "$1" "$prog" <<'PY'
import os, shutil, signal, sqlite3, subprocess, sys, tempfile

pawl, prog = sys.argv[1:]
top = tempfile.mkdtemp(prefix="pawl-sqlite-")
log, place = os.path.join(top, "log"), os.path.join(top, "place")
db, old = os.path.join(place, "x.db"), os.path.join(top, "old.db")
values = [b"line %d" % i for i in range(3000)]
SETTINGS = ["table=u", "columns.off=offset", "columns.v=value"]
ROWS = "create table u(off integer, v text);"

def sh(*args, data=None):
    return subprocess.run(args, input=data, capture_output=True)

def sql(path, *statements):
    c = sqlite3.connect("file:%s?mode=rwc" % path, uri=True, timeout=20)
    try:
        for s in statements:
            rows = c.execute(s).fetchall()
        c.commit()
        return rows
    finally:
        c.close()

def files(*ends):
    for end in ends:
        if os.path.lexists(db + end):
            os.unlink(db + end)

def backup(path=old):
    if os.path.exists(path):
        os.unlink(path)
    a, b = sqlite3.connect(db), sqlite3.connect(path)
    a.backup(b)
    a.execute("pragma wal_checkpoint(passive)")
    a.close()
    b.close()

# ---- what is done to the file
def removed(): files("", "-wal", "-shm")
def only_the_file_removed(): files("")
def wal_removed(): files("-wal", "-shm")
def checkpointed_and_wal_removed():
    sql(db, "pragma wal_checkpoint(full)")
    files("-wal", "-shm")
def another_renamed_onto_it():
    sql(top + "/other.db", ROWS)
    files("-wal", "-shm")
    os.rename(top + "/other.db", db)
def older_renamed_onto_it():
    files("-wal", "-shm")
    shutil.copy(old, top + "/again.db")
    os.rename(top + "/again.db", db)
def older_renamed_beside_the_wal():
    shutil.copy(old, top + "/again.db")
    os.rename(top + "/again.db", db)
def older_copied_onto_it(): shutil.copyfile(old, db)
def checkpointed_and_older_copied_onto_it():
    sql(db, "pragma wal_checkpoint(full)")
    shutil.copyfile(old, db)
def older_restored_by_sqlite():
    a, b = sqlite3.connect(old), sqlite3.connect(db, timeout=20)
    a.backup(b)
    a.close()
    b.close()
def table_made_anew(): sql(db, "drop table u", "create table u(off integer, v text)")
def table_made_anew_and_vacuumed_before():
    sql(db, "create table x(a)", "drop table x")
    sql(db, "vacuum")
    table_made_anew()
def altered(): sql(db, "alter table u add column more text", "create index i on u(off)")
def vacuumed(): sql(db, "vacuum")
def positions_dropped(): sql(db, "drop table pawl_positions")
def positions_emptied(): sql(db, "delete from pawl_positions")
def position_removed(): sql(db, "delete from pawl_positions where sink = 'to-db'")
def link_switched():
    sql(top + "/other.db", ROWS)
    os.symlink(top + "/other.db", db + ".new")
    os.rename(db + ".new", db)
def directory_replaced():
    os.rename(place, place + ".old")
    os.mkdir(place)
    sql(db, ROWS)

def start(mode):
    for d in (place, place + ".old", log):
        shutil.rmtree(d, ignore_errors=True)
    for f in os.listdir(top):
        if f.endswith(("db", "-wal", "-shm")):
            os.unlink(os.path.join(top, f))
    os.mkdir(place)
    assert sh(pawl, "init", log, "--segment-size", "64M").returncode == 0
    assert sh(pawl, "stream", "create", log, "in").returncode == 0
    assert sh(pawl, "ingest", log, "in", data=b"".join(v + b"\n" for v in values)).returncode == 0
    sql(db, ROWS)
    if mode == "link":
        os.rename(db, top + "/real.db")
        os.symlink(top + "/real.db", db)

def sink(options, settings=(), expect=(0,)):
    r = sh(prog, log, "to-db", "in", "sqlite", *options, ":", "path=" + db, *SETTINGS, *settings)
    if "in this build" in r.stderr.decode(errors="replace"):
        print("SKIPPED: built without SQLite (libsqlite3-dev)")
        sys.exit(77)
    out = dict(l.split("=", 1) for l in r.stdout.decode(errors="replace").splitlines() if "=" in l)
    out["exit"], out["errors"] = r.returncode, r.stderr.decode(errors="replace")
    return out

def whole():
    return [r[0] for r in sql(db, "select off from u order by off")] == list(range(3000))

def copies():
    n = [0] * 3000
    for (off,) in sql(db, "select off from u"):
        n[off] += 1
    return sorted(set(n))

# name, what, text that must be said; and how the run may end: EXACT every record once; STOPS the
# sink stops (the text is the reason); WAITS it tries again for ever
EXACT, STOPS, WAITS = "exact", "stops", "waits"
UP = [ # the journal, the case, how it ends, what is said
    ("wal", removed, WAITS, "was removed"),
    ("keep", removed, WAITS, "was removed"),
    ("wal", only_the_file_removed, WAITS, "-wal file was left"),
    ("keep", only_the_file_removed, WAITS, "was removed"),
    ("wal", wal_removed, EXACT, "delivered again"),
    ("wal", checkpointed_and_wal_removed, EXACT, "has lost its -wal"),
    ("wal", another_renamed_onto_it, STOPS, "is not the one that this sink delivered to (id was"),
    ("keep", another_renamed_onto_it, STOPS, "is not the one that this sink delivered to (id was"),
    ("wal", older_renamed_onto_it, EXACT, "delivered again"),
    ("keep", older_renamed_onto_it, EXACT, "delivered again"),
    ("wal", older_renamed_beside_the_wal, STOPS, "its -wal file is still that of the file before"),
    ("keep", older_renamed_beside_the_wal, EXACT, "delivered again"),
    ("keep", older_copied_onto_it, EXACT, "delivered again"),
    ("wal", older_copied_onto_it, STOPS, "was written over in place"),
    ("wal", checkpointed_and_older_copied_onto_it, STOPS, "was written over in place"),
    ("keep", checkpointed_and_older_copied_onto_it, EXACT, "delivered again"),
    ("wal", older_restored_by_sqlite, EXACT, "delivered again"),
    ("keep", older_restored_by_sqlite, EXACT, "delivered again"),
    ("wal", table_made_anew, STOPS, "table was older-than-its-positions"),
    ("keep", table_made_anew_and_vacuumed_before, STOPS, "table was older-than-its-positions"),
    ("wal", altered, EXACT, "was changed: it is opened again"),
    ("wal", vacuumed, EXACT, ""),
    ("wal", positions_dropped, STOPS, "id was"),
    ("keep", positions_emptied, STOPS, "id was"),
    ("wal", position_removed, STOPS, "has no position for in/0"),
    ("link", link_switched, STOPS, "id was"),
    ("wal", directory_replaced, STOPS, "id was"),
]
DOWN = [
    ("wal", removed, STOPS, "unable to open"),
    ("wal", another_renamed_onto_it, STOPS, "id was"),
    ("wal", older_renamed_onto_it, EXACT, "delivered again"),
    ("keep", older_copied_onto_it, EXACT, "delivered again"),
    ("wal", older_restored_by_sqlite, EXACT, "delivered again"),
    ("wal", table_made_anew, STOPS, "table was older-than-its-positions"),
    ("wal", altered, EXACT, ""),
    ("wal", vacuumed, EXACT, ""),
    ("wal", positions_dropped, STOPS, "id was"),
    ("keep", positions_emptied, STOPS, "id was"),
    ("wal", position_removed, STOPS, "has no position for in/0"),
    ("link", link_switched, STOPS, "id was"),
    ("wal", directory_replaced, STOPS, "id was"),
]
failed = []

def judge(label, r, end, text):
    well = text in r["errors"] and (
        end == EXACT and r["exit"] == 0 and whole()
        or end == STOPS and r["exit"] == 3 and text in r["message"]
        or end == WAITS and r["exit"] == 4)
    if not well:
        failed.append(label)
        told = {k: v for k, v in r.items() if k != "errors"}
        print("FAILED: %s\n   %r\n   %s" % (label, told, r["errors"][-900:]))

def settings_of(mode):
    return ["journal=" + ("wal" if mode == "link" else mode)]

class Commands: # what prog_sink runs at a point: it tells this process, and waits for it
    def __init__(self):
        self.ask, self.answer = os.path.join(top, "ask"), os.path.join(top, "answer")
        for p in (self.ask, self.answer):
            os.mkfifo(p)
    def at(self, point, n):
        return "at=%s:%d:echo x >'%s'; read x <'%s'" % (point, n, self.ask, self.answer)

fifo = Commands()
for mode, case, end, text in UP:
    label = "up, %s, %s" % (mode, case.__name__)
    start(mode)
    child = os.fork()
    if child == 0: # the visits of the point: a backup at the second, the case at the fifth
        for step in (backup, case):
            open(fifo.ask).read()
            try:
                step()
            except BaseException as e:
                print(label, e)
            open(fifo.answer, "w").write("x\n")
        os._exit(0)
    points = [fifo.at("log-advanced", 2), fifo.at("log-advanced", 5)]
    r = sink(["batch=300", "limit_ms=1500", *points], settings_of(mode))
    os.waitpid(child, 0)
    judge(label, r, end, text)

for mode, case, end, text in DOWN:
    label = "down, %s, %s" % (mode, case.__name__)
    start(mode)
    sink(["batch=300", "limit_ms=1", "at=log-advanced:2:kill -9 $PPID"], settings_of(mode))
    backup()
    sink(["batch=300", "limit_ms=1", "at=log-advanced:3:kill -9 $PPID"], settings_of(mode))
    sql(db, "pragma wal_checkpoint(truncate)")
    case()
    judge(label, sink(["batch=300", "limit_ms=1500"], settings_of(mode)), end, text)

# ---- the answers to a refusal, each given once and kept
def again(label, case, answer, want, text):
    start("wal")
    sink(["batch=300"])
    case()
    r = sink(["batch=300"])
    if r["exit"] != 3:
        failed.append(label + " not refused")
    r = sink(["batch=300", "on_replaced=" + answer])
    got = copies()
    ok = r["exit"] == 0 and got == want and text in r["errors"]
    r2 = sink(["batch=300"])
    if not ok or r2["exit"] != 0 or copies() != want or r2["records"] != "0":
        failed.append(label)
        print("FAILED: %s: %r\n  %s\n %s" % (label, got, r["errors"], r2["errors"]))

for answer, want in (("adopt", [0]), ("redeliver", [1])):
    again("another file, " + answer, another_renamed_onto_it, answer, want, "taken as the target")
    again("table made anew, " + answer, table_made_anew, answer, [0], "taken as the target")
for answer, want in (("adopt", [1]), ("redeliver", [2])):
    again("positions dropped, " + answer, positions_dropped, answer, want, "taken as the target")
    again("position removed, " + answer, position_removed, answer, want,
          "no position" if answer == "adopt" else "delivered again")

# ---- a log made anew beside a target that has the old log's positions
start("wal")
sink(["batch=300"])
shutil.rmtree(log)
assert sh(pawl, "init", log, "--segment-size", "64M").returncode == 0
assert sh(pawl, "stream", "create", log, "in").returncode == 0
assert sh(pawl, "ingest", log, "in", data=b"".join(v + b"\n" for v in values)).returncode == 0
for n in range(2):
    r = sink(["batch=300"])
    if r["exit"] != 3 or "positions of another log" not in r["message"] or not whole():
        failed.append("a log made anew")
        print("FAILED: a log made anew", r)
r = sink(["batch=300", "on_replaced=adopt"])
if r["exit"] != 0 or copies() != [2] or "as on_replaced says" not in r["errors"]:
    failed.append("a log made anew, adopted")
r = sink(["batch=300"])
if r["exit"] != 0 or copies() != [2]:
    failed.append("a log made anew, and later")

# ---- a log that was restored from a backup, and went another way
start("wal")
shutil.copytree(log, log + "2")
sink(["batch=300"])
shutil.rmtree(log)
os.rename(log + "2", log)
assert sh(pawl, "ingest", log, "in", data=b"another\n" * 10).returncode == 0
r = sink(["batch=300"]) # the log it was: the records that are there are passed over
if r["exit"] != 0 or [n for (n,) in sql(db, "select count(*) from u")] != [3010]:
    failed.append("a log restored, the same so far")
    print("FAILED: a log restored, the same so far", r)
start("wal")
shutil.copytree(log, log + "2")
assert sh(pawl, "ingest", log, "in", data=b"one\n" * 10).returncode == 0
sink(["batch=300"])
shutil.rmtree(log)
os.rename(log + "2", log)
assert sh(pawl, "ingest", log, "in", data=b"another\n" * 12).returncode == 0
r = sink(["batch=300"])
if r["exit"] != 3 or "went another way" not in r["message"]:
    failed.append("a log restored")
    print("FAILED: a log restored", r)
r = sink(["batch=300", "on_replaced=adopt"])
if r["exit"] != 0 or sql(db, "select count(*) from u where v = 'another'") != [(12,)]:
    failed.append("a log restored, adopted")
    print("FAILED: a log restored, adopted", r)
if sink(["batch=300"])["records"] != "0":
    failed.append("a log restored, adopted, and later")

# ---- a second pipeline, with a copy of the log, writes under the same name
start("wal")
shutil.copytree(log, log + "2")
second = "'%s' '%s2' to-db in sqlite batch=300 : path='%s' %s >/dev/null" % (
    prog, log, db, " ".join(SETTINGS))
r = sink(["batch=300", "at=log-advanced:3:" + second])
if r["exit"] != 0 or not whole() or "someone else" not in r["errors"]:
    failed.append("a second pipeline")
    print("FAILED: a second pipeline", r, copies())
shutil.rmtree(top)
if failed:
    sys.exit("FAILED: " + ", ".join(failed))
print("%d cases" % (len(UP) + len(DOWN) + 15))
PY
