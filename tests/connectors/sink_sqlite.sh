#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test-label: slow test-timeout: 300 The SQLite sink: both kinds killed at every point and at
# random, what columns take, and each fault of the target: an error that says what it is, nothing
# lost, nothing doubled. Python's sqlite3 looks at the result.
set -euo pipefail
prog=$(dirname "$1")/tests/prog_sink
if [ ! -x "$prog" ]; then echo "SKIPPED: no test programs (libcmocka-dev)"; exit 77; fi
python3 -c 'import sqlite3' 2>/dev/null || { echo "SKIPPED: no Python with sqlite3"; exit 77; }
exec python3 - "$1" "$prog" <<'PY'
import json, os, shutil, signal, sqlite3, subprocess, sys, tempfile

pawl, prog = sys.argv[1:]
top = tempfile.mkdtemp(prefix="pawl-sqlite-")
log, db = os.path.join(top, "log"), os.path.join(top, "x.db")
mounted = None
RAW = "path=" + db

def sh(*args, data=None):
    return subprocess.run(args, input=data, capture_output=True)

def new_log(values, partitions="1"):
    shutil.rmtree(log, ignore_errors=True)
    assert sh(pawl, "init", log, "--segment-size", "64M").returncode == 0
    for s in ("in", "dead"):
        assert sh(pawl, "stream", "create", log, s, "--partitions", partitions if s == "in" else "1").returncode == 0
    r = sh(pawl, "ingest", log, "in", data=b"".join(v + b"\n" for v in values))
    assert r.returncode == 0, r.stderr

def new_db(sql):
    for end in ("", "-wal", "-shm", "-journal"):
        if os.path.exists(db + end):
            os.unlink(db + end)
    query(sql, create=True)

def query(sql, create=False):
    c = sqlite3.connect(db if create else "file:%s?mode=rw" % db, uri=not create, timeout=20)
    try:
        if create:
            c.executescript(sql)
        return c.execute(sql).fetchall() if not create else None
    finally:
        c.commit()
        c.close()

def sink(options, settings, expect=0):
    r = sh(prog, log, "to-db", "in", "sqlite", *options, ":", RAW, *settings)
    if "without" in r.stderr.decode(errors="replace") or "of type \"sqlite\" in this build" in r.stderr.decode(errors="replace"):
        print("SKIPPED: built without SQLite (libsqlite3-dev)")
        sys.exit(77)
    if expect is not None and r.returncode != expect:
        sys.exit("exit %d instead of %d of %s\n%s\n%s" % (r.returncode, expect, [options, settings], r.stdout.decode(), r.stderr.decode()))
    out = dict(l.split("=", 1) for l in r.stdout.decode(errors="replace").splitlines() if "=" in l)
    out["exit"] = r.returncode
    out["errors"] = r.stderr.decode(errors="replace")
    return out

def dead():
    r = sh(pawl, "cat", log, "dead", "--format", "json")
    return [json.loads(l) for l in r.stdout.splitlines()]

def check(what, condition, detail=None):
    if not condition:
        sys.exit("FAILED: %s: %r" % (what, detail))

ROWS = "create table t(id text primary key, off integer, v text); create table u(off integer, v text);"
TRANSACTIONAL = ["table=u", "columns.off=offset", "columns.v=value"]
IDEMPOTENT = ["table=t", "kind=idempotent", "columns.id=id", "columns.off=offset", "columns.v=value"]
values = [b"line %d" % i for i in range(5000)]

def whole(what, table, expected=values):
    rows = query("select off, v from %s order by off" % table)
    check(what, rows == [(i, v.decode()) for i, v in enumerate(expected)], (len(rows), rows[:3]))

# ---- killed at each point, at its first and a later visit, and at random
for settings, table in ((TRANSACTIONAL, "u"), (IDEMPOTENT, "t")):
    for point in ("sink-opened", "sink-recovered", "batch-begun", "batch-written", "target-committed", "log-advanced"):
        new_log(values)
        new_db(ROWS)
        for n in ((1, 2) if point.startswith("sink") else (1, 3, 2)):
            r = sink(["batch=700", "at=%s:%d:kill -9 $PPID" % (point, n)], settings, None)
            check("killed at " + point, r["exit"] == -signal.SIGKILL or point.startswith("sink") and n > 1, r)
        sink(["batch=700"], settings)
        whole("killed at %s, %s" % (point, table), table)
    new_log(values)
    new_db(ROWS)
    kills = 0
    for i in range(60):
        r = sink(["batch=50", "at=+%d:kill" % (5 + i % 17 * 4)], settings, None)
        kills += r["exit"] == -signal.SIGKILL
        if r["exit"] == 0 and kills > 5:
            break
    sink(["batch=50"], settings)
    whole("killed at random, " + table, table)
    print("%s: killed %d times at random" % (table, kills))

# ---- what the columns take
doc = b'{"a":{"n":12345678901234567890123.5,"s":"x\\u00e9\\n","l":[1,{"k":true}]},"i":-7,"f":1.5,"z":null}'
new_log([doc])
new_db("create table c(k text, n numeric, nt text, s text, l text, b, i integer, it text, f real, z text, missing text, id text, st text, p int, o int, ts text, ms int, ns int, raw blob)")
sink([], ["table=c", "columns.k=key", "columns.n=$.a.n", "columns.nt=$.a.n", "columns.s=$.a.s", "columns.l=$.a.l", "columns.b=$.a.l[1].k", "columns.i=$.i",
          "columns.it=$.i", "columns.f=$.f", "columns.z=$.z", "columns.missing=$.nothing.there", "columns.id=id", "columns.st=stream",
          "columns.p=partition", "columns.o=offset", "columns.ts=timestamp", "columns.ms=timestamp_ms", "columns.ns=timestamp_ns", "columns.raw=value"])
row = query("select * from c")[0]
check("columns", row[:11] == (None, 1.2345678901234568e22, "12345678901234567890123.5", "x\u00e9\n", '[1,{"k":true}]', 1, -7, "-7", 1.5, None, None), row)
check("columns", row[11].endswith("-1-0-0") and len(row[11]) == 38 and row[12:15] == ("in", 0, 0), row)
check("times", row[15].endswith("Z") and len(row[15]) == 30 and row[16] == row[17] // 1000000 and row[18] == doc, row)
check("time", query("select strftime('%s', ts) from c")[0][0] == str(row[17] // 1000000000), row)

# ---- a hostile name is only a name
new_log([b"1"])
evil = 'x"; drop table u; --'
new_db(ROWS + 'create table "%s"("%s" text, "p" text)' % (evil.replace('"', '""'), evil.replace('"', '""')))
sink([], ["table=" + evil, "columns.%s=value" % evil])
check("names are quoted", query('select * from "%s"' % evil.replace('"', '""')) == [("1", None)])

# ---- poison: to the dead letters, once, the rest arrives
bad = [b"good 0", b"\xff\xfe", b"good 2", b"a\x00b", b"good 4", b"\xc3", b"\xed\xa0\x80", b"good 7"]
new_log(bad)
new_db(ROWS)
r = sink(["dead=dead"], TRANSACTIONAL)
check("poison", query("select off from u order by off") == [(0,), (2,), (4,), (7,)] and r["poisoned"] == "4", r)
check("dead letters", [d["headers"]["pawl-offset"] if isinstance(d["headers"], dict) else d["headers"] for d in dead()] is not None and len(dead()) == 4, dead())
r = sink(["dead=dead"], TRANSACTIONAL)
check("nothing again", r["records"] == "0" and len(dead()) == 4, r)
new_log(bad)
new_db(ROWS)
sink([], TRANSACTIONAL + ["invalid_text=replace"])
check("replaced", query("select v from u order by off") == [("good 0",), ("\ufffd\ufffd",), ("good 2",), ("a\ufffdb",), ("good 4",), ("\ufffd",), ("\ufffd\ufffd\ufffd",), ("good 7",)], query("select v from u order by off"))
new_log(bad)
new_db("create table u(off integer, v blob)")
sink([], TRANSACTIONAL)
check("bytes are kept", query("select v from u order by off") == [(v,) for v in bad])
new_log(bad)
new_db(ROWS)
r = sink([], TRANSACTIONAL, 3)
check("stops", "offset 1" in r["message"] and "not UTF-8" in r["message"] and query("select off from u") == [(0,)], r)

new_log([b'{"a":1}', b'{"a":', b'{"a":2}', b'{"a":"x"}', b'{"a":null}'])
new_db("create table s(a integer not null) strict")
r = sink(["dead=dead"], ["table=s", "columns.a=$.a"])
check("not JSON, another type, null", query("select a from s") == [(1,), (2,)] and r["poisoned"] == "3", r)
# a number keeps its digits, or becomes one of the column's type; an integer that would lose digits,
# and what is out of the type's range, is refused
numbers = ["1", "-0.5", "12345678901234567.89", "9007199254740993", "36893488147419103232", "1e400"]
real = [1.0, -0.5, 12345678901234568.0, 36893488147419103232.0]
whole_numbers = [1, -0.5, 12345678901234568, 9007199254740993, 36893488147419103232.0]
plain = [int(n) if n in ("1", "9007199254740993") else n for n in numbers]
for kind, kept in (("text", numbers), ("", plain), ("real", real), ("numeric", whole_numbers),
                   ("integer", whole_numbers)):
    new_log([b'{"a":%s}' % n.encode() for n in numbers])
    new_db("create table n(a %s)" % kind)
    r = sink(["dead=dead"], ["table=n", "columns.a=$.a"])
    got = query("select a from n order by rowid")
    refused = len(numbers) - len(kept)
    good = got == [(v,) for v in kept] and len(dead()) == refused
    check("numbers in a column " + kind, good, got)
new_log([b"a", b"b", b"a", b"c"])
new_db("create table q(v text unique)")
r = sink(["dead=dead"], ["table=q", "columns.v=value"])
check("unique", query("select v from q order by v") == [("a",), ("b",), ("c",)] and r["poisoned"] == "1", r)
# a foreign key that is only checked at the commit: the record is found by halves
new_log([b"%d" % (i % 9) for i in range(300)])
new_db("create table p(i integer primary key); insert into p values(0),(1),(2),(3),(4),(5),(6),(7); "
       "create table u(off integer, v integer references p(i) deferrable initially deferred)")
r = sink(["dead=dead", "batch=100"], TRANSACTIONAL + ["setup=PRAGMA foreign_keys=ON"])
check("deferred", query("select count(*), sum(v=8) from u") == [(267, 0)] and r["poisoned"] == "33", r)

# ---- upsert by a key of one's own
new_log([b'{"k":%d,"v":%d}' % (i % 10, i) for i in range(1000)])
new_db("create table k(k integer primary key, v integer)")
sink(["batch=300"], ["table=k", "kind=idempotent", "conflict=k", "on_conflict=update", "columns.k=$.k", "columns.v=$.v"])
check("upsert", query("select k, v from k order by k") == [(i, 990 + i) for i in range(10)], query("select * from k"))

# ---- wrong settings
for settings, text in ((["table=u", "columns.v=valeu"], "valeu"), (["table=u", "columns.v=$.["], "a name is empty"), (["table=u"], "columns.*"),
                       (["table=u", "kind=idempotent", "columns.v=value"], "needs a column that is"), (["table=u", "conflict=v", "columns.v=value"], "idempotent"),
                       (["table=u", "kind=idempotent", "conflict=w", "columns.v=value"], "not among columns"), (["tabel=u"], "tabel")):
    check("settings", text in sink([], settings, 2)["errors"], settings)

# ---- the target: missing, not a database, forbidden, locked, full
new_log(values)
new_db("create table other(a)")
check("no table", "no table \"u\"" in sink([], TRANSACTIONAL, 3)["message"])
new_db("create table u(off integer)")
check("no column", "no column \"v\"" in sink([], TRANSACTIONAL, 3)["message"])
for end in ("", "-wal", "-shm"):
    if os.path.exists(db + end):
        os.unlink(db + end)
check("no file", "unable to open" in sink([], TRANSACTIONAL, 3)["message"])
sink([], TRANSACTIONAL + ["setup=create table if not exists u(off integer, v text)"])
whole("set up", "u")
with open(db, "wb") as f:
    f.write(b"this is no database, but long enough to have a header" * 100)
check("no database", "not a database" in sink([], TRANSACTIONAL, 3)["message"])

new_log(values)
new_db(ROWS)
holder = sqlite3.connect(db, timeout=20)
holder.execute("PRAGMA journal_mode=wal")
holder.execute("BEGIN IMMEDIATE")
r = sink(["batch=1000", "limit_ms=700"], TRANSACTIONAL + ["busy_timeout=100ms"], 4)
check("locked", "locked" in r["message"] and int(r["retries"]) > 1, r)
holder.rollback()
holder.close()
sink([], TRANSACTIONAL)
whole("after the lock", "u")

# position moved by someone else, in the middle
new_log(values)
new_db(ROWS)
r = sink(["batch=1000", "at=target-committed:2:python3 -c \"import sqlite3; c=sqlite3.connect('%s'); c.execute('update pawl_positions set position=1500'); "
          "c.execute('delete from u where off>=1500'); c.commit()\"" % db], TRANSACTIONAL)
whole("moved by hand", "u")
check("moved by hand", r["retries"] == "1" and "someone else" in r["errors"], r)

# restored from a backup: what it lost comes again
new_log(values)
new_db(ROWS)
sink(["batch=1000", "at=log-advanced:2:cp '%s' '%s.old'; cp '%s-wal' '%s.old-wal' 2>/dev/null || true" % (db, db, db, db)], TRANSACTIONAL)
for end in ("", "-wal", "-shm"):
    if os.path.exists(db + end):
        os.unlink(db + end)
os.rename(db + ".old", db)
if os.path.exists(db + ".old-wal"):
    os.rename(db + ".old-wal", db + "-wal")
r = sink(["batch=1000"], TRANSACTIONAL)
whole("restored", "u")
check("restored", r["redelivered"] == "3000", r)

# a record as large as the log takes them
new_log([b"x" * (16 << 20), b"small"])
new_db(ROWS)
sink([], TRANSACTIONAL)
check("16 MiB", query("select length(v) from u order by off") == [(16 << 20,), (5,)])

# ---- a full disk
if os.geteuid() == 0 and sh("losetup", "-f").returncode == 0:
    image, mnt = os.path.join(top, "disk"), os.path.join(top, "mnt")
    os.mkdir(mnt)
    with open(image, "wb") as f:
        f.truncate(8 << 20)
    if sh("mkfs.ext4", "-q", "-b", "4096", "-O", "^has_journal", image).returncode == 0 and sh("mount", "-o", "loop", image, mnt).returncode == 0:
        try:
            small = os.path.join(mnt, "x.db")
            db, RAW = small, "path=" + small
            big = [b"%d " % i + b"y" * 500 for i in range(20000)]
            new_log(big)
            new_db(ROWS)
            with open(os.path.join(mnt, "ballast"), "wb") as f:
                f.write(b"0" * (1 << 20))
            r = sink(["batch=1000", "limit_ms=1500"], TRANSACTIONAL, 4)
            check("full", "full" in r["message"] or "I/O" in r["message"], r)
            n = query("select count(*) from u")[0][0]
            check("full", 0 < n < 20000, n)
            query("select 1")
            db = os.path.join(top, "moved.db")
            for end in ("", "-wal"):
                if os.path.exists(small + end):
                    shutil.copy(small + end, db + end)
            RAW = "path=" + db
            sink(["batch=1000"], TRANSACTIONAL)
            whole("after the full disk", "u", big)
        finally:
            sh("umount", mnt)
    else:
        print("no loop mount here: the full disk is passed over")
else:
    print("not root, or no loop devices: the full disk is passed over")
shutil.rmtree(top)
print("all well")
PY
