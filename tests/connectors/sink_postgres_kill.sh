#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test-label: slow test-timeout: 900 The PostgreSQL sink of each kind while the pipeline, the
# server, or one session of the server is killed with -9: at every named point, and at random.
# Afterwards the table is what SQL makes of the raw file: no row is missing, none is there twice.
set -u
here=$(cd "$(dirname "$0")" && pwd)
prog=$(dirname "$1")/tests/prog_sink
if [ ! -x "$prog" ]; then echo "SKIPPED: no test programs (libcmocka-dev)"; exit 77; fi
. "$here/../support/lib_postgres.sh"
pg_new
PYTHONPATH=$here/../support PYTHONDONTWRITEBYTECODE=1 python3 - "$1" "$prog" <<'PY'
import random
from lib_sinks import *

ROUNDS = int(os.environ.get("PAWL_KILLS", "12"))
COLUMNS = ["columns.off=offset", "columns.n=$.n", "columns.s=$.s", "columns.line=value"]
EXPECTED = "select off, (line::jsonb->>'n')::int, line::jsonb->>'s', line from raw"
KINDS = {"transactional": ("transactional", ["table=u"]), "two-phase": ("two-phase", ["table=u"]),
         "conflict": ("idempotent", ["table=t", "columns.id=id"]), "merge": ("idempotent", ["table=t", "columns.id=id", "upsert=merge"])}
POINTS = ["sink-opened", "sink-recovered", "batch-begun", "batch-written"]
MORE = {"two-phase": ["batch-prepared", "batch-decided", "batch-committed", "batch-finished"]}
values = [b'{"n":%d,"s":"tab\\there %d \\u00e9 \\\\ ","x":[%d]}' % (i * 7, i, i % 3) for i in range(4000)]

def fresh():
    new_log(values)
    psql("drop table if exists u, t, pawl_positions", "create table u(off bigint, n int, s text, line text)",
         "create table t(id text primary key, off bigint, n int, s text, line text)")

def whole(what, kind):
    view = "u" if kind in ("transactional", "two-phase") else "(select off, n, s, line from t) q"
    lost, doubled = differences(view, EXPECTED)
    check("%s, %s: rows lost and doubled" % (what, kind), (lost, doubled) == (0, 0), (lost, doubled))
    check("nothing stays prepared", one("select count(*) from pg_prepared_xacts") == "0")
    r = sh(pawl, "audit", log)
    check("audit", r.returncode == 0, r.stdout.decode())

new_log(values)
load_raw()
hits = 0
for kind, (name, settings) in KINDS.items():
    settings = settings + COLUMNS
    for point in POINTS + MORE.get(kind, ["target-committed", "log-advanced"]):
        if kind == "merge" and point != "batch-written":
            continue
        fresh()
        n = 1 if point.startswith("sink") else 2
        r = sink(name, ["batch=900", "at=%s:%d:kill -9 $PPID" % (point, n)], settings, KILLED)
        sink(name, ["batch=900"], settings)
        whole("pipeline killed at " + point, kind)
        fresh()
        r = sink(name, ["batch=900", "at=%s:%d:%s restart" % (point, n, server)], settings)
        whole("server killed at " + point, kind)
        hits += int(r["retries"])
        # both at once: the server does not come back before the pipeline does
        fresh()
        sink(name, ["batch=900", "at=%s:%d:%s kill; kill -9 $PPID" % (point, n, server)], settings, KILLED)
        r = sink(name, ["batch=900", "at=+150:%s start" % server], settings)
        whole("both killed at " + point, kind)
        hits += int(r["retries"])
print("at points: all well; %d times tried again" % hits)
check("the server was missed", hits > 20, hits)

random.seed(int(os.environ.get("PAWL_TORTURE_SEED", "1")))
for kind, (name, settings) in KINDS.items():
    settings = settings + COLUMNS
    fresh()
    kills = {"pipeline": 0, "server": 0, "session": 0}
    for i in range(ROUNDS):
        what = random.choice(["pipeline", "pipeline", "server", "session"])
        ms = random.randrange(5, 250)
        action = {"pipeline": "kill", "server": server + "restart", "session": server + "backend"}[what]
        r = sink(name, ["batch=100", "limit_ms=100000", "at=+%d:%s" % (ms, action)], settings, None)
        check("random", r["exit"] in (0, KILLED), r)
        kills[what] += 1 if what != "pipeline" or r["exit"] == KILLED else 0
        if r["exit"] == 0 and i < ROUNDS - 1: # done already: more records come
            while sh("psql", "-XAtc", "select 1").returncode != 0:
                sh("sleep", "0.05")
    sink(name, ["batch=100"], settings)
    whole("random kills", kind)
    print(kind, kills)
done()
PY
