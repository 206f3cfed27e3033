# SPDX-License-Identifier: Apache-2.0
"""The three guarantees, seen: the same records into PostgreSQL and SQLite while either side is killed with -9, and how many rows were lost or doubled.

guarantees.py PAWL PROG_SINK [ROUNDS], with a server that lib_postgres.sh started. Exit 1 if exactly-once lost or doubled anything, or if the
kills showed no loss with at-most-once or no double with at-least-once: then they were none."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile

pawl, prog = sys.argv[1:3]
rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 4
here = os.path.dirname(os.path.abspath(__file__))
top = tempfile.mkdtemp(prefix="pawl-guarantees-")
log, db, raw = (os.path.join(top, n) for n in ("log", "x.db", "raw"))
random.seed(int(os.environ.get("PAWL_TORTURE_SEED", "1")))
BATCH = 50
records = BATCH * (15 * rounds + 10)  # a round ends within 15 batches
POINTS = {"two-phase": ["batch-written", "batch-prepared", "batch-decided", "batch-committed"]}
OTHERS = ["batch-begun", "batch-written", "target-committed", "log-advanced"]


def run(*args):
    return subprocess.run(args, capture_output=True)


def psql(sql):
    while True:  # the server may be coming up again
        r = run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql)
        if r.returncode == 0:
            return r.stdout.decode().strip()
        if (
            b"connect" not in r.stderr
            and b"starting up" not in r.stderr
            and b"recovery" not in r.stderr
            and b"terminat" not in r.stderr
        ):
            sys.exit(r.stderr.decode())


def new_log():
    shutil.rmtree(log, ignore_errors=True)
    for args in (("init", log), ("stream", "create", log, "in")):
        if run(pawl, *args).returncode != 0:
            sys.exit("pawl %s failed" % args[0])
    with open(raw, "w") as f:
        f.writelines('{"n":%d,"text":"row %d"}\n' % (i, i) for i in range(records))
    if run(pawl, "ingest", log, "in", raw).returncode != 0:
        sys.exit("pawl ingest failed")


class Postgres:
    name = "PostgreSQL"

    type = "postgres"
    settings = ["conninfo=host=%s user=postgres dbname=postgres" % os.environ.get("PGHOST")]

    def fresh(self):
        psql(
            "drop schema public cascade; create schema public; create table rows(id text unique, n int, text text)"
        )

    def count(self):
        psql("create table raw(line text)")
        r = run(
            "psql",
            "-XAtq",
            "-c",
            "\\copy raw from '%s' with (format csv, delimiter E'\\x01', quote E'\\x02')" % raw,
        )
        if r.returncode != 0:
            sys.exit(r.stderr.decode())
        sql = (
            "with e as (select (line::jsonb->>'n')::int, line::jsonb->>'text' from raw), t as (select n, text from rows) "
            "select (select count(*) from (select * from e except all select * from t) x) || ' ' || "
            "(select count(*) from (select * from t except all select * from e) y)"
        )
        return [int(n) for n in psql(sql).split()]


class SQLite:
    name = "SQLite"
    type = "sqlite"
    settings = ["path=" + db]

    def fresh(self):
        for end in ("", "-wal", "-shm"):
            if os.path.exists(db + end):
                os.unlink(db + end)
        c = sqlite3.connect(db)
        c.execute("create table rows(id text unique, n integer, text text)")
        c.commit()
        c.close()

    def count(self):
        c = sqlite3.connect(db)
        rows = c.execute("select n, text from rows").fetchall()
        c.close()
        expected = [(i, "row %d" % i) for i in range(records)]
        lost = len(set(expected) - set(rows))
        return [lost, len(rows) - (records - lost)]


def server(what):
    return "bash '%s/../support/lib_postgres.sh' %s" % (here, what)


def deliver(target, guarantee, kind):
    """A round: the server goes at the second visit of a point, a session of it at the fifth, the pipeline at the eighth."""
    target.fresh()
    new_log()
    settings = target.settings + [
        "kind=" + kind,
        "table=rows",
        "columns.n=$.n",
        "columns.text=$.text",
    ]
    settings += ["columns.id=id"] if kind == "idempotent" else []
    died = {"server": 0, "session": 0, "pipeline": 0}
    points = POINTS[kind] if guarantee == "exactly-once" and kind in POINTS else OTHERS
    base = ["guarantee=" + guarantee, "batch=%d" % BATCH, "quiet=1", "limit_ms=120000"]
    for i in range(rounds):
        whom = {"pipeline": "kill -9 $PPID"}
        if target.name == "PostgreSQL":
            whom = {"server": server("restart"), "session": server("backend"), **whom}
        at = [
            "at=%s:%d:%s" % (points[(i + k) % len(points)], 2 + 3 * k + random.randrange(2), c)
            for k, c in enumerate(whom.values())
        ]
        r = run(prog, log, "to-db", "in", target.type, *base, *at, ":", *settings)
        if r.returncode != -signal.SIGKILL:
            sys.exit(
                "it was not killed: %d\n%s\n%s"
                % (r.returncode, r.stdout.decode(), r.stderr.decode())
            )
        for name in whom:
            died[name] += 1
    r = run(prog, log, "to-db", "in", target.type, *base, ":", *settings)
    if r.returncode != 0:
        sys.exit(
            "it did not come to its end: %d\n%s\n%s"
            % (r.returncode, r.stdout.decode(), r.stderr.decode())
        )
    return died, *target.count()


failed = False
print(
    "%d records, batches of %d, kill -9 of the pipeline, of the server with all its processes, and of one session of it\n"
    % (records, BATCH)
)
print(
    "%-11s %-14s %-14s %8s %7s %8s %7s %8s"
    % ("target", "guarantee", "kind", "pipeline", "server", "session", "lost", "doubled")
)
for target in (Postgres(), SQLite()):
    kinds = (
        ["transactional", "two-phase", "idempotent"]
        if target.name == "PostgreSQL"
        else ["transactional", "idempotent"]
    )
    for guarantee, kind in [("at-most-once", kinds[0]), ("at-least-once", kinds[0])] + [
        ("exactly-once", k) for k in kinds
    ]:
        died, lost, doubled = deliver(target, guarantee, kind)
        print(
            "%-11s %-14s %-14s %8d %7d %8d %7d %8d"
            % (
                target.name,
                guarantee,
                kind,
                died["pipeline"],
                died["server"],
                died["session"],
                lost,
                doubled,
            ),
            flush=True,
        )
        well = {
            "at-most-once": lost > 0 and doubled == 0,
            "at-least-once": lost == 0 and doubled > 0,
        }.get(guarantee, (lost, doubled) == (0, 0))
        if not well:
            print("  this is not what %s promises, or the kills met nothing" % guarantee)
            failed = True
shutil.rmtree(top)
sys.exit(1 if failed else 0)
