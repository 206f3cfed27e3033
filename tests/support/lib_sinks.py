# SPDX-License-Identifier: Apache-2.0
"""What the tests of database sinks share. They run as `python3 - PAWL PROG_SINK` with PYTHONPATH set to this folder, after lib_postgres.sh."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

pawl, prog = sys.argv[1:3]
top = tempfile.mkdtemp(prefix="pawl-sinks-")
log = os.path.join(top, "log")
raw_file = os.path.join(top, "raw")
server = "bash '%s/lib_postgres.sh' " % os.environ["PYTHONPATH"]
KILLED = -signal.SIGKILL


def sh(*args, data=None):
    return subprocess.run(args, input=data, capture_output=True)


def check(what, condition, detail=None):
    if not condition:
        text = detail if isinstance(detail, str) else repr(detail)
        sys.exit(
            "FAILED: %s: %s"
            % (what, text if len(text) < 3000 else text[:1500] + " ... " + text[-1500:])
        )


def new_log(values, partitions=1):
    shutil.rmtree(log, ignore_errors=True)
    check("init", sh(pawl, "init", log, "--segment-size", "64M").returncode == 0)
    for name, n in (("in", partitions), ("dead", 1)):
        check(
            "create",
            sh(pawl, "stream", "create", log, name, "--partitions", str(n)).returncode == 0,
        )
    with open(raw_file, "wb") as f:
        f.writelines(v + b"\n" for v in values)
    r = sh(pawl, "ingest", log, "in", raw_file)
    check("ingest", r.returncode == 0, r.stderr)


def sink(kind, options, settings, expect=0, name="to-db"):
    """One run of prog_sink: its status as a dict. expect None: any end."""
    r = sh(
        prog,
        log,
        name,
        "in",
        "postgres",
        *options,
        ":",
        "conninfo=host=%s user=%s dbname=postgres" % (os.environ["PGHOST"], os.environ["PGUSER"]),
        "kind=" + kind,
        *settings
    )
    out = dict(
        line.split("=", 1) for line in r.stdout.decode(errors="replace").splitlines() if "=" in line
    )
    out["exit"], out["errors"] = r.returncode, r.stderr.decode(errors="replace")
    if "in this build" in out["errors"]:
        print("SKIPPED: built without libpq (libpq-dev)")
        sys.exit(77)
    if expect is not None and r.returncode != expect:
        sys.exit(
            "FAILED: exit %d instead of %d: %r\n%s\n%s"
            % (
                r.returncode,
                expect,
                [kind, options, settings],
                {k: v for k, v in out.items() if k != "errors"},
                out["errors"][-1500:],
            )
        )
    return out


def psql(*statements, expect=0):
    """Rows of the last statement, as lists of texts."""
    args = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-F", "\x1f", "-R", "\x1e"]
    for s in statements:
        args += ["-c", s]
    r = sh(*args)
    check("psql %r" % (statements,), expect is None or r.returncode == expect, r.stderr.decode())
    text = r.stdout.decode().rstrip("\n").rstrip("\x1e")
    return [row.split("\x1f") for row in text.split("\x1e")] if text else []


def one(statement):
    return psql(statement)[0][0]


def load_raw():
    """The raw file as table raw(off, line)."""
    psql(
        "drop table if exists raw",
        "create table raw(off bigint generated always as identity (minvalue 0 start 0), line text)",
        "\\copy raw(line) from '%s' with (format csv, delimiter E'\\x01', quote E'\\x02')"
        % raw_file,
    )


def differences(table, expected):
    """Rows that the table lacks, and that it has too many, against a query over raw."""
    lost, doubled = psql(
        "with e as (%s), t as (select * from %s) select (select count(*) from (select * from e except all select * from t) x), "
        "(select count(*) from (select * from t except all select * from e) y)" % (expected, table)
    )[0]
    return int(lost), int(doubled)


def dead():
    return [
        json.loads(line)
        for line in sh(pawl, "cat", log, "dead", "--format", "json").stdout.splitlines()
    ]


def done():
    shutil.rmtree(top)
    print("all well")
