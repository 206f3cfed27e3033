#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hostile records through every source into every processor and sink, with nothing said about
on_error: no part may stop, and each good record between the hostile ones arrives exactly once, in
every sink, although the log is recycled meanwhile. What the parts refuse is counted in the status.

The table HOSTILE has a label and the bytes of each record. A record that costs more than itself is
found by its label: hostile_records.py LABEL sends that one alone."""
import collections
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time

PAWL = os.environ["PAWL_COMMAND"]
END = time.monotonic() + 400
RECORD_MAX = 262144 - 80 - 4096 - 16  # of a log with segments of 1M

HOSTILE = [
    ("empty", b""),
    ("NUL", b"a\0b\0"),
    ("a NUL alone", b"\0"),
    ("not UTF-8", b"\xff\xfe\x80\xc0\xaf"),
    ("half a surrogate in UTF-8", b"\xed\xa0\x80"),
    ("half a surrogate in JSON", b'{"n":1,"word":"\\ud800"}'),
    ("a NUL in JSON", b'{"n":1,"word":"a\\u0000b"}'),
    ("a number that no type holds", b'{"n":1e999999,"word":"x"}'),
    ("an integer of 400 digits", b'{"n":' + b"9" * 400 + b',"word":"x"}'),
    ("an integer beyond 64 bits", b'{"n":18446744073709551616,"word":"x"}'),
    ("a text where a number belongs", b'{"n":"x","word":3}'),
    ("JSON 100,000 levels deep", b"[" * 100000),
    ("JSON that ends too early", b'{"n":1,"word":"'),
    ("a name of 60 KB", b'{"' + b"k" * 60000 + b'":1}'),
    ("a key of 70 KB", b'{"n":1,"word":"' + b"w" * 70000 + b'"}'),
    ("control characters, 65 KB", bytes(range(1, 10)) * 7280),
    ("quotes, 60 KB", b'"' * 60000),
    ("a regular expression's worst", b"regex:" + b"a" * 40 + b"!"),
    ("a terminal's escapes", b"\x1b]0;x\x07\x1b[2J\x1b[31m\r"),
    ("SQL", b"'); DROP TABLE t; --"),
    ("COPY's end", b"\\."),
    ("COPY's escapes", b"\\N\t\\b\\x\\"),
    ("as long as the log takes", b"x" * RECORD_MAX),
    ("a byte longer", b"x" * (RECORD_MAX + 1)),
    ("JSON as long as the log takes", b'{"n":1,"word":"' + b"\x01" * 3000 + b"w" * 200000 + b'"}'),
    ("megabytes", b"m" * 3000000),
    ("the year 9999", b"<13>1 9999-12-31T23:59:59.999999Z h a p m - x"),
    ("the year 0", b"<13>1 0000-01-01T00:00:00Z h a p m - x"),
    ("a priority of 10 digits", b"<1234567890>x"),
    ("structured data of 60 KB", b"<13>1 - h a p m [x y=\"" + b"z" * 60000 + b"\"] t"),
    ("a count that is a lie", b"16777215 <13>x"),
    ("a number alone", b"184467440737095516150 x"),
    ("nested quotes", b'{"n":1,"word":"' + b'\\"' * 40000 + b'"}'),
    ("white space, 50 KB", b" " * 50000),
    ("a carriage return", b"a\rb\r"),
    ("two byte order marks", b"\xef\xbb\xbf\xef\xbb\xbf{}"),
]

GOOD = re.compile(r"good-([a-z]+)-(\d+);")
SOURCES = ["file", "dir", "stdin", "numbered", "plain", "sysheaders", "sysjson", "sysraw", "sysudp"]


def good(source, n):
    return b'{"n":%d,"word":"good-%s-%d;"}' % (n, source.encode(), n)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def pipeline(work, ports, postgres):
    tcp = {s: "127.0.0.1:%d" % p for s, p in ports.items()}
    sources = {
        "file": {"type": "file", "path": work + "/in"},
        "dir": {"type": "dir", "path": work + "/ins", "glob": "*.log"},
        "stdin": {"type": "stdin"},
        "numbered": {"type": "socket", "address": tcp["numbered"]},
        "plain": {"type": "socket", "protocol": "plain", "address": "unix:" + work + "/plain"},
        "sysheaders": {"type": "syslog", "transport": "tcp", "address": tcp["sysheaders"]},
        "sysjson": {"type": "syslog", "transport": "tcp", "format": "json",
                    "address": tcp["sysjson"]},
        "sysraw": {"type": "syslog", "transport": "tcp", "format": "raw",
                   "address": tcp["sysraw"]},
        "sysudp": {"type": "syslog", "transport": "udp", "format": "json",
                   "address": tcp["sysudp"]},
    }
    for s in sources.values():
        s["to"] = "all"
    processors = {
        "json": {"type": "json", "from": "all", "to": "picked",
                 "fields": {"n": "n", "word": "word"}, "key": "word"},
        "regex": {"type": "regex", "from": "all", "to": "parsed", "rest": "unparsed",
                  "pattern": r"(?<word>good-[a-z]+-\d+;)|regex:(?<evil>(a+)+)$", "key": "word"},
        "filter": {"type": "filter", "from": "all", "to": "kept", "of": "json:word",
                   "match": "good-"},
        "route": {"type": "route", "from": "all", "by": "json:n", "routes": {"1": "ones"},
                  "otherwise": "others"},
        "dedup": {"type": "dedup", "from": "all", "to": "once", "id": "value", "window": "100"},
        "exec": {"type": "exec", "from": "all", "to": "piped", "command": "cat"},
    }
    streams = ["all", "picked", "parsed", "unparsed", "kept", "ones", "others", "once", "piped"]
    sinks = {"out-" + s: {"type": "file", "from": s, "directory": work + "/out", "format": "json"}
             for s in streams}
    sinks["text"] = {"type": "file", "from": "all", "directory": work + "/out", "format": "text"}
    sinks["zip"] = {"type": "file", "from": "all", "directory": work + "/out", "format": "json",
                    "compress": "gzip", "name": "zip"}
    sinks["program"] = {"type": "exec", "from": "all", "command": "cat >>" + work + "/got"}
    sinks["printed"] = {"type": "stdout", "from": "all"}
    for name, columns, strict in (("bytes", {"v": "value"}, "v BLOB"),
                                  ("typed", {"n": "$.n", "word": "$.word"},
                                   "n INTEGER, word TEXT UNIQUE")):
        sinks["lite-" + name] = {
            "type": "sqlite", "from": "all", "path": work + "/db-" + name, "table": "t",
            "columns": dict(columns, id="id"),
            "setup": "CREATE TABLE IF NOT EXISTS t(%s, id TEXT) STRICT" % strict}
    sinks["lite-made"] = {
        "type": "sqlite", "from": "all", "path": work + "/db-made", "table": "t",
        "columns": {"word": "value", "id": "id"},
        "setup": "CREATE TABLE IF NOT EXISTS t(word TEXT, n ANY GENERATED ALWAYS AS "
                 "(json_extract(word, '$.n')) STORED, id TEXT) STRICT"}
    if postgres:
        for name, columns, kind in (("bytes", {"v": "value"}, "transactional"),
                                    ("text", {"v": "value"}, "two-phase"),
                                    ("typed", {"n": "$.n", "word": "$.word", "j": "$"},
                                     "transactional")):
            sinks["pg-" + name] = {
                "type": "postgres", "from": "all", "conninfo": "", "table": "t_" + name,
                "kind": kind, "columns": dict(columns, id="id")}
    with open(work + "/p.yaml", "w", encoding="utf-8") as out:
        json.dump({"log": {"directory": work + "/log", "segment_size": "1M", "memory": "16M",
                           "retention": {"consumed": "true"}},
                   "streams": streams, "sources": sources, "processors": processors,
                   "sinks": sinks}, out)
    return sources, processors, sinks


# ---- the senders

class Numbered:
    """Sends lines with numbers until all are acknowledged."""

    def __init__(self, port):
        self.port, self.lines = port, []

    def add(self, line):
        self.lines.append(line)

    def finish(self):
        acked = 0
        while acked < len(self.lines):
            if time.monotonic() > END:
                raise AssertionError("numbered: only %d are acknowledged" % acked)
            try:
                with socket.create_connection(("127.0.0.1", self.port)) as s:
                    s.settimeout(30)
                    s.sendall(b"PAWL1 sender\n")
                    rest = b""
                    for n in range(acked + 1, len(self.lines) + 1):
                        s.sendall(b"%d %s\n" % (n, self.lines[n - 1]))
                    while acked < len(self.lines):
                        got = s.recv(65536)
                        if not got:
                            break
                        *lines, rest = (rest + got).split(b"\n")
                        for line in lines:
                            word, n = line.split(b" ", 1)
                            assert word in (b"OK", b"ACK"), line
                            acked = max(acked, int(n))
            except OSError:
                time.sleep(0.02)


def dial(work, ports, source):
    for _ in range(6000):
        try:
            if source == "plain":
                s = socket.socket(socket.AF_UNIX)
                s.connect(work + "/plain")
                return s
            return socket.create_connection(("127.0.0.1", ports[source]))
        except OSError:
            time.sleep(0.01)
    raise AssertionError("no connection to " + source)


def send_all(work, ports, run, records):
    """Every source gets: a good record, a hostile one, a good one, ..."""
    numbered = Numbered(ports["numbered"])
    lined = {s: dial(work, ports, s) for s in ("plain", "sysheaders", "sysjson", "sysraw")}
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.connect(("127.0.0.1", ports["sysudp"]))
    with open(work + "/in", "ab") as file, open(work + "/ins/x.log", "ab") as of_dir:
        for i in range(len(records) + 1):
            for source in SOURCES:
                line = good(source, i)
                bad = records[i][1] if i < len(records) else None
                if source in ("file", "dir"):
                    out = file if source == "file" else of_dir
                    out.write(line + b"\n" + (bad + b"\n" if bad is not None else b""))
                    out.flush()
                elif source == "stdin":
                    run.stdin.write(line + b"\n" + (bad + b"\n" if bad is not None else b""))
                    run.stdin.flush()
                elif source == "numbered":
                    numbered.add(line)
                    if bad is not None:
                        numbered.add(bad.replace(b"\n", b" "))
                elif source == "plain":
                    lined[source].sendall(line + b"\n" + (bad + b"\n" if bad is not None else b""))
                elif source == "sysudp":
                    udp.send(b"<13>" + line)
                    if bad is not None and len(bad) < 65000:
                        udp.send(bad if bad.startswith(b"<") else b"<13>" + bad)
                else:
                    lined[source].sendall(b"%d <13>%s" % (len(line) + 4, line))
                    if bad is not None and b"lie" not in records[i][0].encode():
                        bad = bad if bad.startswith(b"<") else b"<13>" + bad
                        lined[source].sendall(b"%d %s" % (len(bad), bad))
            time.sleep(0.01)  # datagrams that come faster than they are read are lost
    numbered.finish()
    for s in lined.values():
        s.close()
    udp.close()
    run.stdin.close()


# ---- what came of it

def status(work):
    out = subprocess.run([PAWL, "status", work + "/log", "--json"], capture_output=True,
                         check=False)
    return out.stdout.decode(errors="replace")


def found(text):
    """In how many lines each good record is."""
    count = collections.Counter()
    for line in text.split("\n"):
        count.update(set(GOOD.findall(line)))
    return count


def texts(work, sinks, postgres, printed):
    """What each sink has got, as text."""
    for name, sink in sinks.items():
        if sink["type"] == "file":
            text = b""
            for f in sorted(os.listdir(work + "/out")):
                stem = "%s-%s-" % (sink.get("name", name), sink["from"])
                if f.startswith(stem) and not f.startswith("."):
                    with open(work + "/out/" + f, "rb") as got:
                        part = got.read()
                    text += subprocess.run(["gzip", "-dc"], input=part, capture_output=True,
                                           check=True).stdout if f.endswith(".gz") else part
            yield name, text.decode(errors="replace")
        elif sink["type"] == "exec":
            with open(work + "/got", "rb") as got:
                yield name, got.read().decode(errors="replace")
        elif sink["type"] == "stdout":
            with open(printed, "rb") as got:
                yield name, got.read().decode(errors="replace")
        elif sink["type"] == "sqlite":
            column = "v" if name == "lite-bytes" else "word"
            db = sqlite3.connect(sink["path"])
            db.text_factory = bytes
            rows = [r[0] for r in db.execute("SELECT %s FROM t" % column) if r[0] is not None]
            yield name, "\n".join(r.decode(errors="replace") for r in rows)
            db.close()
        elif postgres:
            column = {"pg-bytes": "encode(v,'escape')", "pg-text": "v", "pg-typed": "word"}[name]
            out = subprocess.run(["psql", "-qAtc", "SELECT %s FROM %s" % (column, sink["table"])],
                                 capture_output=True, check=True)
            yield name, out.stdout.decode(errors="replace")


# Sources whose values are the JSON object itself, so that its members can be picked.
AS_JSON = {"file", "dir", "stdin", "numbered", "plain", "sysheaders"}
PICKING = {"out-picked", "out-kept", "lite-typed", "pg-typed"}


def wanted(name, count):
    if name in ("out-unparsed", "out-ones"):
        return None
    of = AS_JSON if name in PICKING or name == "out-others" else SOURCES
    # route sends number 1 elsewhere, and refuses what is no JSON; syslog's own JSON has no n
    if name in ("out-others", "lite-made"):
        of = set(AS_JSON) | {"sysjson", "sysudp"}
    return {(s, str(n)) for s in of for n in range(count)
            if not (name == "out-others" and n == 1 and s in AS_JSON)}


def judge(work, sinks, postgres, printed, count, udp_lost):
    faults = []
    for name, text in texts(work, sinks, postgres, printed):
        want, got = wanted(name, count), found(text)
        if want is None:
            continue
        lost = sorted(w for w in want if got[w] == 0 and not (udp_lost and w[0] == "sysudp"))
        more = sorted(g for g, n in got.items() if n > 1)
        if lost or more:
            faults.append("%s: %d lost %s, %d doubled %s" % (name, len(lost), lost[:4], len(more),
                                                             more[:4]))
    return faults


def main():
    only = sys.argv[1:]
    records = [r for r in HOSTILE if not only or r[0] in only]
    postgres = "PGHOST" in os.environ
    work = tempfile.mkdtemp(prefix="hostile_records.", dir="/tmp")
    ports = {s: free_port() for s in ("numbered", "sysheaders", "sysjson", "sysraw", "sysudp")}
    for d in ("/ins", "/out"):
        os.mkdir(work + d)
    if postgres:
        subprocess.run(["psql", "-qc", "CREATE TABLE t_bytes(v bytea, id text);"
                        "CREATE TABLE t_text(v text, id text);"
                        "CREATE TABLE t_typed(n integer, word text, j jsonb, id text)"],
                       check=True)
    _, _, sinks = pipeline(work, ports, postgres)
    subprocess.run([PAWL, "check", "--quiet", work + "/p.yaml"], check=True)
    printed = work + "/printed"
    run = None
    try:
        with open(printed, "wb") as out, open(work + "/errors", "wb") as err:
            run = subprocess.Popen([PAWL, "run", work + "/p.yaml"], stdin=subprocess.PIPE,
                                   stdout=out, stderr=err)
        send_all(work, ports, run, records)
        faults = ["not all came in time"]
        while faults and time.monotonic() < END and run.poll() is None:
            time.sleep(0.3)
            now = status(work)
            faults = judge(work, sinks, postgres, printed, len(records) + 1,
                           "datagrams dropped" in now)
        last = status(work)
        failed = re.findall(r'"name": ?"([^"]*)"[^{}]*"state": ?"failed"', last)
        failed += re.findall(r'"state": ?"failed"', last) if not failed else []
        if run.poll() is not None:
            faults.append("pawl run has ended with %d" % run.returncode)
        if failed:
            faults.append("failed: %s" % failed)
        if not only and "poisoned" not in last:
            faults.append("the status doesn't count what was refused")
        run.terminate()
        code = run.wait(120)
        if code != 0:
            faults.append("pawl run ended with %d" % code)
        for check in ("verify", "audit"):
            done = subprocess.run([PAWL, check, work + "/log"], capture_output=True, check=False)
            if done.returncode != 0:
                faults.append("%s: %s" % (check, done.stdout[-500:] + done.stderr[-500:]))
        with open(work + "/errors", "rb") as err:
            said = err.read()
        if said.count(b"\n") > 400:
            faults.append("%d messages: they aren't limited" % said.count(b"\n"))
        if faults:
            print("FAILED:\n  " + "\n  ".join(faults))
            print(last[-3000:])
            print(said[-6000:].decode(errors="backslashreplace"))
            return 1
        print("%d hostile records through %d sources into 6 processors and %d sinks: every good "
              "record came once" % (len(records), len(SOURCES), len(sinks)))
        return 0
    finally:
        if run is not None and run.poll() is None:
            run.kill()
            run.wait()
        if "KEEP" not in os.environ:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
