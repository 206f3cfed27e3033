#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test-label: slow test-timeout: 600 What can become of a PostgreSQL table, database and cluster
# under a sink, while it runs and while it doesn't. Each case ends with every record in the table
# once, or the sink stops and says what changed; and the log that is not the target's.
set -u
here=$(cd "$(dirname "$0")" && pwd)
prog=$(dirname "$1")/tests/prog_sink
if [ ! -x "$prog" ]; then echo "SKIPPED: no test programs (libcmocka-dev)"; exit 77; fi
. "$here/../support/lib_postgres.sh"
pg_new
PYTHONPATH=$here/../support PYTHONDONTWRITEBYTECODE=1 python3 - "$1" "$prog" <<'PY'
from lib_sinks import *

values = [b"line %d" % i for i in range(3000)]
COLUMNS = ["columns.off=offset", "columns.v=value"]
dump = os.path.join(top, "dump")
EXACT, STOPS, GOES_ON = "exact", "stops", "goes on"
T, TWO, I = "transactional", "two-phase", "idempotent"
MADE = "create table u(id text primary key, off bigint, v text)"
failed = []

# Statements; "dump" takes a backup of the table and the positions, "restore" puts it back.
SET_BACK = ["delete from u where off >= 600", "update pawl_positions set position = 600"]
CASES = [ # what happens, in which kinds, how it ends, what is said
    ("set back, rows and position", SET_BACK, [T, TWO, I], EXACT, "delivered again from 600 on"),
    ("an older dump", ["restore"], [T, TWO, I], STOPS, "(table was"),
    ("table made anew", ["drop table u", MADE], [T, TWO, I], STOPS, "(table was"),
    ("table altered", ["alter table u add more int"], [T, TWO, I], EXACT, ""),
    ("table truncated", ["truncate u"], [T, TWO, I], GOES_ON, ""),
    ("table rewritten", ["vacuum full u"], [T, TWO, I], EXACT, ""),
    ("position removed", ["delete from pawl_positions"], [T, TWO, I], STOPS, "has no position for"),
    ("positions truncated", ["truncate pawl_positions"], [T, TWO, I], STOPS, "has no position for"),
]

def fresh():
    psql("drop schema if exists public cascade", "create schema public", MADE)

def settings(kind):
    return ["table=u", *COLUMNS, "columns.id=id"]

TOOLS = {"dump": "pg_dump -Fc -f %s -t u -t pawl_positions" % dump,
         "restore": "pg_restore --clean -d postgres %s" % dump}

def command(steps):
    return " && ".join(TOOLS.get(s, 'psql -XAtqc "%s" >/dev/null' % s) for s in steps)

def act(step):
    check(step, sh("sh", "-c", command([step])).returncode == 0)

def copies():
    n = [0] * 3000
    for (off,) in psql("select off from u"):
        n[int(off)] += 1
    return sorted(set(n))

def judge(label, r, end, text):
    well = text in r["errors"] and (
        end == EXACT and r["exit"] == 0 and copies() == [1]
        or end == GOES_ON and r["exit"] == 0
        or end == STOPS and r["exit"] == 3 and text in r["message"])
    if not well:
        failed.append(label)
        print("FAILED: %s\n  %r" % (label, r))

for what, steps, kinds, end, text in CASES:
    for kind in kinds:
        done_point = "batch-finished" if kind == TWO else "log-advanced"
        new_log(values)
        fresh()
        at = ["at=%s:%d:%s" % (done_point, n, command(s)) for n, s in ((2, ["dump"]), (5, steps))]
        r = sink(kind, ["batch=300", "limit_ms=20000", *at], settings(kind), None)
        judge("up, %s, %s" % (kind, what), r, end, text)
        new_log(values)
        fresh()
        kill = "at=%s:2:kill -9 $PPID" % done_point
        sink(kind, ["batch=300", kill], settings(kind), KILLED)
        act("dump") if "restore" in steps else None
        sink(kind, ["batch=300"], settings(kind))
        for s in steps:
            act(s)
        r = sink(kind, ["batch=300"], settings(kind), None)
        judge("down, %s, %s" % (kind, what), r, end, text)

# ---- the answers
def refused(what, kind, steps):
    new_log(values)
    fresh()
    sink(kind, ["batch=300"], settings(kind))
    for s in steps:
        act(s)
    r = sink(kind, ["batch=300"], settings(kind), None)
    if r["exit"] != 3:
        failed.append("%s, %s: not refused" % (what, kind))

def answered(what, kind, answer, want):
    r = sink(kind, ["batch=300", "on_replaced=" + answer], settings(kind), None)
    got = copies()
    r2 = sink(kind, ["batch=300"], settings(kind), None)
    ends = [r["exit"], r2["exit"], r2["records"]]
    if ends != [0, 0, "0"] or got != want or copies() != want:
        failed.append("%s, %s, %s" % (what, kind, answer))
        print("FAILED: %s, %s, %s: %r %r\n  %r" % (what, kind, answer, got, r, r2))

for kind in (T, TWO, I):
    for answer, want in (("adopt", [0]), ("redeliver", [1])):
        anew = ["drop table u, pawl_positions", MADE]
        refused("all made anew", kind, anew)
        answered("all made anew", kind, answer, want)
    refused("table made anew", kind, ["drop table u", MADE])
    answered("table made anew", kind, "redeliver", [0]) # by its own position
    refused("position removed", kind, ["delete from pawl_positions"])
    answered("position removed", kind, "adopt", [1])

# ---- poison and records given up before: nothing is taken for lost at the next opening
for kind in (T, TWO, I):
    bad = list(values)
    bad[700] = bad[2999] = b"\xff"
    new_log(bad)
    fresh()
    for n in range(2):
        r = sink(kind, ["batch=300", "dead=dead"], settings(kind), None)
        if [r["exit"], r["redelivered"], len(dead())] != [0, "0", 2] or "again" in r["errors"]:
            failed.append("poison, " + kind)
            print("FAILED: poison", kind, n, r)
new_log(values)
fresh()
sink(TWO, ["batch=1000", "at=batch-decided:2:kill -9 $PPID"], settings(TWO), KILLED)
psql("rollback prepared '%s'" % one("select gid from pg_prepared_xacts"))
for n in range(2): # accepted as lost, and the batches after it
    end = "kill -9 $PPID" if n == 0 else "true"
    options = ["batch=1000", "on_lost=accept", "at=sink-recovered:1:" + end]
    r = sink(TWO, options, settings(TWO), None)
r2 = sink(TWO, ["batch=1000"], settings(TWO), None)
if r["exit"] != 0 or copies() != [0, 1] or r2["exit"] != 0 or r2["redelivered"] != "0":
    failed.append("accepted as lost")
    print("FAILED: accepted as lost", copies(), r, r2)

# ---- a sink that is gone, with a batch that is decided: said, and not forgotten
new_log(values)
fresh()
sink(TWO, ["batch=1000", "at=batch-decided:2:kill -9 $PPID"], settings(TWO), KILLED)
r = sh(pawl, "processor", "forget", log, "to-db")
if r.returncode != 1 or b"is decided and not settled" not in r.stderr:
    failed.append("forgotten")
    print("FAILED: forgotten", r)
with open(top + "/p.yml", "w") as f:
    f.write("log: {directory: %s}\nstreams: [in]\n"
            "sinks: {other: {type: exec, from: in, command: ['true']}}\n" % log)
child = subprocess.Popen([pawl, "run", top + "/p.yml"], stderr=subprocess.PIPE)
told = b""
while b"was decided and is not settled" not in told:
    line = child.stderr.readline()
    told += line
    if line == b"":
        failed.append("a sink that is not in the file")
        print("FAILED: a sink that is not in the file", told)
        break
child.terminate()
child.communicate()
sink(TWO, ["batch=1000"], settings(TWO))
if copies() != [1] or sh(pawl, "processor", "forget", log, "to-db").returncode != 0:
    failed.append("settled, then forgotten")

# ---- the log is another one
for kind in (T, TWO, I):
    new_log(values)
    fresh()
    shutil.rmtree(log + ".old", ignore_errors=True)
    shutil.copytree(log, log + ".old")
    sink(kind, ["batch=300"], settings(kind))
    if kind == TWO: # restored from a backup, and without what was decided
        shutil.rmtree(log)
        os.rename(log + ".old", log)
        r = sink(kind, ["batch=300"], settings(kind), None)
        if r["exit"] != 3 or "the log was restored" not in r["message"] or copies() != [1]:
            failed.append("the log restored")
            print("FAILED: the log restored", r)
    if kind != I: # whose ids have the log's in them
        psql("alter table u drop constraint u_pkey")
    new_log(values)
    r = sink(kind, ["batch=300"], settings(kind), None)
    if r["exit"] != 3 or "positions of another log" not in r["message"] or copies() != [1]:
        failed.append("a log made anew, " + kind)
        print("FAILED: a log made anew", kind, r)
    answered("a log made anew", kind, "adopt", [2])

# ---- an idempotent sink that kept no position: an earlier version, or as it was told
new_log(values)
fresh()
kill = ["batch=300", "at=log-advanced:2:kill -9 $PPID"]
sink(I, kill, settings(I) + ["position_table="], KILLED)
psql("delete from u where off >= 300") # not seen, as documented
r = sink(I, kill, settings(I), KILLED)
if "known from now on as: " not in r["errors"] or copies() != [0, 1]:
    failed.append("a position is begun")
    print("FAILED: a position is begun", copies(), r)
psql("delete from u where off >= 600",
     "update pawl_positions set position = 600 where partition = 0")
r = sink(I, ["batch=300"], settings(I))
if "delivered again from 600 on" not in r["errors"] or "known from now on" in r["errors"]:
    failed.append("a position that was begun")
    print("FAILED: a position that was begun", r)
if one("select count(*) from u where off >= 600") != "2400":
    failed.append("delivered from a position that was begun")
psql("drop table pawl_positions")
r = sink(I, [], settings(I) + ["position_table="]) # told to do without: nothing is missed
r2 = sink(I, [], settings(I)) # and begun again
if [r["records"], r2["records"]] != ["0", "0"] or "known from now on" not in r2["errors"]:
    failed.append("without a position, and with one again")
    print("FAILED: without a position, and with one again", r, r2)
for kind in (T, TWO):
    r = sink(kind, [], settings(kind) + ["position_table="], 2)
    check("an empty name", "may be empty for kind" in r["errors"], r)
fresh()
psql("create role low login", "grant usage on schema public to low",
     "grant select, insert on u to low")
user, os.environ["PGUSER"] = os.environ["PGUSER"], "low"
new_log(values)
r = sink(I, [], settings(I), 3)
check("may not make the table", "42501" in r["message"] and "position_table" in r["message"], r)
sink(I, [], settings(I) + ["position_table="])
os.environ["PGUSER"] = user
check("without the right", copies() == [1])

# ---- the whole cluster put back as it was: the same identity, an older state
def cluster(steps):
    script = """. '%s/lib_postgres.sh'; pg_programs; pg_stop; cd "$PG_DIR"; %s && pg_start"""
    check(steps, sh("bash", "-c", script % (os.environ["PYTHONPATH"], steps)).returncode == 0)

for kind in (T, TWO, I):
    new_log(values)
    fresh()
    kill = "at=%s:3:kill -9 $PPID" % ("batch-finished" if kind == TWO else "log-advanced")
    sink(kind, ["batch=300", kill], settings(kind), KILLED)
    cluster("cp -a data data.copy")
    sink(kind, ["batch=300"], settings(kind))
    cluster("rm -r data && mv data.copy data")
    if copies() != [0, 1]:
        failed.append("not put back, " + kind)
    r = sink(kind, ["batch=300"], settings(kind), None)
    judge("the cluster put back, " + kind, r, EXACT, "delivered again from")

# ---- another database, and another cluster, behind the same name
new_log(values)
fresh()
psql("create database a template postgres", "create database b template postgres")
for kind in (T, I):
    name = "to-" + kind
    def run(db, expect):
        conninfo = "conninfo=host=%s user=postgres dbname=%s" % (os.environ["PGHOST"], db)
        r = sh(prog, log, name, "in", "postgres", "batch=300", ":", conninfo, "kind=" + kind,
               *settings(kind))
        if r.returncode != expect or (expect == 3 and b"(database was" not in r.stderr):
            failed.append("another database, " + kind)
            print("FAILED: another database", kind, r)
    run("a", 0)
    run("b", 3)
    run("a", 0)
sink(I, ["batch=300"], settings(I), 0, "c-" + I)
script = """. '%s/lib_postgres.sh'; pg_programs; pg_stop; mv "$PG_DIR/data" "$PG_DIR/data.old"
(cd / && pg_as "$PG_BIN/initdb" -D "$PG_DIR/data" -U postgres -A trust -E UTF8 --no-locale -N) \
    >/dev/null && pg_start""" % os.environ["PYTHONPATH"]
check("another cluster", sh("bash", "-c", script).returncode == 0)
psql(MADE)
r = sink(I, ["batch=300"], settings(I), None, "c-" + I)
if r["exit"] != 3 or "(system was" not in r["message"]:
    failed.append("another cluster")
    print("FAILED: another cluster", r)
if failed:
    sys.exit("FAILED: " + ", ".join(failed))
done()
PY
