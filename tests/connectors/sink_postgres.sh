#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test-label: slow test-timeout: 600 The PostgreSQL sink: what columns take; each fault of the
# target, with what becomes of it (the table in connectors/postgres/link_postgres.c): a clear error
# or a documented conversion, nothing lost, nothing doubled; prepared transactions that someone
# finished, rolled back or left by hand.
set -u
here=$(cd "$(dirname "$0")" && pwd)
prog=$(dirname "$1")/tests/prog_sink
if [ ! -x "$prog" ]; then echo "SKIPPED: no test programs (libcmocka-dev)"; exit 77; fi
. "$here/../support/lib_postgres.sh"
pg_new
PYTHONPATH=$here/../support PYTHONDONTWRITEBYTECODE=1 python3 - "$1" "$prog" <<'PY'
import time
from lib_sinks import *

T = ["table=u", "columns.off=offset", "columns.v=value"]
I = ["table=t", "columns.id=id", "columns.off=offset", "columns.v=value"]
KINDS = {"transactional": T, "two-phase": T, "idempotent": I}
values = [b"line %d" % i for i in range(3000)]

def fresh(*more):
    psql("drop schema if exists public cascade", "create schema public", "create table u(off bigint, v text)",
         "create table t(id text primary key, off bigint, v text)", *more)

def whole(what, kind, n=3000):
    table = "t" if kind == "idempotent" else "u"
    got = psql("select count(*), count(distinct off), count(*) filter (where v = 'line ' || off) from " + table)[0]
    check("%s, %s" % (what, kind), got == [str(n)] * 3, got)
    check("prepared", one("select count(*) from pg_prepared_xacts") == "0")

def rows(table="u"):
    return [int(r[0]) for r in psql("select off from %s order by off" % table)]

# ---- what the columns take
doc = b'{"a":{"n":12345678901234567890123.50,"s":"x\\u00e9\\n\\t\\\\ \\"q\\"","l":[1,{"k":true}]},"i":-7,"z":null,"big":9223372036854775807}'
new_log([doc])
fresh("create domain posint as int check (value > 0)", 'create table "C""x"(k text, n numeric, nt text, s text, l jsonb, b bool, i int, z text, missing text, id text, st name, '
      'p int, o bigint, ts timestamptz, ms bigint, ns bigint, raw bytea, doc json, js jsonb, dom posint, big bigint, "odd ""name" varchar(40))')
sink("transactional", [], ['table=C"x', "columns.k=key", "columns.n=$.a.n", "columns.nt=$.a.n", "columns.s=$.a.s", "columns.l=$.a.l", "columns.b=$.a.l[1].k",
     "columns.i=$.i", "columns.z=$.z", "columns.missing=$.x.y", "columns.id=id", "columns.st=stream", "columns.p=partition", "columns.o=offset", "columns.ts=timestamp",
     "columns.ms=timestamp_ms", "columns.ns=timestamp_ns", "columns.raw=value", "columns.doc=$", "columns.js=$.a.s", "columns.dom=$.a.l[0]", "columns.big=$.big", 'columns.odd "name=header.none'])
row = psql('select k is null, n, nt, s, l, b, i, z is null, missing is null, id, st, p, o, date_trunc(\'ms\', ts) = to_timestamp(ms / 1000.0), ms = ns / 1000000, raw, doc, js, dom, big from "C""x"')[0]
check("columns", row[:9] == ["t", "12345678901234567890123.50", "12345678901234567890123.50", 'x\u00e9\n\t\\ "q"', '[1, {"k": true}]', "t", "-7", "t", "t"], row)
check("columns", row[9].endswith("-1-0-0") and row[10:15] == ["in", "0", "0", "t", "t"] and row[15] == "\\x" + doc.hex(), row)
check("columns", row[16] == doc.decode() and row[17] == '"x\u00e9\\n\\t\\\\ \\"q\\""' and row[18:] == ["1", "9223372036854775807"], row)

# ---- poison: one record of many, in each way of finding it
def poison(what, kind, table, settings, given, bad, text, setup=(), options=()):
    new_log(given)
    fresh(*setup)
    r = sink(kind, ["dead=dead", *options], settings)
    good = [i for i in range(len(given)) if i not in bad]
    check(what + ", " + kind, rows(table) == good, (rows(table), r["errors"]))
    letters = dead()
    check(what + ", " + kind, len(letters) == len(bad) and r["poisoned"] == str(len(bad)), r)
    check(what + ", " + kind, text in r["errors"], r["errors"])
    r = sink(kind, ["dead=dead", *options], settings)
    check(what + " again", r["records"] == "0" and len(dead()) == len(bad) and rows(table) == good, r)

n = [b'{"n":%d}' % i for i in range(500)]
broken = list(n)
broken[0], broken[123], broken[124], broken[499] = b'{"n":"x"}', b'{"n":', b'{"n":1e40}', b'{"n":3.5}'
for kind in KINDS:
    table = "t2" if kind == "idempotent" else "u2"
    make = ["create table u2(off bigint, n int)", "create table t2(id text primary key, off bigint, n int not null)"]
    poison("another type", kind, table, ["table=" + table, "columns.off=offset", "columns.n=$.n"] + (["columns.id=id"] if kind == "idempotent" else []),
           broken, [0, 123, 124, 499], "SQLSTATE 22", make, ["batch=200"])
poison("a check", "idempotent", "t3", ["table=t3", "columns.off=offset", "columns.n=$.n", "columns.id=id"], n, [77], "SQLSTATE 23514",
       ["create table t3(id text primary key, off bigint, n int check (n <> 77))"], ["batch=200"])
poison("a check", "transactional", "u3", ["table=u3", "columns.off=offset", "columns.n=$.n"], n, [77, 78], "SQLSTATE 23514", ["create table u3(off bigint, n int check (n not in (77, 78)))"])
poison("not null", "two-phase", "u3", ["table=u3", "columns.off=offset", "columns.n=$.m"], n[:9] + [b'{"m":1}'], list(range(9)), "SQLSTATE 23502", ["create table u3(off bigint, n int not null)"])
poison("unique", "transactional", "u3", ["table=u3", "columns.off=offset", "columns.v=value"], [b"a", b"b", b"a", b"c", b"b"], [2, 4], "SQLSTATE 23505", ["create table u3(off bigint, v text unique)"])
for kind in ("transactional", "two-phase"): # told at the end only: by halves
    poison("a deferred key", kind, "u3", ["table=u3", "columns.off=offset", "columns.n=$.n"], n, [300], "SQLSTATE 23503",
           ["create table p(i int primary key)", "insert into p select i from generate_series(0, 499) i where i <> 300",
            "create table u3(off bigint, n int references p deferrable initially deferred)"], ["batch=200"])
poison("raised by a trigger", "transactional", "u3", ["table=u3", "columns.off=offset", "columns.n=$.n"], n, [9], "SQLSTATE P0001",
       ["create table u3(off bigint, n int)", "create function no() returns trigger language plpgsql as $$begin if new.n = 9 then raise 'not nine'; end if; return new; end$$",
        "create trigger no before insert on u3 for each row execute function no()"])
poison("too large for an index", "transactional", "u3", ["table=u3", "columns.off=offset", "columns.v=value"], [b"a", b"".join(b"%032x" % (i * 7919 ** 3 % 2 ** 127) for i in range(600)), b"b"], [1],
       "SQLSTATE 54000", ["create table u3(off bigint, v text)", "create index on u3(v)"])
bad = [b"good", b"\xff\xfe", b"good", b"a\x00b", b"good", b"\xc3", b"\xed\xa0\x80", b"good"]
for kind in KINDS:
    poison("invalid UTF-8 and NUL", kind, "t" if kind == "idempotent" else "u", KINDS[kind], bad, [1, 3, 5, 6], "not UTF-8")
new_log(bad)
fresh("create table raw2(off bigint, v text, b bytea)")
sink("transactional", [], ["table=raw2", "columns.off=offset", "columns.v=value", "columns.b=value", "invalid_text=replace"])
check("replaced", [r[0] for r in psql("select v from raw2 order by off")] == ["good", "\ufffd\ufffd", "good", "a\ufffdb", "good", "\ufffd", "\ufffd\ufffd\ufffd", "good"])
check("bytes as they are", [r[0] for r in psql("select b from raw2 order by off")] == ["\\x" + v.hex() for v in bad])
new_log([b'{"s":"a\\u0000b"}', b'{"s":"\\ud800"}', b'{"s":"ok"}'])
fresh("create table j(s jsonb)")
r = sink("transactional", ["dead=dead"], ["table=j", "columns.s=$.s"])
check("what jsonb doesn't take", psql("select * from j") == [['"ok"']] and r["poisoned"] == "2", r)
r = sink("transactional", [], ["table=u", "columns.v=value", "columns.off=$.no"], 0, "other")
check("another sink of the same log", one("select count(*) from u") == "3", r)

# ---- upsert by a key of one's own: the last one counts, in a batch and across batches
new_log([b'{"k":%d,"v":%d}' % (i % 10, i) for i in range(1000)])
for how in ("conflict", "merge"):
    fresh("create table k(k int primary key, v int)")
    sink("idempotent", ["batch=300"], ["table=k", "conflict=k", "on_conflict=update", "upsert=" + how, "columns.k=$.k", "columns.v=$.v"], name=how)
    check("upsert", [[int(c) for c in r] for r in psql("select k, v from k order by k")] == [[i, 990 + i] for i in range(10)], how)
r = sink("idempotent", [], ["table=u", "columns.off=offset", "columns.v=value", "conflict=off"], 3)
check("no unique index", "SQLSTATE 42P10" in r["message"], r)

# ---- settings, and what must be looked at by someone
for settings, text in ((["table=u"], "columns.*"), (T + ["conninfo=nonsense"], "given twice"), (T + ["lock_timeout=0"], "1ms to 1h"), (["table=u", "columns.v=vlue"], "vlue"),
                       (T + ["conflict=off"], "idempotent"), (T + ["columns.a=$.x["], "[ ] needs")):
    check("settings", text in sink("transactional", [], settings, 2)["errors"], settings)
new_log(values)
fresh("create table gen(off bigint, v text generated always as ('x') stored)", "create role low login", "grant usage, create on schema public to low")
for settings, text in ((["table=nowhere", "columns.v=value"], "there is no table"), (["table=u", "columns.w=value"], 'no column "w"'), (["table=u", "schema=nope", "columns.v=value"], "nope"),
                       (["table=gen", "columns.v=value"], "generated")):
    r = sink("transactional", [], settings, 3)
    check("fatal", text in r["message"] and r["flow"] == "failed", r)
user, os.environ["PGUSER"] = os.environ["PGUSER"], "low"
for kind in KINDS:
    r = sink(kind, [], KINDS[kind], 3)
    check("permission denied", "permission denied" in r["message"] and "42501" in r["message"], r)
os.environ["PGUSER"] = "nobody_here"
r = sink("transactional", [], T, 3)
check("no such user", "28000" in r["message"], r)
os.environ["PGUSER"] = user
psql("grant insert on u to low", "grant insert, select (id) on t to low")
os.environ["PGUSER"] = "low"
for kind in KINDS:
    sink(kind, [], KINDS[kind], name="low-" + kind)
os.environ["PGUSER"] = user
check("few rights are enough", one("select count(*) from u") == "6000" and one("select count(*) from t") == "3000")
r = sink("transactional", ["limit_ms=300"], T + ["connect_timeout=200ms"], 0)
saved, os.environ["PGHOST"] = os.environ["PGHOST"], top
r = sink("transactional", ["limit_ms=300"], T, 4, "nowhere")
check("no server: waits", r["flow"] == "waiting" and int(r["retries"]) > 2, r)
os.environ["PGHOST"] = saved

# ---- several who create the same thing at once
made = ["table=made", "columns.off=offset", "columns.v=value", "setup=create table if not exists made(off bigint, v text); select pg_sleep(0.3)"]
new_log(values)
fresh()
psql("drop table if exists pawl_positions")
shutil.copytree(log, top + "/log2")
both = [subprocess.Popen([prog, at, name, "in", "postgres", ":", "conninfo=host=%s user=postgres dbname=postgres" % os.environ["PGHOST"], "kind=transactional", *made],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE) for at, name in ((log, "one"), (top + "/log2", "two"))]
told = [p.communicate()[1].decode() for p in both]
check("two setups", [p.returncode for p in both] == [0, 0] and told == ["", ""] and one("select count(*) from made") == "6000", told)
shutil.rmtree(top + "/log2")
for made, end in (("create table pawl_positions(log_id text, sink text, stream_id bigint, partition bigint, position bigint, primary key (log_id, sink, stream_id, partition))", 0),
                  ("create type pawl_positions as enum ('a')", 3)): # somebody else's program, in the middle of it
    fresh()
    holder = subprocess.Popen(["psql", "-XAtq", "-c", "begin", "-c", made, "-c", "select 'held'", "-c", "do $$begin while not exists (select from pg_locks where not granted) loop "
                               "perform pg_sleep(0.01); end loop; end$$", "-c", "commit"], stdout=subprocess.PIPE)
    holder.stdout.readline()
    r = sink("transactional", [], T, end, "third")
    check("created meanwhile", holder.wait() == 0 and (end == 0 or "pawl_positions" in r["message"]), r)
    check("created meanwhile", one("select count(*) from u") == ("3000" if end == 0 else "0"), r)
r = sink("transactional", [], T, 3, "third")
check("a type of that name", "SQLSTATE 42710" in r["message"], r)

# ---- a lock held by someone, an answer that never comes
for kind in KINDS:
    new_log(values)
    fresh()
    holder = subprocess.Popen(["psql", "-XAtq", "-c", "begin", "-c", "lock table u, t", "-c", "select 'held'", "-c", "select pg_sleep(600)"], stdout=subprocess.PIPE)
    holder.stdout.readline()
    pid = one("select pid from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()")
    r = sink(kind, ["batch=1000", "at=sink-opened:3:psql -XAtqc 'select pg_terminate_backend(%s)' >/dev/null" % pid], KINDS[kind] + ["lock_timeout=100ms"])
    holder.wait()
    whole("locked", kind)
    check("locked", int(r["retries"]) >= 2 and "55P03" in r["errors"], r)
new_log(values)
fresh()
r = sink("transactional", ["batch=1000", "limit_ms=15000", "at=batch-written:2:kill -STOP $(psql -XAtc \"select pid from pg_stat_activity where application_name = 'pawl'\") && date +%s > '" + top + "/stopped'"],
         T + ["statement_timeout=500ms", "lock_timeout=300ms"], 4)
check("a session that is stopped", "has not answered within" in r["errors"] and "still at work" in r["errors"], r)
pid = one("select pid from pg_stat_activity where application_name = 'pawl'")
os.kill(int(pid), signal.SIGCONT)
r = sink("transactional", ["batch=1000"], T)
whole("a session that was stopped", "transactional")

# ---- connection cut in the middle of COPY (a sequence remembers across the rollback that it has
# happened)
for kind in KINDS:
    new_log(values)
    table = "t" if kind == "idempotent" else "u"
    fresh("create sequence once", "create function cut() returns trigger language plpgsql as $$begin if new.off = 1500 and nextval('once') < 3 then "
          "perform pg_terminate_backend(pg_backend_pid()); end if; return new; end$$", "create trigger cut before insert on %s for each row execute function cut()" % table)
    r = sink(kind, ["batch=1000"], KINDS[kind])
    whole("cut in COPY", kind)
    check("cut in COPY", r["retries"] == "2", r)

# ---- server killed while it prepares (a deferred trigger kills its session, and the server goes
# down with it) and while it commits
for kind in ("transactional", "two-phase"):
    new_log(values)
    fresh("create function die() returns trigger language plpgsql as $$begin if (select size from pg_stat_file('%s/died', true)) is null then "
          "copy (select 1) to program 'touch %s/died; kill -9 $PPID'; perform pg_sleep(10); end if; return new; end$$" % (os.environ["PGHOST"], os.environ["PGHOST"]),
          "create constraint trigger die after insert on u deferrable initially deferred for each row when (new.off = 1500) execute function die()")
    died = os.environ["PGHOST"] + "/died"
    if os.path.exists(died):
        os.unlink(died)
    r = sink(kind, ["batch=1000"], KINDS[kind])
    check("it died", os.path.exists(died) and int(r["retries"]) > 0, r)
    whole("server killed in " + ("PREPARE" if kind == "two-phase" else "COMMIT"), kind)

# ---- the same after the commit took effect and before the answer: the session waits for a standby
# that never comes
for kind in KINDS:
    new_log(values)
    fresh()
    script = os.path.join(top, "stall")
    with open(script, "w") as f:
        f.write("""psql -XAtqc "alter system set synchronous_standby_names = 'nobody'" -c "select pg_reload_conf()"
waits() { [ "$(psql -XAtc "select count(*) from pg_stat_activity where wait_event = 'SyncRep' and application_name = '$1'")" != 0 ]; }
until waits probe; do # a commit of somebody else's waits: it is in force
    kill -0 "$probe" 2>/dev/null || { PGAPPNAME=probe psql -XAtqc "select pg_logical_emit_message(true, 'pawl', 'probe')" >/dev/null 2>&1 </dev/null & probe=$!; }
done
(until waits pawl; do sleep 0.02; done
 sed -i /nobody/d "$PG_DIR/data/postgresql.auto.conf"; %s restart) >/dev/null 2>&1 </dev/null &
""" % server)
    point = {"two-phase": "batch-decided"}.get(kind, "batch-written")
    r = sink(kind, ["batch=1000", "at=%s:2:bash %s" % (point, script)], KINDS[kind])
    whole("committed, and the answer lost", kind)
    check("answer lost", int(r["retries"]) > 0, r)
    if kind == "two-phase":
        check("it was recognised", r["redelivered"] == "0" and r["lost"] == "0", r)

# ---- prepared transactions and people
def prepared():
    return [r[0] for r in psql("select gid from pg_prepared_xacts order by gid")]

def left(point):
    new_log(values)
    fresh()
    sink("two-phase", ["batch=1000", "at=%s:2:kill -9 $PPID" % point], T, KILLED)
    check("left prepared", len(prepared()) == 1, prepared())
    return prepared()[0]

left("batch-prepared") # not decided: rolled back
r = sink("two-phase", ["batch=1000"], T)
check("undecided", r["rolled_back"] == "1", r)
whole("undecided", "two-phase")
gid = left("batch-decided") # decided: committed
r = sink("two-phase", ["batch=1000"], T)
check("decided", r["recovered"] == "1", r)
whole("decided", "two-phase")
gid = left("batch-decided") # finished by hand
psql("commit prepared '%s'" % gid)
r = sink("two-phase", ["batch=1000"], T)
whole("finished by hand", "two-phase")
check("finished by hand", r["recovered"] == "0" and r["redelivered"] == "0", r)
gid = left("batch-decided") # rolled back by hand
psql("rollback prepared '%s'" % gid)
r = sink("two-phase", ["batch=1000"], T, 3)
check("rolled back by hand", "rolled back by hand" in r["message"] and gid in r["message"], r)
r = sink("two-phase", ["batch=1000", "on_lost=redeliver"], T)
whole("delivered again", "two-phase")
check("delivered again", r["redelivered"] == "1000", r)
gid = left("batch-decided")
psql("rollback prepared '%s'" % gid)
r = sink("two-phase", ["batch=1000", "on_lost=accept"], T)
check("accepted", r["lost"] == "1000" and one("select count(*) from u") == "2000", r)
gid = left("batch-decided") # nobody can tell: the positions are gone too
psql("rollback prepared '%s'" % gid, "truncate pawl_positions")
r = sink("two-phase", ["batch=1000", "on_lost=redeliver"], T, 3)
check("nobody can tell", "can't tell" in r["message"], r)
gid = left("batch-decided") # others' prepared transactions are left alone
log_id = gid.split("-")[1]
foreign = ["pawl-%s-to-db2-1-0-0-10" % log_id, "pawl-%s-to-db-garbage" % log_id, "pawl-%s-to-db-1-0-5-3" % log_id, "mine"]
for name in foreign:
    psql("begin; insert into t values ('%s'); prepare transaction '%s'" % (name, name))
sink("two-phase", ["batch=1000"], T)
check("others are left alone", sorted(prepared()) == sorted(foreign), prepared())
for name in foreign:
    psql("rollback prepared '%s'" % name)
whole("others are left alone", "two-phase")
# one that nobody decided, with the name of a batch that is to come: rolled back, then delivered
new_log(values)
fresh()
sink("two-phase", ["batch=1000", "at=batch-finished:1:kill -9 $PPID"], T, KILLED)
psql("begin; insert into u values (-1, 'foul'); prepare transaction 'pawl-%s-to-db-1-0-1000-2000'" % json.loads(sh(pawl, "status", log, "--json").stdout)["log_id"].replace("-", ""))
r = sink("two-phase", ["batch=1000"], T)
whole("left by hand before", "two-phase")
check("left by hand before", r["rolled_back"] == "1", r)

# ---- the target restored: transactional delivers again, emptied or set back by hand
new_log(values)
fresh()
sink("transactional", ["batch=1000"], T)
psql("begin; delete from u where off >= 1200; update pawl_positions set position = 1200; commit")
r = sink("transactional", ["batch=1000"], T)
whole("set back", "transactional")
check("set back", r["redelivered"] == "1800", r)
psql("update pawl_positions set position = 4000")
check("another log's", "beyond the log's end" in sink("transactional", [], T, 3)["message"])
psql("update pawl_positions set position = 3000")
new_log(values)
fresh()
r = sink("transactional", ["batch=1000", "at=target-committed:2:psql -XAtqc \"update pawl_positions set position = 1000\" -c \"delete from u where off >= 1000\""], T)
whole("moved by someone else meanwhile", "transactional")
check("moved by someone else", "someone else" in r["errors"], r)

# ---- a record as large as the log takes them
new_log([b"x" * (16 << 20), b"small"])
for kind in KINDS:
    fresh("alter table u add b bytea", "alter table t add b bytea")
    sink(kind, [], KINDS[kind] + ["columns.b=value"], name="large-" + kind)
    check("16 MiB", psql("select length(v), length(b) from %s order by off" % KINDS[kind][0][6:]) == [[str(16 << 20)] * 2, ["5", "5"]], kind)

# ---- two-phase where the server has it switched off
new_log(values)
fresh()
sh("bash", "-c", server + "stop; PG_OPTIONS='-c max_prepared_transactions=0' " + server + "start")
r = sink("two-phase", [], T, 3)
check("switched off", "max_prepared_transactions is 0" in r["message"], r)
sink("two-phase", ["guarantee=at-least-once"], T)
whole("switched off, at least once", "two-phase")
sh("bash", "-c", server + "stop; " + server + "start")

# ---- a full disk under the target
if os.geteuid() == 0 and sh("losetup", "-f").returncode == 0:
    mnt = os.environ["PGHOST"] + "/small"
    image = os.path.join(top, "disk")
    os.mkdir(mnt)
    with open(image, "wb") as f:
        f.truncate(24 << 20)
    if sh("mkfs.ext4", "-q", "-b", "4096", image).returncode == 0 and sh("mount", "-o", "loop", image, mnt).returncode == 0:
        try:
            shutil.chown(mnt, "postgres")
            wide = [b"line %d" % i for i in range(3000)]
            for kind in KINDS:
                new_log(wide)
                fresh()
                table = "t" if kind == "idempotent" else "u"
                psql("create tablespace small location '%s'" % mnt, "alter table %s alter v set storage external" % table, "alter table %s set tablespace small" % table)
                with open(mnt + "/ballast", "wb") as f:
                    try:
                        while True:
                            f.write(b"0" * 65536)
                            f.flush()
                    except OSError:
                        pass
                r = sink(kind, ["batch=500", "limit_ms=1000"], KINDS[kind], 4)
                check("full", "53100" in r["message"], r)
                r = sink(kind, ["batch=500", "at=sink-opened:3:rm '%s/ballast'" % mnt], KINDS[kind])
                check("goes on by itself", int(r["retries"]) >= 2, r)
                whole("after the full disk", kind)
                psql("alter table %s set tablespace pg_default" % table, "drop tablespace small")
        finally:
            sh("bash", "-c", server + "kill")
            sh("umount", mnt)
    else:
        print("no loop mount here: the full disk is passed over")
else:
    print("not root, or no loop devices: the full disk is passed over")
done()
PY
