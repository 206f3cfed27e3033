# SPDX-License-Identifier: Apache-2.0
# test-label: slow
# test-timeout: 400
"""What `pawl repair` says and leaves, beside an account of what was there.

    test_repair_model.py [--all] [--log NAME] [--damage ITEM,ITEM] [--seed S] [--pairs N]

A log with every kind of frame and run, in three segments, is written byte by byte. Then frames of
it, and copies of segment headers, are damaged, each alone and in pairs. The account reads the log
*before* the damage, and asks of each frame only whether it is damaged: what the others say must be
true of the repaired log, and nothing else. It knows nothing of LOST frames, counts and bounds.

  - `repair` ends with 1 if something that mattered was in a damaged frame, else with 0;
  - it counts the lost records, or says that it can't;
  - each record whose frames are whole is read at its offset, under its stream's name, or under
    lost-ID where no frame has the name any more; no other record is read;
  - positions and sequences are those of the last frame that says something of them;
  - verify and audit call the log well, and audit names a loss;
  - no id is used again; another repair changes nothing.

A log whose only segment has lost both copies of its header is left as it is: nothing says any more
which log it was."""

import argparse
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from pawl_writer import Writer, rec  # noqa: E402

SIZE = 512 << 10
BLOCK = 4096
COMMIT, SPILL, WITNESS, OPEN, CLOSE, CHECKPOINT, SEAL = range(1, 8)
KINDS = ["", "COMMIT", "SPILL", "WITNESS", "OPEN", "CLOSE", "CHECKPOINT", "SEAL"]
pawl = os.environ.get("PAWL_COMMAND", "build/pawl")


# ---- logs


def segment_of_everything(w, n, names):
    """Frames of each kind, with runs of each type."""

    def commit(fill):
        t = w.txn()
        fill(t)
        t.commit()

    s, p, c = names["stream"], names["producer"], names["processor"]
    commit(lambda t: t.stream("new%d" % n, 2))
    commit(lambda t: t.producer("from%d" % n))
    commit(lambda t: t.processor("by%d" % n))
    for name in ("new%d" % n, s):
        for partition in range(2):
            commit(
                lambda t: t.records(
                    name,
                    partition,
                    [rec(b"%s/%d %d.%d" % (name.encode(), partition, n, i)) for i in range(3)],
                )
            )
    commit(lambda t: t.sequences("from%d" % n, 0, epoch=1))

    def with_sequence(t):
        t.records(s, 0, [rec(b"sequence %d" % n)])
        t.sequences(p, 1)

    commit(with_sequence)
    commit(lambda t: (t.records("new%d" % n, 0, [rec(b"first")]), t.sequences("from%d" % n, 1)))
    commit(lambda t: t.position(c, s, 0, 2 * n + 1))
    commit(lambda t: t.position("by%d" % n, "new%d" % n, 0, 1))
    commit(lambda t: t.position("by%d" % n, "new%d" % n, 0, 2))
    commit(lambda t: t.settings(n << 30, 0))
    commit(lambda t: t.drop_consumed(n % 2))
    commit(lambda t: t.disk_cap((n + 1) << 30))
    w.witness()
    # a transaction with an early part, and one that was abandoned
    refs = w.spill([(s, 1, [rec(b"spilled %d.%d" % (n, i)) for i in range(4)])])
    w.spill([(s, 1, [rec(b"abandoned")])])

    def with_spill(t):
        for ref in refs:
            t.spilled(ref)
        t.records(s, 1, [rec(b"after the spill")])

    commit(with_spill)
    commit(lambda t: t.sink(c, "batch%d" % n))
    if n % 2 == 0:
        commit(lambda t: t.sink(c, "batch%d" % n, finished=True))

    def with_origin(t):
        t.records(s, 0, [rec(b"line")])
        t.origin(p, s, b"file %d" % n, 0, 5, places=[(0, 1)], kind=1, flags=1, step=1)

    commit(with_origin)
    if n > 0:
        commit(lambda t: t.forget("by%d" % (n - 1)))
        commit(lambda t: t.delete("new%d" % (n - 1)))
    with w.group():  # frames that share a block
        for i in range(3):
            commit(lambda t: t.records(s, 0, [rec(b"group %d.%d" % (n, i))]))
    w.close()
    w.reopen()
    commit(lambda t: t.records(s, 0, [rec(b"last of %d" % n)]))


def build(drop=0, segments=3, clean=True):
    w = Writer(
        bytes(range(16)),
        1_700_000_000_000_000_000,
        segment_size=SIZE,
        features=(0, 1, 0),
        keys=[bytes([n] * 32) for n in (1, 2, 3)],
    )
    t = w.txn()
    t.stream("s", 2)
    t.commit()
    t = w.txn()
    t.producer("p")
    t.commit()
    t = w.txn()
    t.processor("c")
    t.commit()
    t = w.txn()
    t.sequences("p", 0, epoch=1)
    t.commit()
    for n in range(segments + drop):
        segment_of_everything(w, n, {"stream": "s", "producer": "p", "processor": "c"})
        if n < segments + drop - 1:
            w.turn_key(bytes([n + 4] * 32))  # a rebuilt header must find the segment's own
            w.seal()
    if clean:
        w.close()
    else:
        w.witness()
    for n in range(drop):
        w.drop_segment(n)
    return w


LOGS = {
    "whole": lambda: build(),
    "after-retention": lambda: build(drop=1),
    "one-segment": lambda: build(segments=1),
    "not-closed": lambda: build(segments=2, clean=False),
}


# ---- the account: what the frames say


def runs_of(data, at):
    count = struct.unpack_from("<H", data, at + 6)[0]
    body = at + 80 + 32 * count
    for i in range(count):
        row = struct.unpack_from("<HHIIIQII", data, at + 80 + 32 * i)
        yield row[:6], data[body + row[6] : body + row[6] + row[7]]


def frames_of(segment, data):
    """(LSN, kind, length, runs) of each frame of a segment without damage."""
    at = 8192
    while at < SIZE:
        if data[at : at + 4] != b"PWLF":
            at = (at + BLOCK - 1) // BLOCK * BLOCK
            if at >= SIZE or data[at : at + 4] != b"PWLF":
                return
        kind = data[at + 4]
        (runs,) = struct.unpack_from("<H", data, at + 6)
        (body,) = struct.unpack_from("<I", data, at + 64)
        length = (80 + 32 * runs + body + 7) // 8 * 8
        yield segment * SIZE + at, kind, length, list(runs_of(data, at))
        if kind == SEAL:
            return
        at += length


def records_in(run, data):
    at, out = 0, []
    for _ in range(run[4]):
        value_len, key_len, headers_len = struct.unpack_from("<IHH", data, at)
        begin = at + 16 + key_len + headers_len
        out.append(data[begin : begin + value_len])
        at = begin + value_len
    return out


def entries(run, data, named):
    """Entries with a name: (fields, name), by their layout."""
    at = 0
    layout, size, length_at = named
    for _ in range(run[4]):
        fields = struct.unpack_from(layout, data, at)
        n = fields[length_at]
        yield fields, data[at + size : at + size + n].decode()
        at += (size + n + 7) // 8 * 8


CATALOG = ("<HHIQQ", 24, 1)
STREAMS = ("<IIII", 16, 2)
PRODUCERS = ("<IIQIIQII32s", 72, 7)
PROCESSORS = ("<II", 8, 1)
SINKS = ("<IHH", 8, 2)


class Account:
    """What is true of the log if the frames at the LSNs in `bad` say nothing."""

    def __init__(self, frames, first_segment, bad, headers_gone):
        self.streams = {}  # id -> [name or None, {partition: {offset: value}}]
        self.producers, self.processors = {}, {}  # id -> name or None
        self.sequence, self.position = {}, {}
        self.lost_records = 0
        self.matters = []  # what the damaged frames said
        self.used = {"stream": 0, "producer": 0, "processor": 0}  # highest ids ever
        spills = {}
        deleted = set()
        self.deleted = deleted
        for lsn, kind, _, runs in frames:
            if kind == SPILL:
                spills[lsn] = (runs, lsn in bad)
        for lsn, kind, _, runs in frames:
            gone = lsn in bad
            if kind == CHECKPOINT and not gone:
                self.checkpoint(runs, lsn // SIZE == first_segment)
            if kind != COMMIT:
                if kind == CHECKPOINT:
                    self.remember_ids(runs)
                    if gone and lsn // SIZE == first_segment and first_segment > 0:
                        self.matters.append("the oldest checkpoint")
                continue
            order = sorted(runs, key=lambda r: r[0][0] != 6)  # CATALOG runs come first
            for run, data in order:
                self.run(run, data, gone, spills)

    # -- names

    def remember_ids(self, runs):
        for run, data in runs:
            if run[0] == 0x8048:
                ids = struct.unpack_from("<III", data)
                for kind, n in zip(("stream", "producer", "processor"), ids):
                    self.used[kind] = max(self.used[kind], n - 1)

    def checkpoint(self, runs, first):
        for run, data in runs:
            if run[0] == 64:
                for (ident, partitions, n, _), name in entries(run, data, STREAMS):
                    if n != 0:
                        self.stream(ident)[0] = name
            elif run[0] == 65 and first:
                pass
            elif run[0] == 66:
                for fields, name in entries(run, data, PRODUCERS):
                    self.producers[fields[0]] = name
                    self.sequence[fields[0]] = fields[2]
            elif run[0] == 67:
                for fields, name in entries(run, data, PROCESSORS):
                    self.processors[fields[0]] = name
            elif run[0] == 68:
                for at in range(0, len(data), 24):
                    a, b, c, _, position = struct.unpack_from("<IIIIQ", data, at)
                    self.position[a, b, c] = position
        # what is not in it is gone
        kept = {kind: set() for kind in (64, 66, 67)}
        for run, data in runs:
            if run[0] in kept:
                layout = {64: STREAMS, 66: PRODUCERS, 67: PROCESSORS}[run[0]]
                kept[run[0]] |= {
                    f[0] for f, name in entries(run, data, layout) if run[0] != 64 or name != ""
                }
        for table, ident in ((self.streams, 64), (self.producers, 66), (self.processors, 67)):
            for key in [k for k in table if k not in kept[ident]]:
                self.end(table, key)

    def stream(self, ident):
        return self.streams.setdefault(ident, [None, {}])

    def end(self, table, ident):
        table.pop(ident, None)
        if table is self.streams:
            self.position = {k: v for k, v in self.position.items() if k[1] != ident}
        elif table is self.processors:
            self.position = {k: v for k, v in self.position.items() if k[0] != ident}

    # -- runs

    def run(self, run, data, gone, spills):
        kind, _, stream, partition, count, base = run
        if kind == 1:
            values = records_in(run, data)
            if gone:
                self.lost_records += count
                self.matters.append("%d records" % count)
            else:
                self.put(stream, partition, base, values)
        elif kind == 2:
            lsn, _, index, _ = struct.unpack_from("<QQII", data)
            there, bad = spills[lsn]
            if gone or bad:
                self.lost_records += count
                self.matters.append("%d spilled records" % count)
                if not gone:
                    self.stream(stream)
            else:
                self.put(stream, partition, base, records_in(*there[index]))
        elif kind == 3:
            for at in range(0, len(data), 32):
                a, b, c, _, _, to = struct.unpack_from("<IIIIQQ", data, at)
                if gone:
                    self.matters.append("a position")
                else:
                    self.processors.setdefault(a, None)
                    self.stream(b)
                    self.position[a, b, c] = to
        elif kind == 4:
            for at in range(0, len(data), 64):
                producer, _, _, last = struct.unpack_from("<IIQQ", data, at)
                if gone:
                    self.matters.append("a sequence")
                else:
                    self.producers.setdefault(producer, None)
                    self.sequence[producer] = last
        elif kind == 6:
            for (op, _, ident, _, _), name in entries(run, data, CATALOG):
                self.change(op, ident, name, gone)
        elif kind == 7:
            for (processor, op, _), _ in entries(run, data, SINKS):
                if gone:
                    self.matters.append("a decision")
                elif op == 1:
                    self.processors.setdefault(processor, None)

    def change(self, op, ident, name, gone):
        kind = {1: "stream", 2: "producer", 3: "processor"}.get(op)
        if kind is not None:
            self.used[kind] = max(self.used[kind], ident)
        if gone:
            self.matters.append("a change")
            return
        if op == 1:
            self.stream(ident)[0] = name
        elif op == 2:
            self.producers[ident] = name
            self.sequence.setdefault(ident, 0)
        elif op == 3:
            self.processors[ident] = name
        elif op == 4:
            self.end(self.processors, ident)
        elif op == 8:
            self.end(self.streams, ident)
            self.deleted.add(ident)

    def put(self, stream, partition, base, values):
        place = self.stream(stream)[1].setdefault(partition, {})
        for i, value in enumerate(values):
            place[base + i] = value.decode()


# ---- the tool


class Wrong(Exception):
    pass


def expect(condition, what):
    if not condition:
        raise Wrong(what)


def run(*args):
    return subprocess.run([pawl, *args], capture_output=True, text=True)


def digest(directory):
    h = hashlib.sha256()
    for name in sorted(os.listdir(directory)):
        if name.endswith(".seg"):
            h.update(name.encode())
            with open(os.path.join(directory, name), "rb") as f:
                h.update(f.read())
    return h.hexdigest()


def damage(directory, item, how):
    """Spoils a frame (LSN, kind, length) or copies of a header ("header", segment, copies)."""
    if item[0] == "header":
        _, segment, copies = item
        with open(os.path.join(directory, "%016x.seg" % segment), "r+b") as f:
            for copy in copies:
                f.seek(copy * BLOCK + 40)
                f.write(b"\xff" * 8)
        return
    lsn, _, length = item
    with open(os.path.join(directory, "%016x.seg" % (lsn // SIZE)), "r+b") as f:
        at = lsn % SIZE
        if how == "header":
            f.seek(at + 12)
            f.write(b"\xa5" * 8)
        elif how == "body" and length > 80:
            f.seek(at + 80 + (length - 81) // 2)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 0x10]))
        else:
            f.seek(at)
            f.write(bytes(length))


def name_of(ident, name):
    return name if name is not None else "lost-%d" % ident


def check_records(directory, account, streams):
    for ident, (name, partitions) in account.streams.items():
        name = name_of(ident, name)
        if name not in streams:
            expect(not any(partitions.values()), "stream %s (%d) is gone" % (name, ident))
            continue
        expect(streams[name]["id"] == ident, "%s has id %d" % (name, streams[name]["id"]))
        r = run("cat", directory, name, "--format", "json")
        got = {}
        for line in r.stdout.split("\n")[:-1]:
            row = json.loads(line)
            got.setdefault(row["partition"], {})[row["offset"]] = row["value"]
        want = {p: rows for p, rows in partitions.items() if rows}
        if got != want:
            raise Wrong(
                "%s: read %s instead of %s (cat: %d %s)"
                % (name, differences(got, want), differences(want, got), r.returncode, r.stderr)
            )
    names = {name_of(i, s[0]) for i, s in account.streams.items()}
    for name in set(streams) - names:
        raise Wrong("stream %s is there, which no frame has" % name)


def differences(a, b):
    return {
        p: sorted(set(rows.items()) - set(b.get(p, {}).items()))
        for p, rows in a.items()
        if rows != b.get(p)
    }


def check(directory, account, repaired, headers_only):
    said = repaired.stdout + repaired.stderr
    matters = bool(account.matters)
    expect(repaired.returncode in (0, 1), "repair ended with %d: %s" % (repaired.returncode, said))
    expect((repaired.returncode == 1) == matters, "repair ended with %d, and lost: %s"
           % (repaired.returncode, account.matters))  # fmt: skip
    found = re.search(r"(\d+) records? lost", said)
    lost = int(found.group(1)) if found else 0 if "nothing lost" in said else None
    unknown = re.search(r"unknown|at least|at most|can't be counted", said) is not None
    expect(
        lost == account.lost_records or (lost is None or lost < account.lost_records) and unknown,
        "repair says %s lost, %d were" % (lost, account.lost_records),
    )
    before = digest(directory)
    for command in ("verify", "audit"):
        r = run(command, directory)
        expect(r.returncode == 0, "%s ended with %d: %s" % (command, r.returncode, r.stdout))
        if command == "audit" and matters:
            expect(re.search(r"lost|damage", r.stdout), "audit says nothing of a loss: " + r.stdout)
    r = run("status", directory, "--json")
    expect(r.returncode == 0, "status: " + r.stderr)
    status = json.loads(r.stdout)
    streams = {s["name"]: s for s in status["streams"]}
    check_records(directory, account, streams)
    producers = {p["name"]: p["sequence"] for p in status["producers"]}
    for ident, name in account.producers.items():
        name = name_of(ident, name)
        expect(name in producers, "producer %s (%d) is gone" % (name, ident))
        expect(producers[name] == account.sequence.get(ident, 0), "producer %s stands at %d, not %d"
               % (name, producers[name], account.sequence.get(ident, 0)))  # fmt: skip
    positions = {}
    for p in status["positions"]:
        positions[p["processor"], p["stream"], p["partition"]] = p["offset"]
    want = {}
    for (a, b, c), to in account.position.items():
        if a in account.processors and b in account.streams:
            key = name_of(a, account.processors[a]), name_of(b, account.streams[b][0]), c
            want[key] = to
    expect(positions == want, "positions are %s, not %s" % (positions, want))
    again = run("repair", directory)
    expect(again.returncode == 0, "a second repair: %d %s" % (again.returncode, again.stdout))
    # (status may have ended an incarnation's tail; the frames are those of before)
    expect(digest(directory) == before, "a second repair changed something")
    r = run("stream", "create", directory, "made-after")
    expect(r.returncode == 0, "nothing can be made: " + r.stderr)
    status = json.loads(run("status", directory, "--json").stdout)
    ident = [s["id"] for s in status["streams"] if s["name"] == "made-after"]
    expect(ident and ident[0] > account.used["stream"], "the id %s was used again" % ident)
    for command in ("verify", "audit"):
        r = run(command, directory)
        expect(r.returncode == 0, "%s later: %s" % (command, r.stdout + r.stderr))


def describe(item):
    if item[0] == "header":
        copies = "both copies" if len(item[2]) == 2 else "copy %d" % item[2][0]
        return "segment %d's header (%s)" % (item[1], copies)
    return "%s at %d (segment %d)" % (KINDS[item[1]], item[0], item[0] // SIZE)


def try_one(original, frames, first_segment, damaged, how, top):
    directory = os.path.join(top, "log")
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(original, directory)
    bad = set()
    headers = [d for d in damaged if d[0] == "header"]
    for item in damaged:
        damage(directory, item, how)
        if item[0] != "header":
            bad.add(item[0])
    account = Account(frames, first_segment, bad, headers)
    looked = run("verify", directory)
    before = digest(directory)
    repaired = run("repair", directory)
    if frames[0][0] // SIZE == frames[-1][0] // SIZE and any(len(h[2]) == 2 for h in headers):
        # nothing is left that says which log it is
        if repaired.returncode == 0 or digest(directory) != before:
            print("FAILED: the only header is lost, and repair makes a log of it")
            return 1
        return 0
    try:
        expect(looked.returncode == 1, "verify finds nothing: %s" % looked.stdout)
        check(directory, account, repaired, len(headers) == len(damaged))
    except Wrong as wrong:
        print("FAILED: %s, by %s: %s" % (" and ".join(map(describe, damaged)), how, wrong))
        print("    " + (repaired.stdout + repaired.stderr).strip().replace("\n", "\n    "))
        return 1
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--log")
    parser.add_argument("--only", help="numbers of items, joined by commas")
    parser.add_argument("--how", choices=("header", "body", "zeros"))
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--singles", type=int, default=15)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("PAWL_TORTURE_SEED", "1")))
    options = parser.parse_args()
    random.seed(options.seed)
    top = tempfile.mkdtemp(prefix="pawl-repair-")
    bad = 0
    try:
        for name, make in LOGS.items():
            if options.log not in (None, name):
                continue
            original = os.path.join(top, "original")
            shutil.rmtree(original, ignore_errors=True)
            make().save(original)
            frames, segments = [], sorted(int(n[:16], 16) for n in os.listdir(original))
            for segment in segments:
                with open(os.path.join(original, "%016x.seg" % segment), "rb") as f:
                    frames += frames_of(segment, f.read())
            items = [f[:3] for f in frames]
            # the last frame may be a torn tail: nothing knew it to be durable
            items = items[:-1]
            items += [("header", s, c) for s in segments for c in ((0,), (1,), (0, 1))]
            hows = ["header", "body", "zeros"]
            singles = [((i,), h) for i in range(len(items)) for h in hows]
            pairs = [(p, random.choice(hows)) for p in itertools.combinations(range(len(items)), 2)]
            if not options.all:
                singles = random.sample(singles, min(options.singles, len(singles)))
                pairs = random.sample(pairs, min(options.pairs, len(pairs)))
            cases = singles + pairs
            if options.only:
                which = tuple(int(i) for i in options.only.split(","))
                cases = [(which, h) for h in hows if options.how in (None, h)]
            wrong = 0
            for which, how in cases:
                w = try_one(original, frames, segments[0], [items[i] for i in which], how, top)
                if w:
                    items_of_it = ",".join(map(str, which))
                    print("    (--log %s --only %s --how %s)" % (name, items_of_it, how))
                wrong += w
            print("%s: %d frames in %d segments, %d cases, %d wrong"
                  % (name, len(frames), len(segments), len(cases), wrong), flush=True)  # fmt: skip
            bad += wrong
    finally:
        shutil.rmtree(top, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
